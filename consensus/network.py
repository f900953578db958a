"""The paper's CNN on integers: its shape, its weight layout and the normative evaluator (protocol §2).

This file is the only definition of a prediction. It is written to be read, not to be fast; fast evaluators
live in training/ and are tested equal to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from consensus.errors import Code, RuleViolation

MAX_INPUTS = 16_640
MAX_BLOCKS = 8
MAX_WEIGHTS = 2**26
MULTIPLIER_LIMIT = 2**24
OFFSET_BOUND = 2**52
BIAS_BOUND = 2**30
_RECORDS_AT_ONCE = 256

Int8Array = npt.NDArray[np.int8]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layer:
    """One weight tensor and where it lies in the flat array of all weights."""

    kind: Literal["convolution", "dense", "logits"]
    """`convolution` and `dense` are followed by normalise+ReLU, `logits` has a bias instead."""
    outputs: int
    """Output channels or units."""
    inputs: int
    """Input channels or units (not multiplied by the kernel)."""
    start: int
    """Index of the layer's first weight in the flat array."""
    pooled: bool
    """Whether a 2×2 max-pool follows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in, 3, 3) or (out, in)."""
        kernel = (3, 3) if self.kind == "convolution" else ()
        return (self.outputs, self.inputs, *kernel)

    @property
    def fan_in(self) -> int:
        """Inputs of one output: the terms of its sum."""
        return self.inputs * (9 if self.kind == "convolution" else 1)

    @property
    def stop(self) -> int:
        """Index behind the layer's last weight."""
        return self.start + self.outputs * self.fan_in


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """The shape of the CNN: images (c, h, w) to `classes` logits."""

    c: int
    """Input channels."""
    h: int
    """Input height."""
    w: int
    """Input width."""
    classes: int
    """Logits."""
    blocks: int
    """Convolution blocks, 1 to 8."""
    filters: int
    """Output channels of block 0; block i has filters·2^i."""
    hidden: int
    """Units of the hidden dense layer."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The weight tensors in the order they are applied."""
        layers: list[Layer] = []
        channels = self.c
        for block in range(self.blocks):
            outputs = self.filters << block
            for pooled in (False, True):
                layers.append(Layer("convolution", outputs, channels, _end(layers), pooled))
                channels = outputs
        flat = channels * (self.h >> self.blocks) * (self.w >> self.blocks)
        layers.append(Layer("dense", self.hidden, flat, _end(layers), False))
        layers.append(Layer("logits", self.classes, self.hidden, _end(layers), False))
        return tuple(layers)

    @property
    def normalised_outputs(self) -> tuple[int, ...]:
        """Outputs of each normalised layer in order: how many (M, B) pairs it has."""
        return tuple(layer.outputs for layer in self.layers[:-1])

    @property
    def weight_count(self) -> int:
        """N: weights of all layers."""
        return self.layers[-1].stop

    @property
    def multiply_accumulates(self) -> int:
        """Multiply-accumulates of one forward pass of one record."""
        total, height, width = 0, self.h, self.w
        for layer in self.layers:
            positions = height * width if layer.kind == "convolution" else 1
            total += positions * layer.outputs * layer.fan_in
            if layer.pooled:
                height, width = height // 2, width // 2
        return total


def check_network(spec: NetworkSpec) -> None:
    """Raises RuleViolation(BAD_NETWORK) for a shape outside the bounds of §2."""
    if min(spec.c, spec.h, spec.w, spec.classes, spec.blocks, spec.filters, spec.hidden) < 1:
        raise RuleViolation(Code.BAD_NETWORK, f"a size below 1: {spec}")
    if spec.blocks > MAX_BLOCKS:
        raise RuleViolation(Code.BAD_NETWORK, f"{spec.blocks} blocks, at most {MAX_BLOCKS}")
    if min(spec.h, spec.w) < 1 << spec.blocks:
        raise RuleViolation(
            Code.BAD_NETWORK, f"{spec.h}x{spec.w} images cannot be halved {spec.blocks} times"
        )
    widest = max(layer.fan_in for layer in spec.layers)
    if widest > MAX_INPUTS:
        raise RuleViolation(Code.BAD_NETWORK, f"an output has {widest} inputs, at most {MAX_INPUTS}")
    if spec.weight_count > MAX_WEIGHTS:
        raise RuleViolation(Code.BAD_NETWORK, f"{spec.weight_count} weights, at most {MAX_WEIGHTS}")


