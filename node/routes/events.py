"""The event stream: what happened, as it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from node.events import Event, EventBus
from node.problems import describe_problems
from node.routes.access import Runtime, hold_stream
from node.runtime import NodeRuntime, describe_tip

router = APIRouter(prefix="/v1", tags=["events"])


@router.get(
    "/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(hold_stream)],
    responses=describe_problems(429),
)
async def stream_events(
    runtime: Runtime, last_event_id: Annotated[str | None, Header()] = None
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events `tip`, `reorganisation` and `transaction`.

    A new stream begins with the present tip. One that names its Last-Event-ID goes on behind that event;
    where something in between is no longer kept, it begins with `reset` and the present tip: read all anew.
    """
    events = runtime.events
    serial = None if last_event_id is None else events.parse_id(last_event_id)
    if serial is None or events.read_after(serial) is None:
        serial = events.serial
        yield _build_start(runtime, serial, is_reset=last_event_id is not None)
    while not events.is_closed:
        missed = events.read_after(serial)
        if missed is None:
            serial = events.serial
            yield _build_start(runtime, serial, is_reset=True)
            continue
        for event in missed:
            serial = event.serial
            yield _build_event(events, event)
        await events.wait(serial)


def _build_start(runtime: NodeRuntime, serial: int, *, is_reset: bool) -> ServerSentEvent:
    # The serial is read before the tip: an event in between comes twice rather than never.
    kind = "reset" if is_reset else "tip"
    body = describe_tip(runtime.chain.tip)
    return ServerSentEvent(event=kind, id=runtime.events.format_id(serial), data=body)


def _build_event(events: EventBus, event: Event) -> ServerSentEvent:
    return ServerSentEvent(event=event.kind, id=events.format_id(event.serial), data=event.data)
