"""Grinding nonces: keeping only headers whose watermark looks promising before anything is trained.

Where nothing is trained, the reference's own courses tell what became of the headers that would have been
kept; what promises is fitted on one half of them and used on the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from training.course import Course
from training.lab.attacks.frame import Attack, AttackCourse, Ground
from training.lab.attacks.rows import Recording
from training.lab.attacks.transfers import train_teacher

_KEPT = 4
"""One header in this many is kept."""
_RIDGE = 1.0
_TRIED = 256

Features = Callable[[Ground, int], npt.NDArray[np.float64]]
"""(ground, seed) → float64[k] that are cheap to know of a header's watermark."""


@dataclass(frozen=True, slots=True)
class Grinding:
    """One way to judge a watermark."""

    name: str
    meaning: str
    look: Features
    once: float = 0.0
    """What is done once for all blocks, in courses of the reference."""


def count_free(ground: Ground, seed: int) -> npt.NDArray[np.float64]:
    """Free weights of each layer."""
    mask = ground.derive_watermark(seed).frozen_mask
    return np.array([np.sum(~mask[layer.start : layer.stop]) for layer in ground.network.layers], np.float64)


def overlap(ground: Ground, seed: int) -> npt.NDArray[np.float64]:
    """Of each layer the product of the frozen values with a teacher's weights."""
    watermark = ground.derive_watermark(seed)
    values = np.zeros(watermark.weight_count)
    values[watermark.indices] = watermark.values
    values *= train_teacher(ground).free.detach().numpy()
    return np.array([values[layer.start : layer.stop].sum() for layer in ground.network.layers])


def grind(ground: Ground, recordings: Sequence[Recording], look: Features) -> list[Recording]:
    """The courses of the headers that an attacker would have kept, with the cost of looking at the others."""
    # What is done once for all blocks is no part of a look.
    look(ground, recordings[0].seed)
    started = time.process_time()
    table = np.array([look(ground, recording.seed) for recording in recordings])
    seconds = (time.process_time() - started) / len(recordings) * _KEPT
    work = ground.network.weight_count * _KEPT
    kept = []
    for parity in (0, 1):
        is_pilot = np.array([recording.seed % 2 != parity for recording in recordings])
        finals = np.array([recording.train_correct[-1] for recording in recordings], np.float64)
        promise = predict(table[is_pilot], finals[is_pilot], table)
        least = np.quantile(promise[~is_pilot], 1 - 1 / _KEPT)
        chosen = ~is_pilot & (promise >= least)
        kept += [_charge(recordings[int(place)], work, seconds) for place in np.flatnonzero(chosen)]
    return kept


def predict(
    table: npt.NDArray[np.float64], finals: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Ridge regression on standardised features: float64[m] for float64[m, k]."""
    mean, deviation = table.mean(0), np.maximum(table.std(0), 1e-9)
    known, asked = (table - mean) / deviation, (wanted - mean) / deviation
    gram = known.T @ known + _RIDGE * np.eye(known.shape[1])
    solution: npt.NDArray[np.float64] = asked @ np.linalg.solve(gram, known.T @ (finals - finals.mean()))
    return solution


def _charge(recording: Recording, work: int, seconds: float) -> Recording:
    return replace(
        recording,
        multiply_accumulates=tuple(spent + work for spent in recording.multiply_accumulates),
        seconds=tuple(spent + seconds for spent in recording.seconds),
    )


def _pick(count: int, meaning: str, name: str) -> Attack:
    """Trains under the freest of so many headers, where the reference has a number of its own."""

    def build(ground: Ground, seed: int) -> Course:
        other = replace(ground, recipe=replace(ground.recipe, headers=count))
        return AttackCourse(ground, seed, watermark=other.derive_watermark(seed))

    return Attack(name, meaning, build)


ATTACKS = (
    _pick(1, "takes headers as they come, whatever they leave free", "any header"),
    _pick(
        _TRIED,
        f"trains under the one of {_TRIED} headers that leaves the filters freest",
        f"freest of {_TRIED} headers",
    ),
)
"""Those that train courses of their own."""

GRINDINGS = (
    Grinding(
        "grind by free weights", "trains the quarter of headers whose free weights lie best", count_free
    ),
    Grinding(
        "grind by overlap", "trains only the quarter of headers most like a trained network", overlap, 1.0
    ),
)
