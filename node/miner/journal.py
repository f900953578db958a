"""What a miner tells the world: one JSON object a line in status.jsonl, and the same to whoever listens.

Every event has `time` (Unix seconds) and `event`; those of an attempt also `attempt`, `parent`, `height`,
`frozen`, `train_target` and `eval_target`; those with counts `samples`, `train_correct` and `eval_correct`;
those of a result `networks`, how many were trained, each under a header of its own: `samples` is their sum,
and `eval_correct` null where nothing was counted.
Readers (the devnet's screen and report) skip what they do not know.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO

EventName = Literal[
    "started",
    "attempt",
    "progress",
    "missed",
    "gave-up",
    "stale",
    "found",
    "accepted",
    "rejected",
    "node-lost",
    "node-found",
    "bad-template",
    "trainer-started",
    "trainer-lost",
    "stopped",
]
Event = Mapping[str, Any]
Listener = Callable[[Event], None]

MAX_BYTES = 16 * 2**20
"""A longer journal is put aside as status.jsonl.1, in place of an earlier one."""

_log = logging.getLogger("freezenet.miner")


class Journal:
    """Appends events to a file and hands each to the listeners, in that order."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        listeners: tuple[Listener, ...] = (),
        max_bytes: int = MAX_BYTES,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._max_bytes = max_bytes
        self._file = self._open()
        if self._file.tell():
            # Another miner's run may have left half a line.
            self._file.write("\n")
        self._clock = clock
        self._listeners = listeners

    def record(self, event: EventName, **fields: object) -> None:
        """Appends one event."""
        entry = {"time": round(self._clock(), 3), "event": event, **fields}
        if self._file.tell() > self._max_bytes:
            self._file.close()
            os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))
            self._file = self._open()
        self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")
        for listener in self._listeners:
            listener(entry)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _open(self) -> TextIO:
        # One write a line: a reader may follow.
        return self._path.open("a", encoding="utf-8", buffering=1)


class JournalTail:
    """Reads the events that were appended since the last look; half a line waits for its end.

    What was appended between the last look and the moment when the journal was put aside is passed over.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read_new(self) -> Iterator[Event]:
        """The new events; none while the file does not exist."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if event := _parse_event(line):
                yield event


def _parse_event(line: bytes) -> Event | None:
    if not line.strip():
        return None
    try:
        event = json.loads(line)
    except ValueError:
        _log.debug("skipped a broken line of a miner's journal")
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


@dataclass(slots=True)
class MinerStatus:
    """Where a miner stands, folded from its events in order."""

    activity: str = "starting"
    """What it does now, in a word or two."""
    attempt: int = 0
    """Number of the attempt under way since the miner started."""
    height: int = 0
    """Height that the attempt is for."""
    frozen: int = 0
    """Share of frozen weights, per 10,000."""
    samples: int = 0
    total_samples: int = 0
    train_correct: int = 0
    train_target: int = 0
    eval_correct: int = 0
    eval_target: int = 0
    best_train_correct: int = 0
    """The most that a finished attempt reached on this parent."""
    parent: str = ""
    """Id of the block that the attempt builds on."""
    accepted: int = 0
    """Blocks that a node accepted."""
    rejected: int = 0
    """Blocks that a node refused."""
    attempts_by_parent: Counter[str] = field(default_factory=Counter)
    """Parent id in hex → attempts begun on it, as far as the journal goes back; each of several networks."""

    def apply(self, event: Event) -> None:
        """Takes one event in."""
        name = event["event"]
        for key in _COPIED & event.keys():
            setattr(self, key, int(event[key] or 0))
        if name == "attempt":
            self._begin_attempt(str(event.get("parent", "")))
        elif name in ("missed", "gave-up", "found"):
            self.best_train_correct = max(self.best_train_correct, self.train_correct)
        elif name == "accepted":
            self.accepted += not event.get("dry_run", False)
        elif name == "rejected":
            self.rejected += 1
        self.activity = _ACTIVITIES.get(name, self.activity)

    def _begin_attempt(self, parent: str) -> None:
        self.attempts_by_parent[parent] += 1
        self.samples = self.train_correct = self.eval_correct = 0
        if parent != self.parent:
            self.parent, self.best_train_correct = parent, 0


_COPIED = {
    "attempt",
    "height",
    "frozen",
    "samples",
    "total_samples",
    "train_correct",
    "train_target",
    "eval_correct",
    "eval_target",
}
_ACTIVITIES = {
    "started": "starting",
    "attempt": "training",
    "progress": "training",
    "missed": "missed",
    "gave-up": "gave up",
    "stale": "new tip",
    "found": "submitting",
    "accepted": "block!",
    "rejected": "rejected",
    "node-lost": "no node",
    "node-found": "node back",
    "bad-template": "bad template",
    "trainer-started": "ready",
    "trainer-lost": "restarting",
    "stopped": "stopped",
}
