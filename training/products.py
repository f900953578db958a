"""Matrix products that lose nothing, one for each number format that machines multiply fast (protocol §11).

Owns formats and the limits within which each is exact. What is multiplied is training.inference's, and which
product a machine may use training.evaluator's: it tests them first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_FLOAT32_TERMS = (2**24 - 1) // 127**2
"""1,040: as many products of 127 and 127 as float32 adds up, in any order, without a rounding."""


@dataclass(frozen=True, slots=True)
class Product:
    """A number format, and how sums of up to 16,640 products come out of it exactly."""

    activations: torch.dtype
    """Of the rows; holds 0..127."""
    weights: torch.dtype
    """Of the matrix; holds -127..127."""
    multiply: Callable[[Tensor, Tensor], Tensor]
    """(rows[n, terms], matrix[terms, out]) → exact sums[n, out], in int32, float32 or float64."""


def multiply_in_float32(rows: Tensor, matrix: Tensor) -> Tensor:
    """float32 sums, or float64 ones added up from pieces that are short enough for float32."""
    if rows.shape[1] <= _FLOAT32_TERMS:
        return rows @ matrix
    pieces = zip(torch.split(rows, _FLOAT32_TERMS, 1), torch.split(matrix, _FLOAT32_TERMS), strict=True)
    total = torch.zeros(len(rows), matrix.shape[1], dtype=torch.float64, device=rows.device)
    for left, right in pieces:
        total += left @ right
    return total


# oneDNN multiplies u8 by i8 in pairs, which 127·127·2 does not overflow. Signed rows it would shift by 128
# first; where the processor has no VNNI their pairs saturate, and the sums are wrong.
INT8 = Product(torch.uint8, torch.int8, torch._int_mm)

FLOAT32 = Product(torch.float32, torch.float32, multiply_in_float32)
FLOAT64 = Product(torch.float64, torch.float64, torch.matmul)
