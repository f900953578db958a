"""What a miner prints."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from node.miner.display import LineDisplay, LiveDisplay, choose_display, format_event

FACTS: dict[str, Any] = {
    "time": 0.0,
    "attempt": 3,
    "parent": "ab",
    "height": 7,
    "frozen": 9_550,
    "train_target": 90,
    "eval_target": 80,
}
COUNTS = {
    "networks": 16,
    "samples": 12_000,
    "total_samples": 20_000,
    "train_correct": 88,
    "eval_correct": None,
    "seconds": 1.25,
}


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            {"event": "attempt", **FACTS},
            "attempt 3 for block 7: 95.5 % frozen, train 90 and eval 80 wanted",
        ),
        (
            {"event": "missed", **FACTS, **COUNTS},
            "attempt 3 for block 7 missed: train 88/90 eval –/80, 16 networks, 12,000 samples in 1.2 s",
        ),
        (
            {"event": "accepted", **FACTS, "id": "cd" * 32, "status": "active", "node": "http://n1"},
            "block 7 cdcdcdcdcdcdcdcd accepted by http://n1 (active)",
        ),
        (
            {"event": "rejected", **FACTS, "id": "cd" * 32, "code": "put-off", "reason": ""},
            "block 7 cdcdcdcdcdcdcdcd rejected: put-off",
        ),
        ({"event": "progress", **FACTS, **COUNTS}, None),
        ({"event": "invented later"}, None),
    ],
)
def test_an_event_has_its_line(event: dict[str, Any], line: str | None) -> None:
    assert format_event(event) == line


def test_without_a_terminal_each_event_is_a_line() -> None:
    console = Console(file=io.StringIO(), width=40)
    with choose_display(console) as display:
        assert isinstance(display, LineDisplay)
        display.show({"event": "attempt", **FACTS})
        display.show({"event": "progress", **FACTS, **COUNTS})
        display.show({"event": "stopped", "time": 1.0})
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line[9:] for line in lines] == [
        "attempt 3 for block 7: 95.5 % frozen, train 90 and eval 80 wanted",
        "stopped",
    ]


def test_on_a_terminal_the_attempt_is_a_bar() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with choose_display(console) as display:
        assert isinstance(display, LiveDisplay)
        display.show({"event": "attempt", **FACTS})
        display.show({"event": "progress", **FACTS, **COUNTS})
        display.show({"event": "stopped", "time": 1.0})
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "block 7 · attempt 3" in text
    assert "train 88/90 eval –/80" in text
    assert "stopped" in text
