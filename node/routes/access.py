"""What every route needs: the runtime behind the application, list parameters, places for those who wait."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, cast

from fastapi import Depends, Query, Request

from node.p2p.gate import get_client_host
from node.p2p.urls import get_subnet, is_loopback
from node.problems import ApiCode, ApiError
from node.runtime import NetworkFacts, NodeRuntime

RETRY_AFTER_SECONDS = 1
DATASET_RETRY_SECONDS = 5


class Places:
    """So many requests of one kind are served at once; the next one is told to come back.

    One address takes a quarter of them at most, so that it cannot shut out all others; this machine may have
    them all.
    """

    def __init__(self, kind: str, count: int) -> None:
        self._kind = kind
        self._count = count
        self._held: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """Places that are taken."""
        return self._held.total()

    @contextmanager
    def hold(self, host: str) -> Iterator[None]:
        """A place for the time of a request. Raises ApiError(TOO_BUSY)."""
        share = self._count if is_loopback(host) else max(1, self._count // 4)
        subnet = get_subnet(host)
        if self.held >= self._count or self._held[subnet] >= share:
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            raise ApiError(ApiCode.TOO_BUSY, f"too many {self._kind} at once", headers)
        self._held[subnet] += 1
        try:
            yield
        finally:
            self._held[subnet] -= 1
            # Only who holds a place is remembered.
            self._held += Counter()


# Coroutines, because FastAPI would send plain functions to its threads.
async def get_runtime(request: Request) -> NodeRuntime:
    """The node that this application serves."""
    return cast(NodeRuntime, request.app.state.runtime)


async def hold_stream(request: Request) -> AsyncIterator[None]:
    """A place for an event stream, until it ends."""
    with cast(Places, request.app.state.stream_places).hold(get_client_host(request)):
        yield


async def hold_long_poll(request: Request, longpoll: str | None = None) -> AsyncIterator[None]:
    """A place for a long-poll, where the request is one."""
    if longpoll is None:
        yield
        return
    with cast(Places, request.app.state.long_poll_places).hold(get_client_host(request)):
        yield


async def hold_submission(request: Request) -> AsyncIterator[None]:
    """A place for a submitted body, whose bytes are in memory until it is judged."""
    with cast(Places, request.app.state.submission_places).hold(get_client_host(request)):
        yield


def hold_network(request: Request) -> AbstractContextManager[None]:
    """A place for rebuilding a network, which computes for as long as some hundred other requests.

    No dependency: those last until the answer is sent, and its reader may take as long as he likes.
    """
    return cast(Places, request.app.state.network_places).hold(get_client_host(request))


async def get_network_facts(request: Request) -> NetworkFacts:
    """What the peer network says of itself; asked on the event loop, where it lives."""
    return (await get_runtime(request)).get_network_facts()


def require_evaluation(runtime: NodeRuntime) -> None:
    """Raises ApiError(SHUTTING_DOWN), (DATASET_MISSING) or (CANNOT_EVALUATE) where no block can be judged."""
    if runtime.events.is_closed:
        raise ApiError(ApiCode.SHUTTING_DOWN)
    if not runtime.can_evaluate:
        code = ApiCode.CANNOT_EVALUATE if runtime.dataset.is_complete else ApiCode.DATASET_MISSING
        raise ApiError(code, headers={"Retry-After": str(DATASET_RETRY_SECONDS)})


Runtime = Annotated[NodeRuntime, Depends(get_runtime)]
Network = Annotated[NetworkFacts, Depends(get_network_facts)]
Limit = Annotated[int, Query(ge=1, le=500, description="most items of a page")]
Cursor = Annotated[str | None, Query(max_length=64, description="`next` of the page before")]


def encode_cursor(*numbers: int) -> str:
    """An opaque cursor."""
    return urlsafe_b64encode(",".join(map(str, numbers)).encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, count: int) -> tuple[int, ...] | None:
    """The `count` numbers in a cursor, None where there is none. Raises ApiError(BAD_CURSOR)."""
    if cursor is None:
        return None
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        numbers = tuple(int(part) for part in text.split(",") if len(part) <= 18)
    except (binascii.Error, ValueError):
        raise ApiError(ApiCode.BAD_CURSOR, cursor) from None
    if len(numbers) != count or encode_cursor(*numbers) != cursor or min(numbers) < 0:
        raise ApiError(ApiCode.BAD_CURSOR, cursor)
    return numbers
