"""Exact evaluation on torch, on the CPU or on CUDA: the counts of consensus.network, faster (protocol §11).

Every sum is a matrix product whose partial sums, in whatever order a library adds them, are integers that its
number format holds exactly. A convolution is such a product over its windows, so that no library can choose
Winograd or FFT for it. Each back-end proves itself on worst-case networks before use; one that fails steps
aside for the next, the last being the normative evaluator.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from consensus.block import Header, Witness
from consensus.dataset import Dataset
from consensus.evaluation import CountCorrect, check_counts, rebuild_network
from consensus.network import IntegerNetwork, count_correct
from consensus.task import Rung, Task
from training.selftest import WORST_CASES, WorstCase, compute_known_answer

_log = logging.getLogger("freezenet.training")

ComputeLogits = Callable[[IntegerNetwork, Tensor], Tensor]
"""(network, uint8[n, c, h, w] pixels on a device) → float64[n, classes] exact integer logits there."""

_EXACT_TERMS = {torch.float32: (2**24 - 1) // 127**2, torch.float64: 2**53 // 127**2}
_WINDOW_BYTES = 2**22
_POOL = 2
_HALF = float(2**23)
_STEP = 2.0**-24


def compute_logits_in_float32(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    """Logits with sums of at most 1,040 terms in float32, added up in float64."""
    return _compute_logits(network, pixels, torch.float32)


def compute_logits_in_float64(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    """Logits with every sum in float64."""
    return _compute_logits(network, pixels, torch.float64)


BACKENDS: tuple[ComputeLogits, ...] = (compute_logits_in_float32, compute_logits_in_float64)


def choose_compute_logits(
    device: str | torch.device, backends: Sequence[ComputeLogits] = BACKENDS
) -> ComputeLogits | None:
    """The first back-end that is exact on this device, None if there is none."""
    for compute_logits in backends:
        if _is_exact(compute_logits, torch.device(device)):
            return compute_logits
        _log.warning("%s is not exact on %s and steps aside", compute_logits.__name__, device)
    return None


def choose_count_correct(
    device: str | torch.device, backends: Sequence[ComputeLogits] = BACKENDS
) -> CountCorrect:
    """The exact count by the first back-end that proves itself on this device, else the normative one."""
    compute_logits = choose_compute_logits(device, backends)
    if compute_logits is None:
        return count_correct

    def count(network: IntegerNetwork, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> int:
        images, answers = (torch.from_numpy(part).to(device) for part in (pixels, labels))
        return count_right(compute_logits(network, images), answers)

    return count


def count_right(logits: Tensor, labels: Tensor) -> int:
    """Rows of float64[n, classes] whose lowest index among the largest is the label."""
    return int((logits.argmax(1) == labels).sum())


class ExactWorkVerifier:
    """`consensus.rules.WorkVerifier` that recomputes both counts on a self-tested back-end."""

    def __init__(self, dataset: Dataset, device: str | torch.device = "cpu") -> None:
        self._dataset = dataset
        self._count = choose_count_correct(device)

    def check(self, task: Task, rung: Rung, header: Header, witness: Witness) -> None:
        """Raises BadDelivery with the code of whatever fails in the solution or its counts."""
        network = rebuild_network(task, rung, header, witness)
        check_counts(self._dataset, network, witness, self._count)


@torch.no_grad()
def compute_features(network: IntegerNetwork, pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """float32[n, flat] integer activations behind the last convolution block of uint8[n, c, h, w] pixels."""
    batches = torch.split(pixels, _compute_batch_records(network, dtype))
    return torch.cat([_compute_batch_features(network, images, dtype) for images in batches])


def _compute_batch_features(network: IntegerNetwork, pixels: Tensor, dtype: torch.dtype) -> Tensor:
    activations = (pixels >> 1).permute(0, 2, 3, 1).to(torch.float32)
    for index, layer in enumerate(network.spec.layers[:-2]):
        sums = _convolve(activations, _get_matrix(network, index, pixels.device), dtype)
        if layer.pooled:
            # M ≥ 0 makes the map monotone, so the pool may come first and leave it a quarter of the work.
            sums = F.max_pool2d(sums.permute(0, 3, 1, 2), _POOL).permute(0, 2, 3, 1)
        activations = normalise_sums(network, index, sums)
    return activations.permute(0, 3, 1, 2).flatten(1)


def normalise_sums(network: IntegerNetwork, index: int, sums: Tensor) -> Tensor:
    """float32 clamp((acc·M + B + 2^23) >> 24, 0, 127) for sums[..., out] of a normalised layer."""
    multipliers = torch.from_numpy(network.multipliers[index].astype(np.float64)).to(sums.device)
    offsets = torch.from_numpy(network.offsets[index].astype(np.float64) + _HALF).to(sums.device)
    # All of it stays below 2^53 (§2), so float64 loses nothing.
    scaled = sums.double().mul_(multipliers).add_(offsets)
    return scaled.mul_(_STEP).floor_().clamp_(0, 127).float()


@torch.no_grad()
def _compute_logits(network: IntegerNetwork, pixels: Tensor, dtype: torch.dtype) -> Tensor:
    with _plain_float32():
        parts = [
            _compute_dense(network, _compute_batch_features(network, images, dtype), dtype)
            for images in torch.split(pixels, _compute_batch_records(network, dtype))
        ]
    return torch.cat(parts)


def _compute_dense(network: IntegerNetwork, features: Tensor, dtype: torch.dtype) -> Tensor:
    last = len(network.spec.layers) - 1
    sums = _multiply(features, _get_matrix(network, last - 1, features.device), dtype)
    hidden = normalise_sums(network, last - 1, sums)
    logits = _multiply(hidden, _get_matrix(network, last, features.device), dtype)
    return logits.double() + torch.from_numpy(network.bias).to(features.device)


def _get_matrix(network: IntegerNetwork, index: int, device: torch.device) -> Tensor:
    """float32[out, terms] weights of a layer; a convolution's terms in the order row, column, channel."""
    layer = network.spec.layers[index]
    weights = torch.from_numpy(network.weights[layer.start : layer.stop].astype(np.float32)).view(layer.shape)
    if layer.kind == "convolution":
        weights = weights.permute(0, 2, 3, 1).flatten(1)
    return weights.to(device)


