"""The normative evaluator against a plain-Python one, its bounds, and the shapes that §2 allows."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.errors import Code, RuleViolation
from consensus.network import (
    BIAS_BOUND,
    MULTIPLIER_LIMIT,
    OFFSET_BOUND,
    IntegerNetwork,
    NetworkSpec,
    check_network,
    compute_classes,
    compute_logits,
    count_correct,
)
from tests.consensus.slow_network import predict

PAPER = NetworkSpec(c=3, h=32, w=32, classes=10, blocks=4, filters=32, hidden=128)
TINY = NetworkSpec(c=1, h=2, w=2, classes=2, blocks=1, filters=1, hidden=1)
WIDEST = NetworkSpec(c=1, h=26, w=20, classes=2, blocks=1, filters=128, hidden=2)
"""Its hidden layer has 16,640 inputs."""

# What each kind of value is drawn from: the whole range, its two ends, or one end alone.
WEIGHTS = ((-127, 127), (-127, -127), (127, 127))
MULTIPLIERS = ((0, MULTIPLIER_LIMIT - 1), (0, 2**16), (MULTIPLIER_LIMIT - 1, MULTIPLIER_LIMIT - 1), (0, 0))
OFFSETS = ((-OFFSET_BOUND, OFFSET_BOUND), (-(2**33), 2**33), (-OFFSET_BOUND,) * 2, (OFFSET_BOUND,) * 2)
BIASES = ((-BIAS_BOUND, BIAS_BOUND), (-(2**16), 2**16), (-BIAS_BOUND,) * 2, (BIAS_BOUND,) * 2, (0, 0))
PIXELS = ((0, 255), (255, 255), (0, 1))


@st.composite
def networks(draw: st.DrawFn) -> IntegerNetwork:
    """Tiny networks of any odd shape, with values anywhere in their bounds or all at one of them."""
    blocks = draw(st.integers(1, 2))
    sides = st.integers(2**blocks, 2**blocks + 3)
    spec = NetworkSpec(
        c=draw(st.integers(1, 2)),
        h=draw(sides),
        w=draw(sides),
        classes=draw(st.integers(2, 4)),
        blocks=blocks,
        filters=draw(st.integers(1, 2)),
        hidden=draw(st.integers(1, 4)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def fill(ranges: tuple[tuple[int, int], ...], size: int, dtype: type[np.integer[Any]]) -> Any:
        low, high = draw(st.sampled_from(ranges))
        return rng.integers(low, high, size, np.int64, endpoint=True).astype(dtype)

    return IntegerNetwork(
        spec,
        fill(WEIGHTS, spec.weight_count, np.int8),
        tuple(fill(MULTIPLIERS, size, np.uint32) for size in spec.normalised_outputs),
        tuple(fill(OFFSETS, size, np.int64) for size in spec.normalised_outputs),
        fill(BIASES, spec.classes, np.int32),
    )


@settings(max_examples=150)
@given(networks(), st.sampled_from(PIXELS), st.integers(0, 2**32))
def test_logits_and_classes_equal_the_plain_ones(
    network: IntegerNetwork, ends: tuple[int, int], seed: int
) -> None:
    spec = network.spec
    size = (2, spec.c, spec.h, spec.w)
    pixels = np.random.default_rng(seed).integers(*ends, size, np.int64, endpoint=True).astype(np.uint8)
    norms = [(m.tolist(), b.tolist()) for m, b in zip(network.multipliers, network.offsets, strict=True)]
    logits, classes = compute_logits(network, pixels), compute_classes(network, pixels)
    for row, image in enumerate(pixels.tolist()):
        plain = predict(astuple(spec), network.weights.tolist(), norms, network.bias.tolist(), image)
        assert (logits[row].tolist(), int(classes[row])) == plain


def build_constant(spec: NetworkSpec, weight: int, multiplier: int, offset: int, bias: int) -> IntegerNetwork:
    """A network with one value of each kind."""
    return IntegerNetwork(
        spec,
        np.full(spec.weight_count, weight, np.int8),
        tuple(np.full(size, multiplier, np.uint32) for size in spec.normalised_outputs),
        tuple(np.full(size, offset, np.int64) for size in spec.normalised_outputs),
        np.full(spec.classes, bias, np.int32),
    )


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_widest_layer_at_its_worst_stays_exact(sign: int) -> None:
    """16,640 inputs of 127·127 each, M and B at their bounds: just below 2^53, where float64 still counts."""
    spec = WIDEST
    check_network(spec)
    assert spec.layers[2].fan_in == 16_640
    network = build_constant(spec, 127, MULTIPLIER_LIMIT - 1, 0, sign * BIAS_BOUND)
    weights = network.weights.copy()
    weights[spec.layers[2].start : spec.layers[3].start] = sign * 127
    offsets = (*network.offsets[:2], np.full(2, sign * OFFSET_BOUND))
    pixels = np.full((1, 1, 26, 20), 255, np.uint8)
    logits = compute_logits(replace(network, weights=weights, offsets=offsets), pixels)
    largest = 127 * 127 * 16_640 * (MULTIPLIER_LIMIT - 1) + OFFSET_BOUND + 2**23
    assert largest < 2**53
    hidden = 127 if sign > 0 else 0
    assert logits.tolist() == [[2 * 127 * hidden + sign * BIAS_BOUND] * 2]


@pytest.mark.parametrize(
    ("total", "multiplier", "offset", "expected"),
    [
        (1, 2**23, 0, 1),  # a half rounds up
        (1, 2**23 - 1, 0, 0),
        (-1, 2**23, 2**24, 1),  # and so it does below zero: -0.5 + 1 = 0.5
        (-3, 2**23, 2**24, 0),  # -1.5 + 1 = -0.5 rounds to 0
        (127, 2**24 - 1, 0, 127),
        (127, 2**24 - 1, 2**30, 127),
        (0, 0, -(2**52), 0),
        (0, 0, 2**52, 127),
        (0, 0, 126 * 2**24 + 2**23 - 1, 126),
        (0, 0, 126 * 2**24 + 2**23, 127),
        (0, 0, -(2**23) - 1, 0),
    ],
)
def test_normalisation_rounds_half_up_and_clamps(
    total: int, multiplier: int, offset: int, expected: int
) -> None:
    """The hidden unit of a network whose convolutions pass one pixel through."""
    spec = replace(TINY, filters=1)
    network = build_constant(spec, 0, 2**24 - 1, 0, 0)
    weights = network.weights.copy()
    weights[[4, 13]] = 1  # the centres of both kernels
    weights[18] = total
    weights[19] = 1
    multipliers = (*network.multipliers[:2], np.array([multiplier], np.uint32))
    offsets = (*network.offsets[:2], np.array([offset]))
    pixels = np.zeros((1, 1, 2, 2), np.uint8)
    pixels[0, 0, 0, 0] = 3  # a0 = 1
    logits = compute_logits(
        replace(network, weights=weights, multipliers=multipliers, offsets=offsets), pixels
    )
    assert logits.tolist() == [[expected, 0]]


@pytest.mark.parametrize("bias", [-BIAS_BOUND, 0, BIAS_BOUND])
def test_equal_logits_give_the_lowest_class(bias: int) -> None:
    network = build_constant(replace(TINY, classes=5), 127, 2**20, 0, bias)
    pixels = np.full((3, 1, 2, 2), 255, np.uint8)
    assert compute_classes(network, pixels).tolist() == [0, 0, 0]


def test_the_last_of_unequal_logits_can_win() -> None:
    network = replace(
        build_constant(replace(TINY, classes=3), 0, 0, 0, 0), bias=np.array([5, 7, 7], np.int32)
    )
    assert compute_classes(network, np.zeros((1, 1, 2, 2), np.uint8)).tolist() == [1]


def test_more_records_than_are_evaluated_at_once() -> None:
    network = build_constant(TINY, 1, 2**24 - 1, 0, 0)
    labels = (np.arange(600) % 2).astype(np.uint8)
    assert count_correct(network, np.zeros((600, 1, 2, 2), np.uint8), labels) == 300
    assert compute_classes(network, np.zeros((0, 1, 2, 2), np.uint8)).shape == (0,)


def test_the_papers_network() -> None:
    check_network(PAPER)
    assert PAPER.weight_count == 1_303_648
    assert [layer.outputs for layer in PAPER.layers] == [32, 32, 64, 64, 128, 128, 256, 256, 128, 10]
    assert PAPER.multiply_accumulates == sum(
        (32 >> i // 2) ** 2 * 9 * layer.outputs * layer.inputs for i, layer in enumerate(PAPER.layers[:8])
    ) + 128 * (1_024 + 10)


@pytest.mark.parametrize(
    "spec",
    [
        PAPER,
        TINY,
        replace(TINY, h=256, w=256, blocks=8),
        replace(TINY, c=1_848),  # 16,632 inputs
        replace(TINY, hidden=16_640),
        replace(WIDEST, hidden=4_023),
    ],
)
def test_accepts_shapes_at_their_bounds(spec: NetworkSpec) -> None:
    check_network(spec)


@pytest.mark.parametrize(
    "spec",
    [
        *(replace(TINY, **{name: 0}) for name in ("c", "h", "w", "classes", "blocks", "filters", "hidden")),
        replace(TINY, h=512, w=512, blocks=9),
        replace(TINY, h=1),
        replace(TINY, w=3, h=4, blocks=2),
        replace(TINY, h=3, w=4, blocks=2),
        replace(TINY, c=1_849),  # 16,641 inputs of the first convolution
        replace(TINY, filters=1_849),  # of the second
        replace(TINY, hidden=16_641),  # of the last layer
        replace(TINY, h=258, w=260),  # 16,770 of the hidden one
        replace(WIDEST, hidden=4_024),  # 2^26 weights and 7,152 more
        NetworkSpec(*(65_535,) * 4, blocks=8, filters=65_535, hidden=65_535),
    ],
)
def test_rejects_a_network_out_of_bounds(spec: NetworkSpec) -> None:
    with pytest.raises(RuleViolation) as caught:
        check_network(spec)
    assert caught.value.code is Code.BAD_NETWORK
