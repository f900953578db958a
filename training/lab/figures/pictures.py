"""Draws the figures from their rows. matplotlib is imported here alone, and only when something is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.lab.figures.reference import PAPER_IMAGES, Curve, read_curve
from training.lab.figures.runs import DEFAULT, MODES, RE_ESTIMATED
from training.lab.figures.tables import Bundle, Key

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Bundles = dict[Key, Bundle]

_COLOURS = {"honest": "tab:blue", "transfer": "tab:red", DEFAULT: "tab:blue", RE_ESTIMATED: "tab:orange"}


def draw_all(folder: Path, task: str, bundles: Bundles, paper: Path | None) -> list[Path]:
    """Every picture that there are rows for. Raises ImportError without matplotlib."""
    drawn = {
        "figure1": draw_training(bundles, paper),
        "figure2": draw_applied(bundles, paper),
        "figure3": draw_transfer(bundles, paper),
        "ablations": draw_ablations(bundles),
    }
    paths = []
    for name, figure in drawn.items():
        if figure is not None:
            paths.append(folder / f"{task}-{name}.png")
            figure.savefig(paths[-1], dpi=110)
    return paths


def draw_training(bundles: Bundles, paper: Path | None) -> Figure | None:
    """Figure 1: accuracy over epochs by share, a panel a mode; the paper's dashed."""
    chosen = [each for key, each in bundles.items() if key[1:3] == ("honest", DEFAULT)]
    if not chosen:
        return None
    figure, panels = _open(1, len(MODES), 6.5, 5)
    for axes, mode in zip(panels[0], MODES, strict=True):
        mine = sorted((each for each in chosen if each.key[0] == mode), key=lambda each: each.key[3])
        for bundle in mine:
            share = bundle.key[3]
            _draw_bundle(axes, bundle, _get_colour(share), f"{share} %", paper)
        axes.set_title(f"{mode} mode{_count(mine)}")
        _name_lines(axes, "watermarked")
    return figure


def draw_applied(bundles: Bundles, paper: Path | None) -> Figure | None:
    """Figure 2: a trained network under a watermark, up to 10 % and on to 90 %, a row a mode."""
    chosen = [each for key, each in bundles.items() if key[1] == "applied"]
    if not chosen:
        return None
    figure, panels = _open(len(MODES), 2, 6.5, 4)
    reference = read_curve(paper, "applied", 0) if paper else None
    for row, mode in zip(panels, MODES, strict=True):
        for axes, stop in zip(row, (10, 90), strict=True):
            for bundle in (each for each in chosen if each.key[0] == mode):
                name = "statistics kept" if bundle.key[2] == DEFAULT else "statistics re-estimated"
                _draw_band(axes, bundle, 1.0, _COLOURS[bundle.key[2]], name)
            if reference is not None:
                axes.plot(reference.points, reference.accuracies, "k--", linewidth=1, label="the paper")
            axes.set_xlim(0, stop)
            axes.set_title(f"{mode} mode{_count([each for each in chosen if each.key[0] == mode])}")
            axes.set_xlabel("weights watermarked after training, %")
            _name_lines(axes)
    return figure


def draw_transfer(bundles: Bundles, paper: Path | None) -> Figure | None:
    """Figure 3: transfer attack against honest training, a row a mode, a column a share."""
    shares = sorted({key[3] for key in bundles if key[1] == "transfer"})
    if not shares:
        return None
    figure, panels = _open(len(MODES), len(shares), 3.6, 3.4)
    for row, mode in zip(panels, MODES, strict=True):
        for axes, share in zip(row, shares, strict=True):
            for kind in ("honest", "transfer"):
                bundle = bundles.get((mode, kind, DEFAULT, share))
                if bundle is not None:
                    _draw_bundle(axes, bundle, _COLOURS[kind], kind, paper)
            axes.set_title(f"{mode}, {share} % watermarked", fontsize="medium")
            _name_lines(axes)
    return figure


def draw_ablations(bundles: Bundles) -> Figure | None:
    """Last accuracy of every variant, a row a mode: a bar with its standard deviation, the seeds as dots."""
    shares = {mode: found for mode in MODES if (found := _list_ablation_shares(bundles, mode))}
    if not shares:
        return None
    figure, panels = _open(len(shares), max(map(len, shares.values())), 6.5, 3.6)
    for row, mode in zip(panels, shares, strict=True):
        for axes, share in zip(row, shares[mode], strict=False):
            trained = [each for each in bundles.values() if each.key[:2] == (mode, "honest")]
            mine = [each for each in trained if each.key[3] == share]
            _draw_bars(axes, sorted(mine, key=lambda each: each.key[2] != DEFAULT))
            axes.set_title(f"{mode} mode, {share} % watermarked{_count(mine)}")
    return figure


def _list_ablation_shares(bundles: Bundles, mode: str) -> list[int]:
    return sorted({key[3] for key in bundles if key[:2] == (mode, "honest") and key[2] != DEFAULT})


def _draw_bars(axes: Axes, bundles: list[Bundle]) -> None:
    for place, bundle in enumerate(bundles):
        values = bundle.get_accuracies(-1)
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        axes.bar(place, np.mean(values), yerr=spread, capsize=4, color="lightsteelblue")
        axes.plot([place] * len(values), values, "k.", markersize=4)
    axes.set_xticks(range(len(bundles)), [each.key[2] for each in bundles], rotation=20, fontsize="small")


def _draw_bundle(axes: Axes, bundle: Bundle, colour: object, label: str, paper: Path | None) -> None:
    """The mean and the range of its seeds, over epochs; the paper's curve dashed, over as many samples."""
    factor = bundle.rows[0].run.images / PAPER_IMAGES if paper else 1.0
    _draw_band(axes, bundle, factor, colour, label)
    _, kind, _, share = bundle.key
    reference: Curve | None = read_curve(paper, kind, share) if paper else None
    if reference is not None:
        axes.plot(reference.points, reference.accuracies, "--", color=colour, linewidth=1)
        axes.set_xlim(0, max(3.0, 1.05 * bundle.points[-1] * factor))
    axes.set_xlabel("epochs of 50,000 records; dashed: the paper" if paper else "epochs")


def _draw_band(axes: Axes, bundle: Bundle, factor: float, colour: object, label: str) -> None:
    points = np.array(bundle.points) * factor
    values = np.array([row.accuracies for row in bundle.rows])
    axes.plot(points, values.mean(0), color=colour, label=label)
    axes.fill_between(points, values.min(0), values.max(0), color=colour, alpha=0.15)


def _open(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels.flat:
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
    for row in panels:
        row[0].set_ylabel("share of eval records right")
    return figure, [list(row) for row in panels]


def _name_lines(axes: Axes, title: str | None = None) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title=title, fontsize="small")


def _get_colour(share: int) -> object:
    from matplotlib import colormaps

    return colormaps["plasma"](share / 100)


def _count(bundles: list[Bundle]) -> str:
    counts = sorted({len(each.rows) for each in bundles})
    return f", n = {' or '.join(map(str, counts))}" if counts else ", no rows"
