"""Convolutions of the integer network on a GPU, each in one kernel with its pool and normalisation.

Only activations go through memory, a byte each; windows and sums stay on the chip. Products are of int8 with
sums in int32, the normalisation is in int64, as the protocol has it (§2). Where Triton cannot compile for
a device, its errors come out of the first call. Whether the kernel is exact there, training.evaluator finds
out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from consensus.network import IntegerNetwork, Layer, NetworkSpec
from training.inference import PreparedLayer, PreparedNetwork, count_tile_records
from training.products import FLOAT32

_TILE_BYTES = 2**30
"""What a layer's activations may take, where one record's do not take more."""
_HALF = 2**23
_ROWS, _TERMS = 128, 64
_LEAST_COLUMNS, _MOST_COLUMNS = 16, 128
"""Of a tile of results: what a program's registers hold, and as small as a product of Triton's may be."""


@dataclass(frozen=True, slots=True)
class FusedLayer:
    """A convolution in the kernel's form; all tensors lie in memory without gaps."""

    matrix: Tensor
    """int8[rows, terms]: a row an output, in the order row, column, channel; zeros up to whole tiles."""
    multipliers: Tensor
    """int64[rows]: M."""
    offsets: Tensor
    """int64[rows]: B + 2^23."""
    channels: int
    """Of the activations in memory."""
    outputs: int
    pooled: bool
    columns: int
    """Outputs of a tile."""


class FusedNetwork(PreparedNetwork):
    """A network ready for many records on a GPU."""

    def __init__(self, network: IntegerNetwork, device: torch.device) -> None:
        # A transfer holds up a slow core as long as a layer takes to compute: one for all weights, one for
        # all M and B of convolutions.
        self._weights = torch.from_numpy(network.weights).to(device)
        super().__init__(FLOAT32, network, device)

    def _count_records(self, spec: NetworkSpec) -> int:
        # With the places about it an image of 2×2 has four times its own, a larger one fewer.
        return count_tile_records(spec, lambda layer: 4 * max(_fill(spec.c), layer.outputs), _TILE_BYTES)

    def _prepare_convolutions(self, network: IntegerNetwork) -> list[PreparedLayer]:
        convolutions = network.spec.layers[:-2]
        multipliers = np.concatenate(network.multipliers[:-1]).astype(np.int64)
        offsets = np.concatenate(network.offsets[:-1]) + _HALF
        normalisations = torch.from_numpy(np.stack([multipliers, offsets])).to(self._device)
        parts = torch.split(normalisations, [layer.outputs for layer in convolutions], 1)
        self._fused: list[FusedLayer] = []
        channels = _fill(network.spec.c)
        for layer, own in zip(convolutions, parts, strict=True):
            weights = self._weights[layer.start : layer.stop].view(layer.shape)
            self._fused.append(_prepare_layer(layer, channels, weights, own))
            channels = layer.outputs
        return []

    def _prepare_matrix(self, network: IntegerNetwork, layer: Layer) -> Tensor:
        return self._weights[layer.start : layer.stop].view(layer.shape).float().T

    def _extract(self, pixels: Tensor) -> Tensor:
        channels = self._fused[0].channels
        levels = (pixels >> 1).permute(0, 2, 3, 1)
        activations = F.pad(levels, (0, channels - levels.shape[3], 1, 1, 1, 1)).to(torch.int8).contiguous()
        for layer in self._fused:
            activations = convolve_integers(activations, layer)
        return activations[:, 1:-1, 1:-1].permute(0, 3, 1, 2).float().flatten(1)


def _prepare_layer(layer: Layer, channels: int, weights: Tensor, normalisation: Tensor) -> FusedLayer:
    """Of int8[out, in, 3, 3] weights and int64[2, out] M and B + 2^23 on the device."""
    columns = min(_MOST_COLUMNS, max(_LEAST_COLUMNS, int(triton.next_power_of_2(layer.outputs))))
    rows = F.pad(weights.permute(0, 2, 3, 1), (0, channels - layer.inputs)).flatten(1)
    more = -layer.outputs % columns
    multipliers, offsets = F.pad(normalisation, (0, more)).contiguous()
    return FusedLayer(
        F.pad(rows, (0, -rows.shape[1] % _TERMS, 0, more)).contiguous(),
        multipliers,
        offsets,
        channels,
        layer.outputs,
        layer.pooled,
        columns,
    )


