"""The integer network on torch: the logits of consensus.network, by exact sums of products.

In the one way a convolution is a matrix product over its windows, or over three image rows at a time where
these are short, so that no library can choose Winograd or FFT for it; in the other it is the library's, which
a self-test must find to add up products. Records are taken a few at a time, so that a layer's values stay in
the cache. How a product stays exact is training.products'; whether it is so on this machine,
training.evaluator finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from consensus.network import IntegerNetwork, Layer, NetworkSpec
from training.products import FLOAT32, Product

_LARGEST = 127
_FLOAT32_LIMIT = 2.0**24
"""Up to here float32 holds every integer."""
_STEP = 2.0**-24
_HALF = float(2**23)
_TILE_BYTES = {"cpu": 2**22, "cuda": 2**30}
"""What the windows of the widest layer may take at once, or would where image rows are taken; on CUDA each
launch must be worth it."""
_CONVOLVED_BYTES = 6 * 2**20
"""What the sums of the widest layer may take at once where the library convolves."""
_MOST_SPREAD_ENTRIES = 2**16
"""Of a matrix that takes image rows: up to here multiplying by its zeros costs less than cutting windows
does (docs/lab/verification.md)."""
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Numbers of so many bytes: the channels of a narrow layer's place are moved as one."""


@dataclass(frozen=True, slots=True)
class PreparedLayer:
    """A normalised layer in the number format and on the device of a product."""

    matrix: Tensor
    """[terms, out]; terms of windows in the order row, column, channel, zeros for channels without values.
    [3·x·in, x·out] where image rows are taken. [out, in, 3, 3] in a ConvolvedNetwork."""
    scale: Tensor
    """float64[row]: M·2^-24 of every value in an image row, or of every unit."""
    offset: Tensor
    """float64[row]: (B + 2^23)·2^-24 of the same."""
    pooled: bool
    takes_rows: bool = False
    """Whether the matrix takes three image rows and gives one, instead of a window and a place."""


