"""Asking one peer: requests, their limits, and what its answers say about it.

Whom to ask, and what becomes of a peer that refuses or lies, is node.p2p.connections'.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from consensus.block import Header
from consensus.encoding import Hash32
from consensus.errors import BadDelivery
from consensus.transaction import SignedTransfer
from node.p2p.errors import PeerCode, PeerLied, PeerRefused, PeerUnreachable
from node.p2p.limits import MAX_HEADERS, LimitTable, Message
from node.p2p.wire import (
    NODE_HEADER,
    PREFIX,
    PROTOCOL,
    ROUTES,
    Addresses,
    Announcement,
    Hello,
    Locator,
    decode_headers,
    decode_transfers,
    encode_transfers,
)

TRIES = 4
"""How often a request is repeated that met a busy peer or a forgotten handshake."""
MAX_RETRY_SECONDS = 5.0
"""The longest wait that a busy peer may ask for."""
CONNECT_SECONDS = 5.0
"""The longest time until a connection stands."""
MAX_PROBLEM_BYTES = 4_096
"""Length of a refusal's body; of a longer one, such as a gateway's page, nothing is read as a code."""

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    retry_after_seconds: float


def build_http(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    """The HTTP client that all peers are asked with."""
    # Nothing of the environment's proxies, and no pooled timeout: every request has its own. Cookies would
    # pile up in memory for as long as peers send them.
    return httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


class PeerClient:
    """The requests that this node makes of one peer.

    Every one raises PeerUnreachable, PeerRefused, and PeerLied where the answer cannot be true.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        limits: LimitTable,
        build_hello: Callable[[], Hello],
        is_pinned: bool = True,
    ) -> None:
        """With `is_pinned`, every answer has to come from the address of the first."""
        self.remote_host: str | None = None
        """Address that its answers come from; None before the first."""
        self._is_pinned = is_pinned
        self._http = http
        self._url = url
        self._limits = limits
        self._build_hello = build_hello

    async def shake_hands(self) -> Hello:
        """Introduce this node; the peer's answer speaks of the same protocol and chain."""
        mine = self._build_hello()
        theirs = _parse(Hello, await self._ask(Message.HANDSHAKE, content=_to_json(mine)))
        if theirs.protocol != PROTOCOL:
            raise PeerRefused(PeerCode.OTHER_PROTOCOL.status, str(PeerCode.OTHER_PROTOCOL))
        if theirs.chain_id != mine.chain_id:
            raise PeerRefused(PeerCode.OTHER_CHAIN.status, str(PeerCode.OTHER_CHAIN))
        return theirs

    async def get_headers(self, locator: Sequence[Hash32]) -> list[Header]:
        """The peer's active headers above the highest block of the locator that it knows."""
        question = Locator(locator=[block_id.hex() for block_id in locator])
        headers = await self._decode(decode_headers, Message.HEADERS, content=_to_json(question))
        if len(headers) > MAX_HEADERS:
            raise PeerLied(str(PeerCode.TOO_LARGE), f"{len(headers)} headers")
        return headers

    async def get_block(self, block_id: Hash32, witness_id: Hash32 | None = None) -> bytes:
        """The bytes of a block, with one certain witness where that matters."""
        query = {} if witness_id is None else {"witness": witness_id.hex()}
        return await self._ask(Message.BLOCK, path={"block_id": block_id.hex()}, params=query)

    async def announce_block(self, block_id: Hash32) -> None:
        """Say that this node has a block."""
        announcement = Announcement(kind="block", id=block_id.hex())
        await self._ask(Message.ANNOUNCE, content=_to_json(announcement))

    async def push_transfers(self, transfers: Sequence[SignedTransfer]) -> None:
        """Hand transfers over."""
        await self._ask(Message.PUSH_TRANSACTIONS, content=encode_transfers(transfers))

    async def get_transfers(self) -> list[SignedTransfer]:
        """The oldest transfers of the peer's mempool."""
        return await self._decode(decode_transfers, Message.GET_TRANSACTIONS)

    async def get_addresses(self) -> list[str]:
        """URLs of nodes that the peer is connected with."""
        return _parse(Addresses, await self._ask(Message.ADDRESSES)).addresses

    async def _decode(
        self, decode: Callable[[bytes], list[Any]], message: Message, content: bytes | None = None
    ) -> list[Any]:
        try:
            return decode(await self._ask(message, content=content))
        except BadDelivery as error:
            raise PeerLied(str(error.code), error.detail) from error

    async def _ask(
        self,
        message: Message,
        content: bytes | None = None,
        path: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> bytes:
        method, template = ROUTES[message]
        request = self._http.build_request(
            method,
            self._url + PREFIX + template.format(**path or {}),
            params=params,
            content=content,
            headers={NODE_HEADER: self._build_hello().node_id, "Accept-Encoding": "identity"},
        )
        for _ in range(TRIES):
            reply = await self._exchange(message, request)
            if reply.status == 429:
                await asyncio.sleep(reply.retry_after_seconds)
            elif reply.status == 401 and message is not Message.HANDSHAKE:
                # The peer restarted, or forgot this node.
                await self.shake_hands()
            else:
                break
        if not 200 <= reply.status < 300:
            raise PeerRefused(reply.status, _read_code(reply.body))
        return reply.body

    async def _exchange(self, message: Message, request: httpx.Request) -> _Reply:
        limits = self._limits[message]
        try:
            async with asyncio.timeout(limits.answer_seconds):
                response = await self._http.send(request, stream=True)
                try:
                    self._note_remote_host(response)
                    body = await _read_reply(response, limits.answer_bytes)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise PeerUnreachable(f"no answer to {message} within {limits.answer_seconds:.0f} s") from error
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, UnicodeError, OSError) as error:
            raise PeerUnreachable(f"{message}: {str(error) or type(error).__name__}") from error
        return _Reply(response.status_code, body, read_retry_after(response))

    def _note_remote_host(self, response: httpx.Response) -> None:
        host = _get_remote_host(response)
        if self._is_pinned and self.remote_host not in (None, host):
            # A name that leads to others by turns would put its lies down to them.
            raise PeerUnreachable(f"it answers from {host}, not from {self.remote_host} any more")
        self.remote_host = host


