"""What is run for the figures, and the file that keeps one row for each run.

A run is done when its row stands in the file, so a killed command goes on where it was. Who performs the runs
is training.lab.figures.workers'.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from training.lab.bench_rows import Origin
from training.lab.figures.marks import DEFAULT_GENERATORS, DISTRIBUTIONS, GENERATORS
from training.lab.lines import read_whole_lines

Kind = Literal["honest", "transfer", "applied"]
"""From fresh weights; from a trained network's; a trained network that is only watermarked."""

MODES = ("paper", "protocol")
DEFAULT = "default"
RE_ESTIMATED = "re-estimated"


@dataclass(frozen=True, slots=True)
class Run:
    """One curve: the identity of a row."""

    mode: str
    kind: str
    variant: str
    """`default`, or what the run does otherwise: a distribution, a generator, `during`, `re-estimated`."""
    share: int
    """Of the weights under the watermark, per cent; 0 for `applied`, which goes through many."""
    seed: int
    images: int
    """Train records."""
    epochs: int
    """Passes over them; of `applied`, those of the trained network."""
    dataset: str
    """As a trace names it."""

    @property
    def teacher(self) -> Run:
        """The run whose network this one starts from."""
        return replace(self, kind="honest", variant=DEFAULT, share=0)

    @property
    def name(self) -> str:
        """Of the file that keeps its network."""
        return f"{self.mode}-{self.seed}-{self.images}-{self.epochs}-{self.dataset}"


@dataclass(frozen=True, slots=True)
class Row:
    """A run that is done."""

    run: Run
    points: tuple[float, ...]
    """Epochs done, or shares applied in per cent."""
    accuracies: tuple[float, ...]
    """Share of right eval records at each point."""
    seconds: float
    """Of the run; of runs done side by side, their part."""
    eval_images: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is run."""

    images: int
    """Train records at most."""
    eval_images: int
    """Eval records at most."""
    epochs: dict[str, int]
    """By mode."""
    seeds: int
    shares: tuple[int, ...]
    """Of figure 1, per cent."""
    transfer_shares: tuple[int, ...]
    """Of figure 3."""
    applied_shares: tuple[float, ...]
    """Of figure 2."""
    ablation_shares: dict[str, tuple[int, ...]]
    """By mode; a mode that is not there has none."""


_ALL = 10**9
_TENTHS = tuple(range(0, 100, 10))
_ATTACKED = _TENTHS[4:]
_HIGH = tuple(float(share) for share in range(20, 100, 10))
_STEPS = tuple(float(share) for share in range(11)) + _HIGH
_PAPER_STEPS = tuple(round(10 * step / 49, 4) for step in range(50)) + _HIGH
_DIGITS_ABLATIONS: dict[str, tuple[int, ...]] = {"paper": (40, 70), "protocol": (70, 90)}

SCALES = {
    ("digits", True): Scale(
        _ALL, _ALL, {"paper": 100, "protocol": 16}, 3, _TENTHS, _ATTACKED, _STEPS, _DIGITS_ABLATIONS
    ),
    ("digits", False): Scale(
        _ALL, _ALL, {"paper": 200, "protocol": 16}, 10, _TENTHS, _ATTACKED, _STEPS, _DIGITS_ABLATIONS
    ),
    ("cifar10", True): Scale(
        2_000, 500, {"paper": 5, "protocol": 5}, 1, (0, 70), (70,), (0, 1, 2, 4, 6, 8, 10, 50), {}
    ),
    ("cifar10", False): Scale(
        _ALL, _ALL, {"paper": 100, "protocol": 20}, 3, _TENTHS, _ATTACKED, _PAPER_STEPS, {"paper": (70,)}
    ),
}
"""By the task, any other being as large as CIFAR-10, and whether the reduced runs are wanted."""


def get_variants(mode: str) -> tuple[str, ...]:
    """The ablations of a mode; each changes one thing.

    In protocol mode the watermark always acts during back-propagation (training.twin).
    """
    generators = [name for name in GENERATORS if name != DEFAULT_GENERATORS[mode]]
    distributions = [name for name in DISTRIBUTIONS if name != "uniform"]
    return (*(["during"] if mode == "paper" else []), *distributions, *generators)


def list_runs(scale: Scale, images: int, modes: Sequence[str], dataset: str) -> list[Run]:
    """Every run of a scale, what others start from first, seeds side by side."""
    return [
        Run(mode, kind, variant, share, seed, images, scale.epochs[mode], dataset)
        for mode in modes
        for kind, variant, share in _list_curves(scale, mode)
        for seed in range(scale.seeds)
    ]


def _list_curves(scale: Scale, mode: str) -> Iterator[tuple[Kind, str, int]]:
    for share in scale.shares:
        yield "honest", DEFAULT, share
    for share in scale.transfer_shares:
        yield "transfer", DEFAULT, share
    for variant in (DEFAULT, RE_ESTIMATED):
        yield "applied", variant, 0
    for share in scale.ablation_shares.get(mode, ()):
        for variant in get_variants(mode):
            yield "honest", variant, share


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none where there is no file; a line that was cut by a kill is left out.

    Raises ValueError for a file of anything else.
    """
    reader = csv.DictReader(read_whole_lines(path), strict=True)
    try:
        if reader.fieldnames not in (None, list(_COLUMNS)):
            raise ValueError("its first line does not name the columns of its rows")
        return [_decode(line) for line in reader]
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        raise ValueError(f"{path} is no file of this command: {error}") from None


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Adds a line for each row, behind the last whole one.

    Raises ValueError for a file without a whole line that does not begin as these do.
    """
    text = path.read_text("utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if not whole and not ",".join(_COLUMNS).startswith(text):
        raise ValueError(f"{path} holds no rows of figures")
    if whole != text:
        path.write_text(whole, "utf-8")
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not whole:
            writer.writerow(_COLUMNS)
        writer.writerows(_encode(row) for row in rows)


_RUN_COLUMNS = tuple(field.name for field in fields(Run))
_ORIGIN_COLUMNS = tuple(field.name for field in fields(Origin))
_COLUMNS = (*_RUN_COLUMNS, "points", "accuracies", "seconds", "eval_images", *_ORIGIN_COLUMNS)


def _encode(row: Row) -> list[Any]:
    points = " ".join(f"{point:g}" for point in row.points)
    accuracies = " ".join(f"{accuracy:.4f}" for accuracy in row.accuracies)
    return [
        *astuple(row.run), points, accuracies, f"{row.seconds:.1f}", row.eval_images, *astuple(row.origin)
    ]  # fmt: skip


def _decode(line: dict[str, str]) -> Row:
    share, seed, images, epochs = (int(line[name]) for name in ("share", "seed", "images", "epochs"))
    run = Run(line["mode"], line["kind"], line["variant"], share, seed, images, epochs, line["dataset"])
    texts: dict[str, Any] = {name: line[name] for name in _ORIGIN_COLUMNS}
    origin = Origin(**{**texts, "threads": int(texts["threads"])})
    points, accuracies = (tuple(map(float, line[name].split())) for name in ("points", "accuracies"))
    return Row(run, points, accuracies, float(line["seconds"]), int(line["eval_images"]), origin)
