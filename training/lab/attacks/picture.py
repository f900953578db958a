"""The picture of all prices: a dot and its interval for each attack, a panel for each frozen share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.lab.attacks.table import Line

_FARTHEST = 30.0
_LOOKS = ((0.2, "#1b6ca8"), (0.0, "#d1495b"), (-0.2, "#66803d"))
"""Height beside the attack's and colour of each target, the easiest left out."""


def draw(path: Path, lines: Sequence[Line]) -> bool:
    """Writes a PNG; False where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    places = list(dict.fromkeys((line.frozen, line.samples) for line in lines))
    names = list(dict.fromkeys(line.attack for line in lines))
    size = (4 + 4 * len(places), 10)
    figure, panels = pyplot.subplots(1, len(places), figsize=size, sharey=True, squeeze=False)
    for panel, place in zip(panels[0], places, strict=True):
        _draw_panel(panel, [line for line in lines if (line.frozen, line.samples) == place], names)
        panel.set_title(f"{place[0] / 100:g} % frozen, {place[1]:,} samples", fontsize=10)
    fullest = max(panels[0], key=lambda panel: len(panel.get_legend_handles_labels()[0]))
    fullest.legend(loc="lower right", fontsize=8)
    figure.suptitle("Cost to a solution over the reference miner's, 95 % interval; left of 1: cheaper")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def _draw_panel(panel: Any, lines: Sequence[Line], names: Sequence[str]) -> None:
    probabilities = list(dict.fromkeys(line.probability for line in lines))[1:]
    for (shift, colour), probability in zip(_LOOKS, probabilities, strict=False):
        label = f"target that {probability:.0%} of courses meet"
        for line in (line for line in lines if line.probability == probability):
            ratio, height = line.price.work, len(names) - names.index(line.attack) + shift
            value, high = (min(part, _FARTHEST) for part in (ratio.value, ratio.high))
            panel.plot([ratio.low, high], [height, height], color=colour, linewidth=1.2)
            marker = ">" if math.isinf(ratio.high) or ratio.value > _FARTHEST else "o"
            panel.plot(value, height, marker, color=colour, markersize=4, label=label)
            label = "_"
    panel.axvline(1, color="#444444", linewidth=0.8)
    panel.set_xscale("log")
    panel.set_xlim(0.1, 1.2 * _FARTHEST)
    panel.set_yticks(range(len(names), 0, -1), names, fontsize=8)
    panel.grid(axis="x", alpha=0.3)