def _get_remote_host(response: httpx.Response) -> str | None:
    stream = response.extensions.get("network_stream")
    address = None if stream is None else stream.get_extra_info("server_addr")
    # An IPv6 address may carry a scope behind a percent sign.
    return None if address is None else str(address[0]).split("%")[0]


async def _read_reply(response: httpx.Response, answer_bytes: int) -> bytes:
    """The body of an answer or a refusal; nothing of a refusal that is too long. Raises PeerLied."""
    if not response.is_success:
        return await _read(response, MAX_PROBLEM_BYTES) or b""
    body = await _read(response, answer_bytes)
    if body is None:
        raise PeerLied(str(PeerCode.TOO_LARGE), f"an answer of more than {answer_bytes} bytes")
    return body


async def _read(response: httpx.Response, limit_bytes: int) -> bytes | None:
    """The body as it came, never decompressed: a small one could unpack to any size. None: it is longer."""
    parts: list[bytes] = []
    length = 0
    async for part in response.aiter_raw():
        length += len(part)
        if length > limit_bytes:
            return None
        parts.append(part)
    return b"".join(parts)


def _parse(model: type[Answer], body: bytes) -> Answer:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise PeerLied(
            str(PeerCode.UNDECODABLE), f"{model.__name__}: {error.error_count()} errors"
        ) from error


def _read_code(body: bytes) -> str:
    try:
        code = json.loads(body)["code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "no-code"
    return code[:64] if isinstance(code, str) and code.isascii() and code.isprintable() else "no-code"


def read_retry_after(response: httpx.Response) -> float:
    """How many seconds to wait before asking again, whatever a peer wrote there."""
    try:
        wait = float(response.headers.get("Retry-After", "1"))
    except ValueError:
        return 1.0
    if math.isnan(wait):
        # The event loop cannot sleep so long: it fails, and the node with it.
        return 1.0
    return min(max(wait, 0.05), MAX_RETRY_SECONDS)


def _to_json(message: BaseModel) -> bytes:
    return message.model_dump_json().encode()
