"""How a miner looks: Rich progress on a terminal, a line an event elsewhere; both listen to the journal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from node.miner.journal import Event


class Display(Protocol):
    """Shows events while it is entered."""

    def __enter__(self) -> Self:
        """Begins."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends, leaving the terminal as it was."""

    def show(self, event: Event) -> None:
        """Shows one event."""


def choose_display(console: Console) -> Display:
    """Progress where the console is a terminal, lines elsewhere."""
    return LiveDisplay(console) if console.is_terminal else LineDisplay(console)


class LineDisplay:
    """A line an event; progress is left to status.jsonl."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, event: Event) -> None:
        """Prints the line of an event, if it has one."""
        line = format_event(event)
        if line is not None:
            stamp = datetime.fromtimestamp(float(event["time"])).strftime("%H:%M:%S")
            self._console.print(f"{stamp} {line}", markup=False, highlight=False, soft_wrap=True)


class LiveDisplay:
    """One bar for the attempt under way; what is worth keeping scrolls above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._bar: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Moves the bar, or prints a line above it."""
        name = event["event"]
        if name == "attempt":
            self._begin(event)
        elif name == "progress" and self._bar is not None:
            self._progress.update(
                self._bar,
                completed=event["samples"],
                total=event["total_samples"],
                counts=format_counts(event),
            )
        elif name not in ("missed", "gave-up", "progress") and (line := format_event(event)) is not None:
            self._console.print(line, markup=False, highlight=False)

    def _begin(self, event: Event) -> None:
        if self._bar is not None:
            self._progress.remove_task(self._bar)
        self._bar = self._progress.add_task(
            f"block {event['height']} · attempt {event['attempt']}", total=None, counts=format_targets(event)
        )


def format_counts(event: Event) -> str:
    """Both counts against both targets, as far as the event knows them."""
    train, eval_ = event.get("train_correct"), event.get("eval_correct")
    return (
        f"train {_format_count(train)}/{event.get('train_target', '?')}"
        f" eval {_format_count(eval_)}/{event.get('eval_target', '?')}"
    )


def format_targets(event: Event) -> str:
    """What an attempt must reach."""
    share = int(event["frozen"]) / 100
    return f"{share:g} % frozen, train {event['train_target']} and eval {event['eval_target']} wanted"


def format_event(event: Event) -> str | None:
    """One line for an event; None for those that are too many for a line."""
    build = _LINES.get(event["event"])
    return build(event) if build is not None else None


def _format_count(count: object) -> str:
    return "–" if count is None else str(count)


def _format_end(event: Event) -> str:
    return (
        f"attempt {event['attempt']} for block {event['height']} {event['event']}: {format_counts(event)},"
        f" {_format_networks(event['networks'])}, {event['samples']:,} samples in {event['seconds']:.1f} s"
    )


def _format_networks(count: int) -> str:
    return f"{count} network{'s' * (count != 1)}"


def _format_accepted(event: Event) -> str:
    verdict = "would be accepted" if event.get("dry_run") else "accepted"
    return f"block {event['height']} {event['id'][:16]} {verdict} by {event['node']} ({event['status']})"


def _format_started(event: Event) -> str:
    return f"mining on chain {event['chain'][:16]} for {event['address']}"


_LINES: dict[str, Callable[[Event | dict[str, Any]], str]] = {
    "started": _format_started,
    "attempt": lambda e: f"attempt {e['attempt']} for block {e['height']}: {format_targets(e)}",
    "missed": _format_end,
    "gave-up": _format_end,
    "stale": lambda e: f"attempt {e['attempt']} for block {e['height']} stopped: the tip moved",
    "found": _format_end,
    "accepted": _format_accepted,
    "rejected": lambda e: f"block {e['height']} {e['id'][:16]} rejected: {e['code']} {e['reason']}".rstrip(),
    "node-lost": lambda e: f"node {e['node']} is lost ({e['reason']}); trying again",
    "node-found": lambda e: f"node {e['node']} answers",
    "bad-template": lambda e: f"node {e['node']} offers no usable work: {e['reason']}",
    "trainer-lost": lambda e: f"{e['reason']}; starting another one",
    "stopped": lambda _: "stopped",
}
