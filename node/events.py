"""What happened on this node, kept for a while: the one feed behind the event stream and the long-polls.

Owns order, ids and gaps. Who publishes is runtime's business, the wire format that of routes.events.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

EventKind = Literal["tip", "reorganisation", "transaction"]
CAPACITY = 1_024


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    serial: int
    """Its place in the feed, from 1."""
    kind: EventKind
    """What it is."""
    data: dict[str, Any]
    """Its JSON body."""


class EventBus:
    """The feed: written to from any thread, read by any number of coroutines, none of which it waits for."""

    def __init__(self, epoch: str, capacity: int = CAPACITY) -> None:
        """`epoch` tells this feed from that of an earlier process."""
        self.epoch = epoch
        self.capacity = capacity
        self._events: deque[Event] = deque(maxlen=capacity)
        self._serial = 0
        self._is_closed = False
        self._lock = threading.Lock()
        self._sleepers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @property
    def serial(self) -> int:
        """Serial of the latest event, 0 before the first."""
        return self._serial

    @property
    def is_closed(self) -> bool:
        """Whether the node is stopping: readers leave."""
        return self._is_closed

    @property
    def reader_count(self) -> int:
        """How many wait for the next event."""
        return len(self._sleepers)

    def publish(self, kind: EventKind, data: dict[str, Any]) -> None:
        """Append an event and wake every reader."""
        with self._lock:
            self._serial += 1
            self._events.append(Event(self._serial, kind, data))
            self._wake()

    def close(self) -> None:
        """Wake every reader for the last time."""
        with self._lock:
            self._is_closed = True
            self._wake()

    def read_after(self, serial: int) -> list[Event] | None:
        """The events behind a serial in order, or None where some of them are no longer kept."""
        with self._lock:
            oldest = self._serial - len(self._events)
            if not oldest <= serial <= self._serial:
                return None
            return [event for event in self._events if event.serial > serial]

    async def wait(self, serial: int, timeout_seconds: float | None = None) -> None:
        """Return once there is an event behind `serial`, the feed is closed, or the time is over."""
        sleeper = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            if self._serial > serial or self._is_closed:
                return
            self._sleepers.add(sleeper)
        try:
            async with asyncio.timeout(timeout_seconds):
                await sleeper[1].wait()
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._sleepers.discard(sleeper)

    def format_id(self, serial: int) -> str:
        """The id under which a reader comes back."""
        return f"{self.epoch}-{serial}"

    def parse_id(self, text: str) -> int | None:
        """The serial in an id of this feed; None for another feed's or no id at all."""
        epoch, _, serial = text.rpartition("-")
        is_ours = epoch == self.epoch and serial.isascii() and serial.isdigit() and len(serial) <= 18
        return int(serial) if is_ours else None

    def _wake(self) -> None:
        for loop, event in self._sleepers:
            loop.call_soon_threadsafe(event.set)
