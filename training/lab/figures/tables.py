"""The rows of the figures put together: one line for each curve, with n, spread and the paper's numbers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import fmean, stdev

from training.lab.figures.reference import (
    PAPER_IMAGES,
    Curve,
    Difference,
    compute_mean,
    find_largest_difference,
    read_curve,
)
from training.lab.figures.runs import DEFAULT, Row

Key = tuple[str, str, str, int]
"""Mode, kind, variant, share."""

_PARTS = (0.1, 1 / 3, 2 / 3, 1.0)


@dataclass(frozen=True, slots=True)
class Bundle:
    """The runs of one curve that differ in their seed alone."""

    key: Key
    rows: tuple[Row, ...]
    """By seed."""

    @property
    def points(self) -> tuple[float, ...]:
        """Of every run: epochs, or shares in per cent."""
        return self.rows[0].points

    def get_accuracies(self, index: int) -> list[float]:
        """At one point, by seed."""
        return [row.accuracies[index] for row in self.rows]


def bundle_rows(rows: Sequence[Row]) -> dict[Key, Bundle]:
    """The rows by curve; of each mode only those on as many images and epochs as its last row."""
    scales = {row.run.mode: (row.run.images, row.run.epochs) for row in rows}
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        run = row.run
        if (run.images, run.epochs) == scales[run.mode]:
            groups.setdefault((run.mode, run.kind, run.variant, run.share), []).append(row)
    return {key: Bundle(key, _choose(group)) for key, group in sorted(groups.items())}


def _choose(rows: Sequence[Row]) -> tuple[Row, ...]:
    """One of each seed, all over the same points, by seed."""
    alike = {row.run.seed: row for row in rows if row.points == rows[-1].points}
    return tuple(alike[seed] for seed in sorted(alike))


def get_curve(bundle: Bundle) -> Curve:
    """The mean, over epochs of 50,000 records as the paper counts them, or over shares."""
    factor = 1.0 if bundle.key[1] == "applied" else bundle.rows[0].run.images / PAPER_IMAGES
    points = tuple(point * factor for point in bundle.points)
    return compute_mean([Curve(points, row.accuracies) for row in bundle.rows])


def compute_spread(values: Sequence[float]) -> float:
    """Standard deviation over seeds, 0 for one alone."""
    return stdev(values) if len(values) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the summary; accuracies are shares of the eval records, means over seeds."""

    key: Key
    n: int
    images: int
    epochs: int
    accuracies: tuple[float, ...]
    """After a tenth, a third, two thirds (rounded up) and all of the epochs."""
    spread: float
    """Standard deviation over seeds at the end."""
    leads: tuple[float, ...]
    """Differences to honest training of the same share and seeds; none for honest training itself."""
    lead_spread: float
    difference: Difference | None
    """From the paper's curve, where it is largest."""


def summarise(bundles: dict[Key, Bundle], folder: Path | None) -> list[Line]:
    """A line for each curve of training; `folder` has the paper's curves, None where they do not apply."""
    chosen = [bundle for bundle in bundles.values() if bundle.key[1] != "applied"]
    return [_summarise(bundle, bundles, folder) for bundle in chosen]


def _summarise(bundle: Bundle, bundles: dict[Key, Bundle], folder: Path | None) -> Line:
    mode, _, _, share = bundle.key
    places = [ceil(part * len(bundle.points)) - 1 for part in _PARTS]
    values = [bundle.get_accuracies(index) for index in places]
    honest = bundles.get((mode, "honest", DEFAULT, share))
    leads = [_compute_leads(bundle, honest, index) for index in places]
    run = bundle.rows[0].run
    return Line(
        bundle.key,
        len(bundle.rows),
        run.images,
        run.epochs,
        tuple(fmean(value) for value in values),
        compute_spread(values[-1]),
        tuple(fmean(lead) for lead in leads if lead),
        compute_spread(leads[-1]),
        _compare(bundle, folder),
    )


def _compute_leads(bundle: Bundle, honest: Bundle | None, index: int) -> list[float]:
    """By seed that both have; none for honest training itself."""
    if honest is None or honest is bundle or honest.points != bundle.points:
        return []
    base = {row.run.seed: row.accuracies[index] for row in honest.rows}
    return [row.accuracies[index] - base[row.run.seed] for row in bundle.rows if row.run.seed in base]


def _compare(bundle: Bundle, folder: Path | None) -> Difference | None:
    _, kind, variant, share = bundle.key
    paper = read_curve(folder, kind, share) if folder and variant == DEFAULT else None
    return find_largest_difference(get_curve(bundle), paper) if paper else None


def summarise_applied(bundles: dict[Key, Bundle], folder: Path | None) -> list[tuple[str | float | int, ...]]:
    """(mode, statistics, n, share, mean, spread, the paper's accuracy there) for each share applied."""
    paper = read_curve(folder, "applied", 0) if folder else None
    lines: list[tuple[str | float | int, ...]] = []
    for bundle in (each for each in bundles.values() if each.key[1] == "applied"):
        for index, share in enumerate(bundle.points):
            values = bundle.get_accuracies(index)
            measured = (bundle.key[0], bundle.key[2], len(values), share, fmean(values))
            lines.append((*measured, compute_spread(values), _interpolate(paper, share)))
    return lines


def _interpolate(paper: Curve | None, share: float) -> float:
    if paper is None or share > paper.points[-1] + 1e-6:
        return float("nan")
    return find_nearest(paper, share)


def find_nearest(curve: Curve, point: float) -> float:
    """Accuracy at the curve's nearest point."""
    return min(zip(curve.points, curve.accuracies, strict=True), key=lambda pair: abs(pair[0] - point))[1]


def write_summaries(folder: Path, task: str, bundles: dict[Key, Bundle], paper: Path | None) -> None:
    """TASK-summary.csv and TASK-applied.csv."""
    lines = [_encode(line) for line in summarise(bundles, paper)]
    _write(folder / f"{task}-summary.csv", _SUMMARY, lines)
    _write(folder / f"{task}-applied.csv", _APPLIED, summarise_applied(bundles, paper))


_PLACES = ("10", "33", "67", "100")
_SUMMARY = (
    *("mode", "kind", "variant", "share", "n", "images", "epochs"),
    *(f"accuracy_{place}" for place in _PLACES),
    "spread_100",
    *(f"lead_{place}" for place in _PLACES),
    "lead_spread_100",
    *("paper_difference", "paper_epoch", "paper_accuracy", "paper_epochs_compared"),
)
_APPLIED = ("mode", "statistics", "n", "share", "accuracy", "spread", "paper_accuracy")


def _encode(line: Line) -> list[object]:
    leads = [*line.leads, line.lead_spread] if line.leads else [""] * 5
    difference = line.difference
    paper = (
        [difference.size, difference.point, difference.paper, difference.compared] if difference else [""] * 4
    )
    head = [*line.key, line.n, line.images, line.epochs]
    return [*head, *line.accuracies, line.spread, *leads, *paper]


def _write(path: Path, header: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_format(value) for value in line] for line in lines)


def _format(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if value != value else f"{value:.4f}".rstrip("0").rstrip(".")
