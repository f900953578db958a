"""Networks and rows to compare evaluators on: random ones, and the largest that the protocol allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from consensus.network import (
    BIAS_BOUND,
    MAX_INPUTS,
    MULTIPLIER_LIMIT,
    OFFSET_BOUND,
    IntegerNetwork,
    NetworkSpec,
)
from training.inference import _cut_inputs, _sum_pieces
from training.products import Product

SPECS = (
    NetworkSpec(c=1, h=8, w=8, classes=10, blocks=2, filters=8, hidden=64),
    NetworkSpec(c=3, h=7, w=5, classes=3, blocks=2, filters=5, hidden=9),
    NetworkSpec(c=2, h=2, w=2, classes=2, blocks=1, filters=1, hidden=1),
    NetworkSpec(c=3, h=10, w=10, classes=5, blocks=2, filters=3, hidden=40),
    NetworkSpec(c=4, h=9, w=12, classes=11, blocks=3, filters=16, hidden=33),
)
"""Sizes that are multiples of nothing among them, and odd images whose last row and column are dropped."""


def draw_network(spec: NetworkSpec, random: np.random.Generator) -> IntegerNetwork:
    """Random weights; normalisations of which most keep activations alive and some stand at a bound."""
    normalisations = [_draw_normalisation(layer.outputs, layer.fan_in, random) for layer in spec.layers[:-1]]
    weights = random.integers(-127, 128, spec.weight_count).astype(np.int8)
    bias = random.choice([-BIAS_BOUND, -1_000, 0, 1_000, BIAS_BOUND], spec.classes).astype(np.int32)
    multipliers = tuple(multipliers for multipliers, _ in normalisations)
    return IntegerNetwork(spec, weights, multipliers, tuple(offsets for _, offsets in normalisations), bias)


def draw_pixels(spec: NetworkSpec, count: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """uint8[n, c, h, w]."""
    return random.integers(0, 256, (count, spec.c, spec.h, spec.w)).astype(np.uint8)


def count_wrong_widths(product: Product, step: int) -> int:
    """For how many numbers of terms, every `step`th to the protocol's limit, a product is wrong somewhere.

    Rows of 127 and of the largest and smallest activations at random, against weights of 127, of -127, of
    both in halves, and of both at random.
    """
    random = np.random.default_rng(step)
    rows = np.stack([np.full(MAX_INPUTS, 127), random.choice([0, 1, 126, 127], MAX_INPUTS)])
    halves = np.where(np.arange(MAX_INPUTS) % 2, 127, -127)
    signs = random.choice([-127, 127], MAX_INPUTS)
    matrix = np.stack([np.full(MAX_INPUTS, 127), np.full(MAX_INPUTS, -127), halves, signs], axis=1)
    known = torch.from_numpy(np.cumsum(rows[:, :, None] * matrix, axis=1))
    left, right = torch.tensor(rows, dtype=product.activations), torch.tensor(matrix, dtype=product.weights)
    widths = range(1, MAX_INPUTS + 1, step)
    sums = torch.stack([product.multiply(left[:, :k], right[:k]).double() for k in widths], dim=1)
    return int((sums.long() != known[:, ::step]).any(dim=2).any(dim=0).sum())


def level_logits(network: IntegerNetwork, bias: int) -> IntegerNetwork:
    """The same, but that all its logits are the bias."""
    weights = network.weights.copy()
    weights[network.spec.layers[-1].start :] = 0
    return replace(network, weights=weights, bias=np.full(network.spec.classes, bias, np.int32))


def count_wrong_convolutions(step: int) -> int:
    """For how many input channels, every `step`th down from the limit, our float32 convolution is wrong.

    A 3×3 image of 127 and one of the largest and smallest activations at random, under the weights of
    count_wrong_widths; against torch's convolution in float64.
    """
    random = np.random.default_rng(step)
    channels = MAX_INPUTS // 9
    shape = channels, 3, 3
    images = np.stack([np.full(shape, 127), random.choice([0, 1, 126, 127], shape)])
    halves = np.where(np.arange(channels) % 2, 127, -127)[:, None, None] * np.ones(shape, int)
    filters = np.stack([np.full(shape, 127), np.full(shape, -127), halves, random.choice([-127, 127], shape)])
    wrong = 0
    for count in range(channels, 0, -step):
        left, right = (torch.tensor(values[:, :count]).double() for values in (images, filters))
        known = F.conv2d(left, right, padding=1)
        ours = left.float().contiguous(memory_format=torch.channels_last)
        wrong += not torch.equal(_sum_pieces(ours, _cut_inputs(right)).double(), known)
    return wrong


def _draw_normalisation(
    outputs: int, terms: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    # A sum of random weights and activations deviates by about 73·73·√terms: up to 60 levels of activation.
    fitting = random.integers(1, 60 * MULTIPLIER_LIMIT // round(5_400 * terms**0.5), outputs)
    multipliers = np.where(random.random(outputs) < 0.15, MULTIPLIER_LIMIT - 1, fitting)
    offsets = random.integers(-40 * MULTIPLIER_LIMIT, 90 * MULTIPLIER_LIMIT, outputs)
    edges = random.choice([-OFFSET_BOUND, OFFSET_BOUND, 0], outputs)
    return multipliers.astype(np.uint32), np.where(random.random(outputs) < 0.1, edges, offsets)