def _fill(channels: int) -> int:
    """Channels in memory of a network's input: few fill a word."""
    return channels if channels > 4 else 4


def convolve_integers(activations: Tensor, layer: FusedLayer) -> Tensor:
    """int8[n, y+2, x+2, out] normalised activations of int8[n, h+2, w+2, in] ones, zeros about both.

    Raises triton's errors where it cannot compile.
    """
    count, height, width, channels = activations.shape
    stride = 2 if layer.pooled else 1
    high, wide = (height - 2) // stride, (width - 2) // stride
    results = activations.new_zeros(count, high + 2, wide + 2, layer.outputs)
    places = count * high * wide
    with torch.cuda.device_of(activations):
        _convolve_integers[triton.cdiv(places, _ROWS), len(layer.matrix) // layer.columns](
            activations, layer.matrix, layer.multipliers, layer.offsets, results,
            places, high, wide, height * width, width, layer.outputs,
            CHANNELS=channels, LENGTH=layer.matrix.shape[1], POOLED=layer.pooled,
            ROWS=_ROWS, COLUMNS=layer.columns, TERMS=_TERMS,
        )  # fmt: skip
    return results


@triton.jit(do_not_specialize=["places", "high", "wide", "plane", "line"])
def _convolve_integers(
    activations, matrix, multipliers, offsets, results, places, high, wide, plane, line, outputs,
    CHANNELS: tl.constexpr, LENGTH: tl.constexpr, POOLED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """A tile of the results, `high` by `wide` places a record, of activations of `plane` places in lines."""
    stride: tl.constexpr = 2 if POOLED else 1
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_place = row < places
    # Past the end the last place once more: what is read there is not written.
    row = tl.minimum(row, places - 1)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    x = row % wide
    y = row // wide % high
    # In 64 bits: what lies before a record, or within one of the largest legal, may pass 2^31 bytes.
    record = (row // wide // high).to(tl.int64)
    begin = (record * plane + y * stride * line + x * stride) * CHANNELS

    sources = activations + begin[:, None] + tl.arange(0, TERMS)[None, :]
    largest = tl.full((ROWS, COLUMNS), -(2**31), tl.int32)
    for part in range(stride * stride):
        corner = (part // 2 * line + part % 2) * CHANNELS
        sums = tl.zeros((ROWS, COLUMNS), tl.int32)
        for start in range(0, LENGTH, TERMS):
            terms = start + tl.arange(0, TERMS)
            # Of channels by the tile all terms are of one place: its channels run along memory.
            if CHANNELS % TERMS == 0:
                place = start // CHANNELS
                reach = (place // 3 * line + place % 3) * CHANNELS + start % CHANNELS + corner
                windows = tl.load(tl.multiple_of(sources + reach, (1, 16)))
            else:
                # Terms past the last have weights of zero: any place will do.
                place = tl.minimum(terms // CHANNELS, 8)
                reach = (place // 3 * line + place % 3) * CHANNELS + terms % CHANNELS + corner
                windows = tl.load(activations + begin[:, None] + reach[None, :])
            weights = tl.load(matrix + columns[None, :] * LENGTH + terms[:, None])
            sums = tl.dot(windows, weights, sums, out_dtype=tl.int32)
        largest = tl.maximum(largest, sums)

    scales = tl.load(multipliers + columns)[None, :]
    shifts = tl.load(offsets + columns)[None, :]
    values = (largest.to(tl.int64) * scales + shifts) >> 24
    values = tl.minimum(tl.maximum(values, 0), 127).to(tl.int8)
    target = ((record * (high + 2) + y + 1) * (wide + 2) + x + 1) * outputs
    mask = is_place[:, None] & (columns < outputs)[None, :]
    tl.store(results + target[:, None] + columns[None, :], values, mask=mask)
