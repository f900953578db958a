"""One miner's view of its nodes: a client per node over REST, and the order in which they are tried.

Owns what a node's answer means for a miner. When to ask and what follows is `node.miner.mining`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from consensus.dataset import decode_dataset_spec
from consensus.errors import Code, ConsensusError, Outcome
from consensus.params import ChainSpec, decode_params
from node.miner.work import Work, parse_work

LONG_POLL_SECONDS = 60.0
"""Longest that a node holds a long-poll."""
_CONNECT_TIMEOUT_SECONDS = 5.0
_ANSWER_TIMEOUT_SECONDS = 30.0
_VERDICT_TIMEOUT_SECONDS = 120.0
"""A node may have other blocks to evaluate before this one."""
_RETRY_FIRST_SECONDS = 15.0
_LONGEST_PAUSE_SECONDS = 60.0
"""For how long a node is left alone at most, whatever it asks for."""
_VERDICTS = {code.text for code in Code if code.outcome in (Outcome.INVALID, Outcome.BAD_DELIVERY)}

Answer = TypeVar("Answer")


class NodeLost(Exception):
    """A node does not answer, or answers that it cannot serve now; another or a later one may."""

    def __init__(self, url: str, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class Refused(Exception):
    """A node refuses what was sent."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail

    @property
    def is_verdict(self) -> bool:
        """Whether what was sent was judged; else it may be taken later."""
        return self.code in _VERDICTS


class NotJudged(NodeLost):
    """A node does not judge what was sent, with a code that tells why; another or a later one may."""

    def __init__(self, url: str, refusal: Refused) -> None:
        super().__init__(url, str(refusal))
        self.code = refusal.code
        self.detail = refusal.detail


class BadTemplate(NodeLost):
    """A node offers nothing that could be mined on the pinned chain."""


