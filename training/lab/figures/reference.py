"""The paper's own curves, and how far measured ones are from them.

Owns reading its CSV files; where they come from is told in docs/lab/paper/README.md.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PAPER_IMAGES = 50_000
"""Train records of an epoch of the paper's."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy over something."""

    points: tuple[float, ...]
    """Epochs of 50,000 records, or shares in per cent; increasing."""
    accuracies: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a measured curve is farthest from the paper's."""

    point: float
    measured: float
    paper: float
    compared: int
    """Points of the paper's within the measured range."""

    @property
    def size(self) -> float:
        """Measured less the paper's."""
        return self.measured - self.paper


def read_curve(folder: Path, kind: str, share: int) -> Curve | None:
    """The paper's curve of that kind of run, None where the folder has none."""
    if kind == "applied":
        return _read(folder / "weak_tampering_pretrained.csv", "model_ratio", "accuracy", 100, 0)
    name = f"sig_{share / 100:.1f}{'_pretrained' if kind == 'transfer' else ''}.csv"
    return _read(folder / "training_history" / name, "", "val_accuracy", 1, 1)


def _read(path: Path, column: str, accuracy: str, factor: float, offset: float) -> Curve | None:
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    points = tuple(float(line[column]) * factor + offset for line in lines)
    return Curve(points, tuple(float(line[accuracy]) for line in lines))


def find_largest_difference(curve: Curve, paper: Curve) -> Difference | None:
    """At the paper's points within the measured range, between measured ones in a line; None without any."""
    tolerance = 1e-6
    inside = [
        (point, accuracy)
        for point, accuracy in zip(paper.points, paper.accuracies, strict=True)
        if curve.points[0] - tolerance <= point <= curve.points[-1] + tolerance
    ]
    if not inside:
        return None
    measured = np.interp([point for point, _ in inside], curve.points, curve.accuracies)
    differences = [
        Difference(point, float(value), accuracy, len(inside))
        for (point, accuracy), value in zip(inside, measured, strict=True)
    ]
    return max(differences, key=lambda difference: abs(difference.size))


def compute_mean(curves: Sequence[Curve]) -> Curve:
    """The mean of curves over the same points."""
    accuracies = np.mean([curve.accuracies for curve in curves], axis=0)
    return Curve(curves[0].points, tuple(float(accuracy) for accuracy in accuracies))
