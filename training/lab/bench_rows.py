"""Rows of `make bench`: one measured quantity each, what it ought to be, and how it is told and kept.

Owns the form of a row and of its file. What is measured is that of the modules whose functions return rows.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Literal

import torch

from training.lab.lines import open_behind_whole_lines, read_whole_lines
from training.precision import has_bfloat16


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a row's value."""

    side: Literal["<=", ">="]
    bound: float

    def is_met(self, value: float) -> bool:
        """Whether the value keeps to the bound."""
        return value <= self.bound if self.side == "<=" else value >= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity, measured n times in one run."""

    name: str
    """The same on every device: rows of other machines are found by it."""
    unit: str
    """Of the values; `x` for a ratio."""
    values: tuple[float, ...]
    """Of each measurement; empty if it was never run."""
    goal: Goal | None = None
    """On the device of this run; None for what is only told."""

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None without a goal or a measurement."""
        return None if self.goal is None or not self.values else self.goal.is_met(self.value)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where and when rows were measured."""

    device: str
    """cpu or the name of the accelerator."""
    machine: str
    threads: int
    torch: str
    date: str
    command: str

    def describe_machine(self) -> str:
        """The processor, and the accelerator where one was used."""
        return self.machine if self.device == "cpu" else f"{self.device}; {self.machine}"


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """A row with its origin, a line of the file."""

    section: str
    row: Row
    origin: Origin


def describe_origin(device: str, threads: int, command: str) -> Origin:
    """This machine, now."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"
    date = datetime.now(UTC).date().isoformat()
    return Origin(name, describe_processor(), threads, torch.__version__, date, command)


def describe_processor() -> str:
    """This machine's processor, its cores, architecture and what torch uses of its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    words = [name, f"{os.cpu_count()} cores", platform.machine(), torch.backends.cpu.get_cpu_capability()]
    return ", ".join([*words, *(["bfloat16"] if has_bfloat16() else [])])


def append_rows(path: Path, rows: Iterable[RecordedRow]) -> None:
    """Adds a line of JSON for each row; first removes one cut by a kill.

    Raises ValueError for a file that ends in something else.
    """
    with open_behind_whole_lines(path) as file:
        file.writelines((json.dumps(asdict(row)) + "\n").encode() for row in rows)


def read_rows(path: Path) -> list[RecordedRow]:
    """All rows of a file, none if there is no file; a last line cut by a kill is left out."""
    return [_decode(line) for line in read_whole_lines(path)]


def _decode(line: str) -> RecordedRow:
    fields = json.loads(line)
    row = fields["row"]
    goal = None if row["goal"] is None else Goal(**row["goal"])
    decoded = Row(row["name"], row["unit"], tuple(row["values"]), goal)
    return RecordedRow(fields["section"], decoded, Origin(**fields["origin"]))


def find_latest(rows: Sequence[RecordedRow], section: str, name: str) -> RecordedRow | None:
    """The last accelerator's row of this name, None if it was never run on one."""
    named = [kept for kept in rows if (kept.section, kept.row.name) == (section, name)]
    return next((kept for kept in reversed(named) if kept.origin.device != "cpu"), None)
