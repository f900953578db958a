"""Solutions: the free weights and the folded normalisation, to bytes and back (protocol §6).

Frozen weights never travel: they are recomputed, so a decoded network carries its watermark by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consensus.errors import BadDelivery, Code
from consensus.network import (
    BIAS_BOUND,
    MULTIPLIER_LIMIT,
    OFFSET_BOUND,
    IntegerNetwork,
    NetworkSpec,
)
from consensus.watermark import Watermark


@dataclass(frozen=True, slots=True)
class Solution:
    """What a miner found: everything of a network that its watermark does not fix."""

    free: npt.NDArray[np.int8]
    """int8[N - frozen_count], the free weights in index order."""
    multipliers: tuple[npt.NDArray[np.uint32], ...]
    """M of each normalised layer, uint32[out]."""
    offsets: tuple[npt.NDArray[np.int64], ...]
    """B of each normalised layer, int64[out]."""
    bias: npt.NDArray[np.int32]
    """int32[classes]."""


def compute_solution_bytes(spec: NetworkSpec, frozen_count: int) -> int:
    """Length in bytes of every solution of a network with `frozen_count` frozen weights."""
    return spec.weight_count - frozen_count + 12 * sum(spec.normalised_outputs) + 4 * spec.classes


def encode_solution(solution: Solution) -> bytes:
    """free weights ‖ (M ‖ B) of each normalised layer ‖ bias."""
    parts = [solution.free.astype("i1", casting="safe").tobytes()]
    for multipliers, offsets in zip(solution.multipliers, solution.offsets, strict=True):
        parts.append(multipliers.astype("<u4", casting="safe").tobytes())
        parts.append(offsets.astype("<i8", casting="safe").tobytes())
    parts.append(solution.bias.astype("<i4", casting="safe").tobytes())
    return b"".join(parts)


def decode_solution(spec: NetworkSpec, frozen_count: int, data: bytes) -> Solution:
    """The checked solution in `data`.

    Raises BadDelivery with SOLUTION_LENGTH, WEIGHT_OUT_OF_RANGE, MULTIPLIER_OUT_OF_RANGE,
    OFFSET_OUT_OF_RANGE or BIAS_OUT_OF_RANGE.
    """
    expected = compute_solution_bytes(spec, frozen_count)
    if len(data) != expected:
        raise BadDelivery(Code.SOLUTION_LENGTH, f"{len(data)} bytes, not {expected}")
    position = spec.weight_count - frozen_count
    free = np.frombuffer(data, dtype="i1", count=position)
    multipliers: list[npt.NDArray[np.uint32]] = []
    offsets: list[npt.NDArray[np.int64]] = []
    for outputs in spec.normalised_outputs:
        multipliers.append(np.frombuffer(data, "<u4", outputs, position).astype(np.uint32))
        offsets.append(np.frombuffer(data, "<i8", outputs, position + 4 * outputs).astype(np.int64))
        position += 12 * outputs
    bias = np.frombuffer(data, "<i4", spec.classes, position).astype(np.int32)
    solution = Solution(free, tuple(multipliers), tuple(offsets), bias)
    check_solution(solution)
    return solution


def check_solution(solution: Solution) -> None:
    """Raises BadDelivery for a value out of range. Compared without abs: |-2^63| is negative in 64 bits."""
    if np.any(solution.free == -128):
        raise BadDelivery(Code.WEIGHT_OUT_OF_RANGE, f"at free weight {np.argmax(solution.free == -128)}")
    for layer, multipliers in enumerate(solution.multipliers):
        if np.any(multipliers >= MULTIPLIER_LIMIT):
            raise BadDelivery(Code.MULTIPLIER_OUT_OF_RANGE, f"in normalised layer {layer}")
    for layer, offsets in enumerate(solution.offsets):
        if np.any((offsets < -OFFSET_BOUND) | (offsets > OFFSET_BOUND)):
            raise BadDelivery(Code.OFFSET_OUT_OF_RANGE, f"in normalised layer {layer}")
    if np.any((solution.bias < -BIAS_BOUND) | (solution.bias > BIAS_BOUND)):
        raise BadDelivery(Code.BIAS_OUT_OF_RANGE, f"{solution.bias.tolist()}")


def assemble_network(spec: NetworkSpec, watermark: Watermark, solution: Solution) -> IntegerNetwork:
    """The network of a solution under a watermark."""
    weights = watermark.assemble(solution.free)
    return IntegerNetwork(spec, weights, solution.multipliers, solution.offsets, solution.bias)


def extract_solution(network: IntegerNetwork, watermark: Watermark) -> Solution:
    """The solution that travels for a network. Raises ValueError if it does not carry the watermark."""
    if not np.array_equal(network.weights[watermark.indices], watermark.values):
        raise ValueError("a frozen weight differs from its watermark value")
    free = network.weights[~watermark.frozen_mask]
    return Solution(free, network.multipliers, network.offsets, network.bias)
