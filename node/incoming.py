"""Connections to the server: how many stand at once, and how long one may take to say what it wants.

Owns how many descriptors are left for the node itself: without one for its database it could not go on. What
a request may cost is the routes'.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from contextlib import suppress
from typing import Any

from fastapi import FastAPI
from uvicorn import Config, Server
from uvicorn.config import LifespanType
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from node.p2p.urls import get_subnet, is_loopback

MAX_FILES = 65_536
"""Descriptors that this process asks the system for."""
RESERVED_FILES = 640
"""Descriptors for all else: the database, peers, dataset sources, workers, connections about to be closed."""
MAX_CONNECTIONS = 4_096
"""Connections at once, however many descriptors there are: each takes memory too."""
MAX_CONNECTIONS_PER_HOST = 256
"""Connections of one address at once, a quarter of all at most; this machine may have them all."""
HEAD_SECONDS = 10.0
"""A request's head is whole by then, counted from the connection or from the answer before."""
FLUSH_SECONDS = 300.0
"""The longest time that a client reads nothing of what waits for it, or not the rest when it is sent home."""
BACKLOG = 64
"""Connections that wait to be accepted; as many are accepted in one go, before any of them can be closed."""


def raise_file_limit() -> None:
    """Let this process have as many descriptors as the system grants it, up to MAX_FILES."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems have a limit below the one that they tell.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def count_places() -> int:
    """How many connections this process has descriptors for, beside those that it needs itself."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    files = MAX_FILES if soft == resource.RLIM_INFINITY else soft
    return max(1, min(MAX_CONNECTIONS, max(files // 4, files - RESERVED_FILES)))


class ConnectionPlaces(ServerState):
    """What the connections of one server share: uvicorn's state, and who holds how many places."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self._share = max(1, min(MAX_CONNECTIONS_PER_HOST, count // 4))
        self._held: Counter[str] = Counter()
        self._held_by_all = 0

    def take(self, host: str) -> bool:
        """Take a place for a connection; False where there is none for its host."""
        subnet = get_subnet(host)
        has_share = is_loopback(host) or self._held[subnet] < self._share
        if self._held_by_all >= self._count or not has_share:
            return False
        self._held_by_all += 1
        self._held[subnet] += 1
        return True

    def give_back(self, host: str) -> None:
        """Leave a place that was taken."""
        subnet = get_subnet(host)
        self._held_by_all -= 1
        self._held[subnet] -= 1
        if not self._held[subnet]:
            # Only who holds a place is remembered.
            del self._held[subnet]


class IncomingProtocol(H11Protocol):
    """uvicorn's connection, closed where it has no place or does not ask in time.

    uvicorn's own timeout runs only between an answer and the next byte: one byte, or none at all before the
    first request, keeps a connection for good.
    """

    def __init__(
        self,
        config: Config,
        server_state: ConnectionPlaces,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._places = server_state
        self._host: str | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or close at once."""
        super().connection_made(transport)
        # Known from the moment it was accepted, even where the client has left already.
        host = transport.get_extra_info("peername")[0]
        if self._places.take(host):
            self._host = host
            self._watch()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; the place is free for others."""
        super().connection_lost(exc)
        self._stop_watching()
        self._note_reader()
        if self._host is not None:
            self._places.give_back(self._host)

    def pause_writing(self) -> None:
        """More waits to be read than is kept for a client; whoever leaves it there is cut off."""
        super().pause_writing()
        self._unread = self.loop.call_later(FLUSH_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        self._note_reader()

    def data_received(self, data: bytes) -> None:
        """Go on; a whole head ends the wait for it."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next head, which may be there already."""
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        # Before the first request there is no cycle, whatever its annotation says.
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._send_home)

    def _send_home(self) -> None:
        self.timeout_keep_alive_handler()
        # Closing waits until all is read that was written, which a client may never do.
        self._deadline = self.loop.call_later(FLUSH_SECONDS, self.transport.abort)

    def _note_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class BoundedServer(Server):
    """uvicorn with as many connections as the process has descriptors for when this is made."""

    def __init__(self, app: FastAPI, graceful_seconds: int, lifespan: LifespanType = "on") -> None:
        super().__init__(
            Config(
                app,
                lifespan=lifespan,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=graceful_seconds,
                http=IncomingProtocol,
                # An upgraded connection would leave the protocol that counts it.
                ws="none",
                backlog=BACKLOG,
            )
        )
        self.server_state = ConnectionPlaces(count_places())
