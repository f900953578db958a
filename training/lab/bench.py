"""`make bench`: what the work and its verification cost here, beside the goals and an accelerator's rows.

Owns the order of the sections and the table. What a row is, training.lab.bench_rows says; what is measured,
the module of each section.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.dataset_file import read_dataset_file
from training.lab.bench_rows import (
    Origin,
    RecordedRow,
    Row,
    append_rows,
    describe_origin,
    find_latest,
    read_rows,
)
from training.lab.bench_training import check_cifar10, measure_training
from training.lab.bench_verification import measure_evaluation, measure_verification
from training.lab.inputs import parse_count

_COMMITTED = Path("docs/lab/bench-rows.jsonl")
_COLUMNS = (58, 34, 4, 10, 5)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the table."""

    title: str
    measure: Callable[[argparse.Namespace], Iterator[Row]]


SECTIONS = {
    "evaluation": Section(
        "Exact evaluation, of the paper's network where no other is named", measure_evaluation
    ),
    "verification": Section("Verification", measure_verification),
    "training": Section("Training", measure_training),
}


def run(options: argparse.Namespace) -> int:
    """Measures and prints every section; 0 whether or not the goals are met.

    Raises ConsensusError, OSError or ValueError for data that is no dataset or not the one wanted, before
    anything is measured.
    """
    read_dataset_file(options.data)
    if options.cifar10 is not None:
        check_cifar10(read_dataset_file(options.cifar10).spec)
    origin = describe_origin(options.device, options.threads, _describe_command(options))
    committed = read_rows(options.rows)
    print(f"{origin.device}: {origin.machine}; {origin.threads} threads; torch {origin.torch}; {origin.date}")
    print(
        "A value is the median of n; in brackets the smallest and the largest. Seconds are of the wall clock,"
        " steps of training on a CPU are compared by its own;"
    )
    load = os.getloadavg()[0]
    print(f"in the minute before {load:.1f} processes ran or waited: above the cores, seconds are long.")
    for name in options.sections:
        section = SECTIONS[name]
        print(f"\n{section.title}\n{_align(('', 'here', 'n', 'goal', 'met', 'GPU'))}")
        for row in section.measure(options):
            print(_align(_describe_row(row, find_latest(committed, name, row.name))), flush=True)
            if options.record is not None:
                append_rows(options.record, [RecordedRow(name, row, origin)])
    print(f"\n{_describe_accelerator(committed)}")
    return 0


def _describe_row(row: Row, accelerated: RecordedRow | None) -> tuple[str, ...]:
    goal = "" if row.goal is None else f"{row.goal.side} {row.goal.bound:,}"
    met = {True: "yes", False: "NO", None: ""}[row.is_met]
    there = "never run" if accelerated is None else _describe_value(accelerated.row)
    return row.name, _describe_value(row), str(len(row.values)), goal, met, there


def _describe_value(row: Row) -> str:
    if not row.values:
        return "never run"
    if len(row.values) == 1:
        return f"{_round(row.value)} {row.unit}"
    return f"{_round(row.value)} {row.unit} ({_round(min(row.values))}–{_round(max(row.values))})"


def _round(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _align(cells: Sequence[str]) -> str:
    widths = (*_COLUMNS, 0)
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _describe_accelerator(committed: Sequence[RecordedRow]) -> str:
    """Where the rows of the column come from, by section: the last of a name counts."""
    latest = {(kept.section, kept.row.name): kept for kept in committed if kept.origin.device != "cpu"}
    if not latest:
        return "GPU: no row was ever measured on one."
    sections: dict[Origin, list[str]] = {}
    for kept in latest.values():
        sections.setdefault(kept.origin, []).append(kept.section)
    return "\n".join(
        [
            *(
                f"GPU, {' and '.join(dict.fromkeys(names))}: {origin.device}; {origin.machine};"
                f" torch {origin.torch}; {origin.date}; {origin.command}"
                for origin, names in sections.items()
            ),
            "Both steps, quantised and plain, multiply in bfloat16 there, and here where the machine has it;"
            " the GPU's rungs of digits are those of then.",
        ]
    )


def _describe_command(options: argparse.Namespace) -> str:
    sections = " ".join(options.sections)
    words = f"--device {options.device} --threads {options.threads} --sections {sections}"
    words += "" if options.cifar10 is None else " --cifar10 FILE"
    return f"freezenet lab bench {words} --records {options.records} --turns {options.turns}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of this command."""
    parser.add_argument(
        "--cifar10", type=Path, help="CIFAR-10 in one file, to train on it three times for two epochs"
    )
    parser.add_argument("--sections", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--records", type=parse_count, default=10_000, help="that are evaluated")
    parser.add_argument("--turns", type=parse_count, default=5, help="of exact evaluation and fp32 forward")
    parser.add_argument(
        "--rows", type=Path, default=_COMMITTED, help="rows of an accelerator, measured before"
    )
    parser.add_argument("--record", type=Path, help="file that the rows are added to")