class NodeClient:
    """REST of one node, as far as a miner needs it."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        timeout = httpx.Timeout(_ANSWER_TIMEOUT_SECONDS, connect=_CONNECT_TIMEOUT_SECONDS)
        self._http = httpx.AsyncClient(
            base_url=self.url, transport=transport, timeout=timeout, trust_env=False
        )

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()

    async def fetch_spec(self) -> ChainSpec:
        """The chain's parameters, checked. Raises NodeLost, or Refused for parameters that break a rule."""
        answer = await self._request("GET", "/v1/chain/params")
        try:
            params = decode_params(bytes.fromhex(answer["params_hex"]))
            return ChainSpec.build(params, decode_dataset_spec(bytes.fromhex(answer["dataset_hex"])))
        except ConsensusError as error:
            raise Refused(str(error.code), error.detail) from error
        except (KeyError, TypeError, ValueError) as error:
            raise NodeLost(self.url, f"its parameters cannot be read: {error!r}") from error

    async def fetch_template(self, address: str, work_id: str | None = None) -> dict[str, Any]:
        """A template for an address; with `work_id` once there is newer work. Raises NodeLost."""
        query = {"address": address}
        if work_id is not None:
            query["longpoll"] = work_id
        seconds = _ANSWER_TIMEOUT_SECONDS + (LONG_POLL_SECONDS if work_id is not None else 0.0)
        return await self._request("GET", "/v1/mining/template", params=query, seconds=seconds)

    async def submit(self, raw: bytes, is_dry_run: bool) -> str:
        """What a node made of a block: active, side, duplicate, or valid for a dry run.

        Raises NodeLost or Refused.
        """
        try:
            answer = await self._request(
                "POST",
                "/v1/mining/blocks",
                params={"dry_run": "1"} if is_dry_run else {},
                content=raw,
                seconds=_VERDICT_TIMEOUT_SECONDS,
            )
        except Refused as error:
            if error.code != Code.DUPLICATE.text:
                raise
            # The node verified it at an earlier try, whose answer was lost, or had it from another node.
            return error.code
        return str(answer.get("status", "valid"))

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        content: bytes | None = None,
        seconds: float = _ANSWER_TIMEOUT_SECONDS,
    ) -> dict[str, Any]:
        headers = {"content-type": "application/octet-stream"} if content is not None else {}
        timeout = httpx.Timeout(seconds, connect=_CONNECT_TIMEOUT_SECONDS)
        try:
            response = await self._http.request(
                method, path, params=params, content=content, headers=headers, timeout=timeout
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NodeLost(self.url, str(error) or type(error).__name__) from error
        return self._read_answer(response)

    def _read_answer(self, response: httpx.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body = None
        if response.is_success and isinstance(body, dict):
            return body
        problem = body if isinstance(body, dict) else {}
        code = str(problem.get("code", f"status {response.status_code}"))
        detail = str(problem.get("detail", ""))
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
            raise NodeLost(
                self.url, f"{code} {detail}".strip(), _read_seconds(response.headers.get("retry-after"))
            )
        if response.is_success:
            raise NodeLost(self.url, "an answer that is no JSON object")
        raise Refused(code, detail)


class NodePool:
    """The miner's nodes: the first that serves the pinned chain is used, the others stand by."""

    def __init__(
        self,
        urls: Sequence[str],
        clock: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not urls:
            raise ValueError("a miner needs at least one node")
        self.clients = tuple(NodeClient(url, transport) for url in urls)
        self.spec: ChainSpec | None = None
        self._clock = clock
        self._current = 0
        self._left_first_at = 0.0
        self._checked: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self.clients:
            await client.close()

    @property
    def current_url(self) -> str:
        """The node in use."""
        return self.clients[self._current].url

    async def connect(self) -> ChainSpec:
        """The chain to work on: that of the first node that answers. Raises NodeLost or Refused."""
        return await self._ask(self._require_same_chain)

    async def fetch_work(self, address: str, miner: bytes) -> Work:
        """Fresh work from the first node that has some. Raises NodeLost."""
        self._return_to_first()
        return await self._ask(lambda client: self._fetch_from(client, address, miner))

    async def wait_for_change(self, address: str, miner: bytes, work: Work) -> Work:
        """Newer work than `work`, as soon as its node has some. Raises NodeLost."""
        client = self.clients[self._current]
        try:
            return await self._fetch_from(client, address, miner, work.work_id)
        except NodeLost:
            self._checked.discard(client.url)
            raise

    async def submit(self, raw: bytes, is_dry_run: bool) -> str:
        """The verdict of the first node that gives one. Raises NodeLost or Refused."""

        async def submit(client: NodeClient) -> str:
            await self._require_same_chain(client)
            try:
                return await client.submit(raw, is_dry_run)
            except Refused as error:
                if error.is_verdict:
                    raise
                raise NotJudged(client.url, error) from error

        return await self._ask(submit)

    async def _fetch_from(
        self, client: NodeClient, address: str, miner: bytes, work_id: str | None = None
    ) -> Work:
        try:
            spec = await self._require_same_chain(client)
            return parse_work(spec, miner, await client.fetch_template(address, work_id))
        except (Refused, ValueError) as error:
            raise BadTemplate(client.url, str(error)) from error

    async def _ask(self, ask: Callable[[NodeClient], Awaitable[Answer]]) -> Answer:
        """The first answer, from the node in use on; the one that gives it is in use from then on."""
        lost: NodeLost | None = None
        for step in range(len(self.clients)):
            index = (self._current + step) % len(self.clients)
            try:
                answer = await ask(self.clients[index])
            except NodeLost as error:
                self._checked.discard(error.url)
                lost = lost or error
                continue
            self._use(index)
            return answer
        assert lost is not None
        raise lost

    async def _require_same_chain(self, client: NodeClient) -> ChainSpec:
        """A node that comes back may be another one, so each is checked again after it was lost."""
        if self.spec is not None and client.url in self._checked:
            return self.spec
        try:
            spec = await client.fetch_spec()
        except Refused as error:
            if self.spec is None:
                raise
            raise NodeLost(client.url, str(error)) from error
        if self.spec is None:
            self.spec = spec
        if spec.chain_id != self.spec.chain_id:
            raise NodeLost(client.url, f"it serves another chain, {spec.chain_id.hex()}")
        self._checked.add(client.url)
        return self.spec

    def _use(self, index: int) -> None:
        if index != self._current and self._current == 0:
            self._left_first_at = self._clock()
        self._current = index

    def _return_to_first(self) -> None:
        """The first node is the miner's own choice; the others only bridge its absence."""
        if self._current and self._clock() - self._left_first_at >= _RETRY_FIRST_SECONDS:
            self._current = 0


def _read_seconds(text: str | None) -> float | None:
    return min(float(text), _LONGEST_PAUSE_SECONDS) if text is not None and text.isdecimal() else None
