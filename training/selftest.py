"""Worst legal networks with known answers, on which a back-end proves itself exact (protocol §11).

Owns the rows and their answers, by the normative evaluator, and the usual network on which exact ones are
timed. Who runs them and what follows is the evaluator's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from consensus.network import (
    BIAS_BOUND,
    MULTIPLIER_LIMIT,
    OFFSET_BOUND,
    Int64Array,
    IntegerNetwork,
    Layer,
    NetworkSpec,
    compute_logits,
)

_DIGITS = NetworkSpec(c=1, h=8, w=8, classes=10, blocks=2, filters=16, hidden=64)
_COLOUR = NetworkSpec(c=3, h=10, w=13, classes=10, blocks=3, filters=8, hidden=16)
_DEEP = NetworkSpec(c=1, h=4, w=4, classes=6, blocks=1, filters=128, hidden=16)
_WIDEST = NetworkSpec(c=1, h=128, w=130, classes=4, blocks=1, filters=4, hidden=8)
"""Its hidden units have 16,640 inputs, as many as §2 allows."""
_RECORDS, _WIDEST_RECORDS = 17, 5
"""Of sixteen and more libraries take other ways than of a few."""

_USUAL = NetworkSpec(c=3, h=32, w=32, classes=10, blocks=2, filters=32, hidden=128)
"""The paper's first two blocks, where most of its multiply-accumulates are."""
_USUAL_RECORDS = 17

DrawWeights = Callable[[Layer, np.random.Generator], npt.NDArray[np.int8]]


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """A network, images and the logits that every exact evaluator finds."""

    network: IntegerNetwork
    pixels: npt.NDArray[np.uint8]
    """uint8[n, c, h, w]."""
    logits: npt.NDArray[np.int64]
    """int64[n, classes]."""


@dataclass(frozen=True, slots=True)
class WorstCase:
    """A shape and the weights that strain it."""

    spec: NetworkSpec
    draw_weights: DrawWeights


def _draw_signs(layer: Layer, random: np.random.Generator) -> npt.NDArray[np.int8]:
    """±127 at random."""
    return random.choice(np.array([-127, 127], np.int8), (layer.outputs, layer.fan_in))


def _draw_peaks(layer: Layer, random: np.random.Generator) -> npt.NDArray[np.int8]:
    """+127 in even rows, -127 in odd ones, three other weights in each: the largest sums, with low bits."""
    rows = np.full((layer.outputs, layer.fan_in), 127, dtype=np.int8)
    rows[1::2] = -127
    places = random.integers(0, layer.fan_in, (layer.outputs, 3))
    np.put_along_axis(rows, places, random.integers(-127, 128, places.shape).astype(np.int8), axis=1)
    return rows