@dataclass(frozen=True, slots=True)
class IntegerNetwork:
    """Everything a prediction depends on, its values in range: `check_solution` is where they are checked."""

    spec: NetworkSpec
    weights: Int8Array
    """int8[N] in [-127, 127], frozen and free."""
    multipliers: tuple[npt.NDArray[np.uint32], ...]
    """M of each normalised layer, uint32[out], below 2^24."""
    offsets: tuple[Int64Array, ...]
    """B of each normalised layer, int64[out], within ±2^52."""
    bias: npt.NDArray[np.int32]
    """int32[classes], within ±2^30."""


def compute_classes(network: IntegerNetwork, pixels: npt.NDArray[np.uint8]) -> Int64Array:
    """The predicted class of each image, int64[n], for uint8[n, c, h, w] pixels."""
    parts = [
        np.argmax(compute_logits(network, pixels[start : start + _RECORDS_AT_ONCE]), axis=1)
        for start in range(0, len(pixels), _RECORDS_AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def count_correct(
    network: IntegerNetwork, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]
) -> int:
    """The number of images, uint8[n, c, h, w], whose class equals their label, uint8[n]."""
    return int(np.count_nonzero(compute_classes(network, pixels) == labels))


def compute_logits(network: IntegerNetwork, pixels: npt.NDArray[np.uint8]) -> Int64Array:
    """int64[n, classes] logits of uint8[n, c, h, w] pixels, exactly."""
    *normalised, last = network.spec.layers
    activations: Int64Array = (pixels >> 1).astype(np.int64)
    for index, layer in enumerate(normalised):
        sums = _sum_inputs(network, layer, activations)
        activations = _normalise(sums, network.multipliers[index], network.offsets[index])
        if layer.pooled:
            activations = _max_pool(activations)
    return _sum_inputs(network, last, activations) + network.bias.astype(np.int64)


def _sum_inputs(network: IntegerNetwork, layer: Layer, activations: Int64Array) -> Int64Array:
    """Σ w·a for every output of a layer."""
    weights = network.weights[layer.start : layer.stop].reshape(layer.shape).astype(np.int64)
    if layer.kind == "convolution":
        return _convolve(activations, weights)
    return activations.reshape(len(activations), -1) @ weights.T


def _convolve(activations: Int64Array, weights: Int64Array) -> Int64Array:
    """Cross-correlation with a 3×3 kernel, stride 1, zero padding 1: [n, in, y, x] → [n, out, y, x]."""
    count, _, height, width = activations.shape
    padded = np.pad(activations, ((0, 0), (0, 0), (1, 1), (1, 1)))
    sums: Int64Array = np.zeros((count, len(weights), height, width), dtype=np.int64)
    for row, column in np.ndindex(3, 3):
        window = padded[:, :, row : row + height, column : column + width]
        sums += np.einsum("oi,niyx->noyx", weights[:, :, row, column], window)
    return sums


def _normalise(sums: Int64Array, multipliers: npt.NDArray[np.uint32], offsets: Int64Array) -> Int64Array:
    """clamp((acc·M + B + 2^23) >> 24, 0, 127) with one (M, B) per output channel (axis 1)."""
    channel = (-1,) + (1,) * (sums.ndim - 2)
    scaled = sums * multipliers.astype(np.int64).reshape(channel) + offsets.reshape(channel) + (1 << 23)
    activations: Int64Array = np.clip(scaled >> 24, 0, 127)
    return activations


def _max_pool(activations: Int64Array) -> Int64Array:
    """2×2 windows, stride 2; an odd last row or column is dropped."""
    count, channels, height, width = activations.shape
    even = activations[:, :, : height // 2 * 2, : width // 2 * 2]
    windows = even.reshape(count, channels, height // 2, 2, width // 2, 2)
    pooled: Int64Array = windows.max(axis=(3, 5))
    return pooled


def _end(layers: list[Layer]) -> int:
    return layers[-1].stop if layers else 0
