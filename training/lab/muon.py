"""Muon for the free weights of a twin: each layer's momentum is made orthogonal, then masked.

Owns this optimiser alone (K. Jordan's, 2024). Frozen places are zeros in the momentum and are left out of the
update; what else the twin trains is stepped by Adam.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from consensus.network import Layer
from training.twin import Twin

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the fifth-degree polynomial that takes singular values from (0, 1] to about 1 in five steps."""
_STEPS = 5


class Muon(torch.optim.Adam):
    """Muon for the first group, which is the twin's free weights; Adam for the others."""

    def __init__(self, twin: Twin, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups, lr=0.0, betas=betas, fused=True)
        self._twin, self._beta = twin, betas[0]
        self._momentum = torch.zeros_like(twin.free)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Takes a step of both."""
        free = self._twin.free
        gradient, free.grad = free.grad, None
        if gradient is not None:
            self._momentum.mul_(self._beta).add_(gradient)
            update = self._orthogonalise(gradient + self._beta * self._momentum)
            free.sub_(update, alpha=self.param_groups[0]["lr"])
        super().step()

    def _orthogonalise(self, momentum: Tensor) -> Tensor:
        """float[N - frozen_count]; a root mean square near 1 whatever a layer's shape, like Adam's update."""
        places = self._twin.free_indices
        whole = torch.zeros_like(self._twin.frozen_weights).index_copy(0, places, momentum)
        return torch.cat([_orthogonalise_layer(layer, whole) for layer in self._twin.spec.layers])[places]


def orthogonalise(matrix: Tensor) -> Tensor:
    """float[m, n] with the singular vectors of `matrix` and singular values near 1 (Newton and Schulz)."""
    a, b, c = _COEFFICIENTS
    result = F.normalize(matrix.flatten(), dim=0).view_as(matrix)
    if is_tall := matrix.shape[0] > matrix.shape[1]:
        result = result.T
    for _ in range(_STEPS):
        square = result @ result.T
        result = a * result + (b * square + c * square @ square) @ result
    return result.T if is_tall else result


def _orthogonalise_layer(layer: Layer, whole: Tensor) -> Tensor:
    matrix = whole[layer.start : layer.stop].view(layer.shape[0], -1)
    return (orthogonalise(matrix) * math.sqrt(max(matrix.shape))).reshape(-1)
