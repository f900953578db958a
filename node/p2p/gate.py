"""The way in: who may ask, how often, how much at once. What is answered is node.p2p.routes'."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.requests import Request

from node.p2p.errors import PeerCode, Refusal
from node.p2p.limits import BODY_SECONDS, MAX_SESSIONS, LimitTable, Message, MessageLimits
from node.p2p.standing import MonotonicTime, Standing
from node.p2p.urls import get_subnet, is_loopback
from node.p2p.wire import NODE_HEADER, Hello


@dataclass(frozen=True, slots=True)
class Session:
    """A peer that shook hands and may ask."""

    host: str
    """Address that its requests come from."""
    node_id: str
    """Its own id."""
    listen_url: str | None
    """Where it says that it is reached, normalised."""


@dataclass(slots=True)
class _Usage:
    """What one peer has left of one message's allowance."""

    tokens: float
    refilled_at: float
    in_flight: int = 0


@dataclass(slots=True)
class _Allowances:
    """The usage of every peer of every message; the peer that was silent longest is forgotten first."""

    usages: OrderedDict[tuple[str, Message], _Usage] = field(default_factory=OrderedDict)

    def get(self, name: str, message: Message, limits: MessageLimits, now: float) -> _Usage:
        usage = self.usages.setdefault((name, message), _Usage(limits.burst, now))
        self.usages.move_to_end((name, message))
        usage.tokens = min(limits.burst, usage.tokens + (now - usage.refilled_at) * limits.per_second)
        usage.refilled_at = now
        self._forget_oldest()
        return usage

    def _forget_oldest(self) -> None:
        while len(self.usages) > MAX_SESSIONS * len(Message):
            oldest = next(iter(self.usages))
            if self.usages[oldest].in_flight:
                return
            del self.usages[oldest]


class Gate:
    """Lets requests in, or raises Refusal."""

    def __init__(self, limits: LimitTable, standing: Standing, time: MonotonicTime) -> None:
        self._limits = limits
        self._standing = standing
        self._time = time
        self._sessions: OrderedDict[tuple[str, str], Session] = OrderedDict()
        self._allowances = _Allowances()
        self.refusals: Counter[PeerCode] = Counter()

    def open_session(self, host: str, hello: Hello, listen_url: str | None) -> Session:
        """Let a peer ask from now on."""
        session = Session(host, hello.node_id, listen_url)
        self._sessions[host, hello.node_id] = session
        self._sessions.move_to_end((host, hello.node_id))
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def close_session(self, session: Session) -> None:
        """Let a peer ask only after another handshake."""
        self._sessions.pop((session.host, session.node_id), None)

    def check_stranger(self, host: str, url: str | None, node_id: str | None) -> None:
        """Raises Refusal for one who is refused whatever he asks."""
        if self._standing.is_blocked((url, node_id)):
            raise Refusal(PeerCode.PARTITIONED)
        if self._standing.is_barred(host, (url, node_id)):
            raise Refusal(PeerCode.BARRED)

    def get_session(self, request: Request) -> Session:
        """The session that a request belongs to. Raises Refusal."""
        host = get_client_host(request)
        node_id = request.headers.get(NODE_HEADER, "")
        session = self._sessions.get((host, node_id))
        self.check_stranger(host, session.listen_url if session else None, node_id)
        if session is None:
            raise Refusal(PeerCode.HANDSHAKE_REQUIRED)
        self._sessions.move_to_end((host, node_id))
        return session

    @contextmanager
    def admit(self, message: Message, host: str, node_id: str | None) -> Iterator[None]:
        """Count a request for as long as it is answered. Raises Refusal(TOO_MANY_REQUESTS)."""
        limits = self._limits[message]
        # Node ids cost nothing, hosts do; but on one machine all nodes share a host.
        name = node_id if node_id is not None and is_loopback(host) else get_subnet(host)
        usage = self._allowances.get(name, message, limits, self._time())
        if usage.tokens < 1.0 or usage.in_flight >= limits.in_flight:
            wait = max(0.0, 1.0 - usage.tokens) / limits.per_second
            raise Refusal(PeerCode.TOO_MANY_REQUESTS, f"{message} from {name}", max(wait, 0.05))
        usage.tokens -= 1.0
        usage.in_flight += 1
        try:
            yield
        finally:
            usage.in_flight -= 1


def get_client_host(request: Request) -> str:
    """The address that a request comes from."""
    return request.client.host if request.client is not None else "unknown"


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The request's body.

    Raises Refusal(TOO_LARGE) before more than the limit is in memory, Refusal(TOO_SLOW).
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(request, limit_bytes)
    except TimeoutError:
        raise Refusal(PeerCode.TOO_SLOW) from None


async def _read(request: Request, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    length = 0
    async for part in request.stream():
        length += len(part)
        if length > limit_bytes:
            raise Refusal(PeerCode.TOO_LARGE, f"more than {limit_bytes} bytes")
        parts.append(part)
    return b"".join(parts)