def _convolve(activations: Tensor, matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """[n, y, x, in] → [n, y, x, out] by one matrix product: each 3×3 window is a row."""
    count, height, width, channels = activations.shape
    padded = F.pad(activations, (0, 0, 1, 1, 1, 1))
    image, row, column, _ = padded.stride()
    # The three columns of a window lie side by side in memory, so a window is three runs of 3·in values.
    windows = padded.as_strided((count, height, width, 3, 3 * channels), (image, row, column, row, 1))
    return _multiply(windows.reshape(-1, 9 * channels), matrix, dtype).view(count, height, width, -1)


def _multiply(rows: Tensor, matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """rows[n, terms] @ matrix[out, terms]ᵀ, cut where `dtype` could lose a unit and added up in float64."""
    terms = _EXACT_TERMS[dtype]
    pieces = zip(torch.split(rows, terms, 1), torch.split(matrix, terms, 1), strict=True)
    products = [left.to(dtype) @ right.to(dtype).T for left, right in pieces]
    return products[0] if len(products) == 1 else torch.stack(products).double().sum(0)


def _compute_batch_records(network: IntegerNetwork, dtype: torch.dtype) -> int:
    """How many records to take at once, so that the windows of the widest layer stay near the cache."""
    spec, widest, positions = network.spec, 1, network.spec.h * network.spec.w
    for layer in spec.layers[:-2]:
        widest = max(widest, layer.fan_in * positions)
        positions //= 4 if layer.pooled else 1
    return max(1, _WINDOW_BYTES // (dtype.itemsize * widest))


@contextmanager
def _plain_float32() -> Iterator[None]:
    """No TensorFloat-32 and no bfloat16 in float32 products: either would round the factors."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _is_exact(compute_logits: ComputeLogits, device: torch.device) -> bool:
    return all(_is_exact_on(compute_logits, device, case) for case in WORST_CASES)


def _is_exact_on(compute_logits: ComputeLogits, device: torch.device, case: WorstCase) -> bool:
    known = compute_known_answer(case)
    logits = compute_logits(known.network, torch.from_numpy(known.pixels).to(device)).cpu()
    classes = torch.from_numpy(np.argmax(known.logits, axis=1))
    return torch.equal(logits.long(), torch.from_numpy(known.logits)) and torch.equal(
        logits.argmax(1), classes
    )