def _draw_cliffs(layer: Layer, random: np.random.Generator) -> npt.NDArray[np.int8]:
    """+127 first, then -127: partial sums as large as they get before they cancel to almost nothing."""
    rows = np.full((layer.outputs, layer.fan_in), -127, dtype=np.int8)
    rows[:, : layer.fan_in // 2] = 127
    places = random.integers(0, layer.fan_in, (layer.outputs, 3))
    np.put_along_axis(rows, places, random.integers(-127, 128, places.shape).astype(np.int8), axis=1)
    return rows


WORST_CASES: tuple[WorstCase, ...] = tuple(
    WorstCase(spec, draw)
    for spec in (_DIGITS, _COLOUR, _DEEP, _WIDEST)
    for draw in (_draw_signs, _draw_peaks, _draw_cliffs)
)


@cache
def compute_known_answer(case: WorstCase) -> KnownAnswer:
    """The case with its answers; the normative evaluator runs once a process."""
    random = np.random.default_rng(WORST_CASES.index(case))
    records = _WIDEST_RECORDS if case.spec is _WIDEST else _RECORDS
    pixels = random.choice(
        np.array([0, 1, 254, 255], np.uint8),
        (records, case.spec.c, case.spec.h, case.spec.w),
        p=(0.05, 0.05, 0.1, 0.8),
    )
    network = _build_network(case, pixels, random)
    return KnownAnswer(network, pixels, compute_logits(network, pixels))


@cache
def draw_usual_case() -> tuple[IntegerNetwork, npt.NDArray[np.uint8]]:
    """A network of a usual size and uint8[n, c, h, w] pixels, on which speeds are compared."""
    random, spec = np.random.default_rng(0), _USUAL
    network = IntegerNetwork(
        spec,
        random.integers(-127, 128, spec.weight_count, dtype=np.int8),
        tuple(np.full(count, 2**14, np.uint32) for count in spec.normalised_outputs),
        tuple(np.zeros(count, np.int64) for count in spec.normalised_outputs),
        np.zeros(spec.classes, np.int32),
    )
    return network, random.integers(0, 256, (_USUAL_RECORDS, spec.c, spec.h, spec.w), dtype=np.uint8)


def _build_network(
    case: WorstCase, pixels: npt.NDArray[np.uint8], random: np.random.Generator
) -> IntegerNetwork:
    """The case's weights, normalisations chosen on the first image, logits that tie at the largest bias."""
    activations = (pixels[:1] >> 1).astype(np.int64)
    weights: list[npt.NDArray[np.int8]] = []
    multipliers: list[npt.NDArray[np.uint32]] = []
    offsets: list[npt.NDArray[np.int64]] = []
    for layer in case.spec.layers[:-1]:
        weights.append(case.draw_weights(layer, random))
        sums = _compute_sums(layer, weights[-1], activations)
        scale, shift = _choose_normalisation(sums)
        multipliers.append(scale)
        offsets.append(shift)
        activations = _normalise(layer, sums, scale, shift)
    last = case.draw_weights(case.spec.layers[-1], random)
    last[2] = last[1]
    bias = np.array([-BIAS_BOUND, BIAS_BOUND, BIAS_BOUND] + [1 - BIAS_BOUND] * (len(last) - 3), np.int32)
    flat = np.concatenate([part.reshape(-1) for part in (*weights, last)])
    return IntegerNetwork(case.spec, flat, tuple(multipliers), tuple(offsets), bias)


def _choose_normalisation(sums: Int64Array) -> tuple[npt.NDArray[np.uint32], Int64Array]:
    """(M, B) per channel of int64[1, out, ...] sums, four kinds in turn.

    A window of 127 sums around the median, in which a unit of the sum is a unit of the activation; the whole
    range of the sums; the largest M with B at a bound; M = 0 with B half a unit below and above a whole one.
    """
    rows = sums.reshape(sums.shape[1], -1)
    centre, spread = np.median(rows, axis=1).astype(np.int64), np.ptp(rows, axis=1).astype(np.int64)
    kind = np.arange(len(rows)) % 4
    wide = np.minimum(127 * MULTIPLIER_LIMIT // np.maximum(spread, 1), MULTIPLIER_LIMIT - 1)
    multipliers = np.choose(kind, [MULTIPLIER_LIMIT - 1, wide, MULTIPLIER_LIMIT - 1, 0])
    centred = 64 * MULTIPLIER_LIMIT - centre * multipliers
    bound = np.where(centre < 0, OFFSET_BOUND, -OFFSET_BOUND)
    # A whole and a half, and a unit less; the whole odd and even, which roundings to nearest treat apart.
    place = np.arange(len(rows)) // 4
    edge = (62 + place // 2 % 2) * MULTIPLIER_LIMIT + MULTIPLIER_LIMIT // 2 - place % 2
    offsets = np.choose(kind, [centred, centred, bound, edge])
    return multipliers.astype(np.uint32), offsets.clip(-OFFSET_BOUND, OFFSET_BOUND).astype(np.int64)


def _compute_sums(layer: Layer, weights: npt.NDArray[np.int8], activations: Int64Array) -> Int64Array:
    matrix = weights.astype(np.int64)
    if layer.kind == "dense":
        flat: Int64Array = activations.reshape(1, -1) @ matrix.T
        return flat
    padded = np.pad(activations, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(*activations.shape[2:], -1)
    sums: Int64Array = (rows @ matrix.T).transpose(2, 0, 1)[None]
    return sums


def _normalise(
    layer: Layer, sums: Int64Array, multipliers: npt.NDArray[np.uint32], offsets: Int64Array
) -> Int64Array:
    channel = (-1,) + (1,) * (sums.ndim - 2)
    scaled = sums * multipliers.astype(np.int64).reshape(channel) + offsets.reshape(channel) + (1 << 23)
    values: Int64Array = np.clip(scaled >> 24, 0, 127)
    if not layer.pooled:
        return values
    rows, columns = values.shape[2] // 2, values.shape[3] // 2
    pairs = values[:, :, : 2 * rows, : 2 * columns].reshape(1, -1, rows, 2, columns, 2)
    pooled: Int64Array = pairs.max(axis=(3, 5))
    return pooled