class PreparedNetwork:
    """A network ready for many records on one device."""

    def __init__(self, product: Product, network: IntegerNetwork, device: torch.device) -> None:
        self._product, self._device = product, device
        *convolutions, hidden, last = network.spec.layers
        self._convolutions = self._prepare_convolutions(network)
        normalisation = self._prepare_normalisation(network, len(convolutions), 1)
        self._hidden = PreparedLayer(self._prepare_matrix(network, hidden), *normalisation, pooled=False)
        self._last = self._prepare_matrix(network, last)
        self._bias = self._load(network.bias)
        self._tile_records = self._count_records(network.spec)

    @torch.no_grad()
    def compute_logits(self, pixels: Tensor) -> Tensor:
        """float64[n, classes] integer logits of uint8[n, c, h, w] pixels on the device."""
        logits = torch.empty(len(pixels), len(self._bias), dtype=torch.float64, device=self._device)
        with _plain_float32():
            for tile, part in self._cut(pixels, logits):
                part.copy_(self._classify(self._extract(tile)))
        return logits

    @torch.no_grad()
    def compute_features(self, pixels: Tensor) -> Tensor:
        """float32[n, flat] integer activations behind the last convolution, in the order of the flatten."""
        features = torch.empty(len(pixels), len(self._hidden.matrix), device=self._device)
        with _plain_float32():
            for tile, part in self._cut(pixels, features):
                part.copy_(self._extract(tile))
        return features

    def _cut(self, pixels: Tensor, results: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Tiles of the pixels, each with its part of the results.

        Results that lay between the freed memory of two tiles would keep it from being used again.
        """
        return zip(
            torch.split(pixels, self._tile_records), torch.split(results, self._tile_records), strict=True
        )

    def _extract(self, pixels: Tensor) -> Tensor:
        """[n, flat] activations behind the last convolution, in the product's format."""
        activations = (pixels >> 1).permute(0, 2, 3, 1)
        for layer in self._convolutions:
            sums = self._convolve(activations, layer)
            activations = normalise(pool(sums) if layer.pooled else sums, layer)
        return activations.to(self._product.activations).permute(0, 3, 1, 2).flatten(1)

    def _classify(self, features: Tensor) -> Tensor:
        sums = self._product.multiply(features, self._hidden.matrix)
        hidden = normalise(sums, self._hidden).to(self._product.activations)
        return self._product.multiply(hidden, self._last).double() + self._bias

    def _pad(self, activations: Tensor) -> Tensor:
        """[n, y+2, x+2, in] of integer [n, y, x, c] activations in the product's format, zeros about them."""
        count, height, width, channels = activations.shape
        shape = (count, height + 2, width + 2, widen(channels, self._product.activations))
        padded = torch.zeros(shape, dtype=self._product.activations, device=self._device)
        padded[:, 1:-1, 1:-1, :channels] = activations
        return padded

    def _convolve(self, activations: Tensor, layer: PreparedLayer) -> Tensor:
        """[n, y, x, in] → sums[n, y, x, out]: a 3×3 window, or three image rows, are a row of one product."""
        rows = self._cut_rows(activations) if layer.takes_rows else cut_windows(self._pad(activations))
        return self._product.multiply(rows, layer.matrix).view(*activations.shape[:3], -1)

    def _cut_rows(self, activations: Tensor) -> Tensor:
        """[n, y, x, c] → [n·y, 3·x·c]: every image row between the one above and the one below, or zeros."""
        count, height, width, channels = activations.shape
        values = width * channels
        padded = torch.zeros(count, height + 2, values, dtype=self._product.activations, device=self._device)
        padded[:, 1:-1] = activations.flatten(2)
        rows = padded.as_strided((count, height, 3 * values), (padded.stride(0), values, 1))
        # A copy even of one image, whose rows a product would otherwise be given overlapping.
        return rows.contiguous().view(-1, 3 * values)

    def _count_records(self, spec: NetworkSpec) -> int:
        size, most = self._product.activations.itemsize, _TILE_BYTES[self._device.type]
        return count_tile_records(spec, lambda layer: size * layer.fan_in, most)

    def _prepare_convolutions(self, network: IntegerNetwork) -> list[PreparedLayer]:
        prepared, width = [], network.spec.w
        for index, layer in enumerate(network.spec.layers[:-2]):
            weights = network.weights[layer.start : layer.stop].reshape(layer.shape)
            if takes_rows := self._takes_rows(layer, width):
                matrix = self._load_rows(spread_filters(weights, width))
            else:
                matrix = self._prepare_filters(weights)
            if layer.pooled:
                width //= 2
            normalisation = self._prepare_normalisation(network, index, width)
            prepared.append(PreparedLayer(matrix, *normalisation, layer.pooled, takes_rows))
        return prepared

    def _takes_rows(self, layer: Layer, width: int) -> bool:
        """Whether a convolution takes the rows of images of this width."""
        return 3 * width**2 * layer.inputs * layer.outputs <= _MOST_SPREAD_ENTRIES

    def _prepare_normalisation(
        self, network: IntegerNetwork, index: int, width: int
    ) -> tuple[Tensor, Tensor]:
        """Scale and offset for rows of so many places."""
        scale = self._load(network.multipliers[index]) * _STEP
        offset = (self._load(network.offsets[index]) + _HALF) * _STEP
        return scale.repeat(width), offset.repeat(width)

    def _prepare_filters(self, weights: npt.NDArray[np.int8]) -> Tensor:
        """The matrix of int8[out, in, 3, 3] filters for windows."""
        outputs, inputs, *_ = weights.shape
        filled = np.zeros((outputs, 3, 3, widen(inputs, self._product.activations)), np.int8)
        filled[..., :inputs] = weights.transpose(0, 2, 3, 1)
        return self._load_rows(filled.reshape(outputs, -1))

    def _prepare_matrix(self, network: IntegerNetwork, layer: Layer) -> Tensor:
        return self._load_rows(network.weights[layer.start : layer.stop].reshape(layer.shape))

    def _load_rows(self, rows: npt.NDArray[np.int8]) -> Tensor:
        """[terms, out] of int8[out, terms]."""
        return torch.tensor(rows, dtype=self._product.weights, device=self._device).T

    def _load(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.tensor(values.astype(np.float64), device=self._device)


class ConvolvedNetwork(PreparedNetwork):
    """The same by torch's own convolutions in float32, without windows in memory.

    No sum may pass 2^24, in whatever order it is added up: where a row's weights could, the inputs are cut
    into as many pieces as it takes.
    """

    def __init__(self, network: IntegerNetwork, device: torch.device) -> None:
        super().__init__(FLOAT32, network, device)
        self._pieces = [_cut_inputs(layer.matrix) for layer in self._convolutions]

    def _count_records(self, spec: NetworkSpec) -> int:
        return count_tile_records(spec, lambda layer: 4 * layer.outputs, _CONVOLVED_BYTES)

    def _takes_rows(self, layer: Layer, width: int) -> bool:
        return False

    def _prepare_filters(self, weights: npt.NDArray[np.int8]) -> Tensor:
        return self._load(weights)

    def _extract(self, pixels: Tensor) -> Tensor:
        activations = (pixels >> 1).float()
        for layer, pieces in zip(self._convolutions, self._pieces, strict=True):
            activations = activations.contiguous(memory_format=torch.channels_last)
            sums = _sum_pieces(activations, pieces).permute(0, 2, 3, 1).contiguous()
            activations = normalise(pool(sums) if layer.pooled else sums, layer).float().permute(0, 3, 1, 2)
        return activations.flatten(1)


def _cut_inputs(weights: Tensor) -> list[Tensor]:
    """float32[out, in, 3, 3] pieces of float64[out, inputs, 3, 3] integers, of which none adds up to 2^24."""
    for count in range(1, weights.shape[1] + 1):
        pieces = torch.split(weights, -(-weights.shape[1] // count), 1)
        if all(float(piece.abs().sum((1, 2, 3)).max()) * _LARGEST < _FLOAT32_LIMIT for piece in pieces):
            break
    return [piece.float().contiguous(memory_format=torch.channels_last) for piece in pieces]


def _sum_pieces(activations: Tensor, pieces: list[Tensor]) -> Tensor:
    """float[n, out, y, x] sums, in float64 where there are several pieces."""
    if len(pieces) == 1:
        return F.conv2d(activations, pieces[0], padding=1)
    parts = torch.split(activations, [piece.shape[1] for piece in pieces], 1)
    sums = (F.conv2d(part, piece, padding=1).double() for part, piece in zip(parts, pieces, strict=True))
    return reduce(torch.add, sums)


def count_tile_records(spec: NetworkSpec, count_bytes: Callable[[Layer], int], most_bytes: int) -> int:
    """How many records are taken at once, by what a convolution's place takes and all may take, in bytes."""
    widest, positions = 1, spec.h * spec.w
    for layer in spec.layers[:-2]:
        widest = max(widest, count_bytes(layer) * positions)
        positions //= 4 if layer.pooled else 1
    return max(1, most_bytes // widest)


def widen(channels: int, dtype: torch.dtype) -> int:
    """Channels of a layer's input in memory: as many as fill a word where few bytes do."""
    size = channels * dtype.itemsize
    word = next((word for word in _WORDS if size <= word), size)
    return word // dtype.itemsize


def cut_windows(padded: Tensor) -> Tensor:
    """[n, y+2, x+2, in] → [n·y·x, 9·in]: the 3×3 windows, in the order row, column, channel."""
    count, height, width, channels = padded.shape
    word = _WORDS.get(channels * padded.itemsize)
    if word is None:
        image, row, column, _ = padded.stride()
        # The three columns of a window lie side by side in memory, so a window is three runs of 3·in values.
        shape = (count, height - 2, width - 2, 3, 3 * channels)
        return padded.as_strided(shape, (image, row, column, row, 1)).reshape(-1, 9 * channels)
    # Such runs are too short: a place of all windows at once instead, each of its channels' words one number.
    words = padded.view(word)[..., 0]
    windows = torch.empty(count, height - 2, width - 2, 9, dtype=word, device=padded.device)
    for place in range(9):
        top, left = divmod(place, 3)
        windows[..., place] = words[:, top : top + height - 2, left : left + width - 2]
    return windows.view(padded.dtype).view(-1, 9 * channels)


def spread_filters(weights: npt.NDArray[np.int8], width: int) -> npt.NDArray[np.int8]:
    """int8[x·out, 3·x·in]: what int8[out, in, 3, 3] filters take of three image rows, zeros elsewhere."""
    outputs, inputs, *_ = weights.shape
    # The margin takes what a window has beside the image.
    spread = np.zeros((width, outputs, 3, width + 2, inputs), np.int8)
    place, output, row, column, channel = spread.strides
    shape, steps = (width, outputs, inputs, 3, 3), (place + column, output, channel, row, column)
    np.lib.stride_tricks.as_strided(spread, shape, steps)[:] = weights
    return spread[:, :, :, 1:-1].reshape(width * outputs, -1)


def pool(sums: Tensor) -> Tensor:
    """The largest of each 2×2 places of [n, y, x, out]; an odd last row or column is dropped.

    M ≥ 0 makes normalising monotone, so the pool may come before it and leave it a quarter of the work.
    """
    _, height, width, _ = sums.shape
    rows = torch.maximum(sums[:, 0 : height - 1 : 2], sums[:, 1::2])
    return torch.maximum(rows[:, :, 0 : width - 1 : 2], rows[:, :, 1::2])


def normalise(sums: Tensor, layer: PreparedLayer) -> Tensor:
    """float64 clamp((acc·M + B + 2^23) >> 24, 0, 127) of exact sums, [n, y, x, out] or [n, out].

    All of it stays below 2^53 before the shift (§2), and a power of two scales without a rounding, so float64
    loses nothing, fused or not.
    """
    values = sums.double().view(-1, len(layer.scale))
    torch.addcmul(layer.offset, values, layer.scale, out=values)
    return values.floor_().clamp_(0, 127).view(sums.shape)


@contextmanager
def _plain_float32() -> Iterator[None]:
    """No TensorFloat-32 and no bfloat16 in float32 products: either would round the factors."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
