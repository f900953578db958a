"""Fake quantisation: the integer network's values forward, gradients straight through.

Owns the two grids, 1/127 for weights and for activations. What the integers then mean is consensus.network's.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

LEVELS = 127


class _QuantiseWeights(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, latent: Tensor) -> Tensor:
        return (latent * LEVELS).round_().mul_(1 / LEVELS)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _PlaceWeights(Function):
    """One node of the graph, where an index_copy of quantised weights is two: a small network notices."""

    @staticmethod
    def forward(ctx: FunctionCtx, latent: Tensor, frozen: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return frozen.index_copy(0, places, (latent * LEVELS).round_().mul_(1 / LEVELS))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].index_select(0, *ctx.saved_tensors), None, None


def quantise_weights(latent: Tensor) -> Tensor:
    """round(127·θ)/127 for latent weights in [-1, 1]; the gradient passes unchanged."""
    return cast(Tensor, _QuantiseWeights.apply(latent))


def place_weights(latent: Tensor, frozen: Tensor, places: Tensor) -> Tensor:
    """float[N]: `frozen`, but quantised latent weights at int64[] `places`, where alone a gradient passes."""
    return cast(Tensor, _PlaceWeights.apply(latent, frozen, places))


def quantise_activations(values: Tensor) -> Tensor:
    """clamp(round(127·a), 0, 127)/127; the gradient passes where 0 < a < 1."""
    clamped = F.hardtanh(values, 0, 1)
    # Its gradient needs the values that went in, not these, which may be rounded where they lie: a function
    # of one's own takes longer than the rounding in a small network.
    clamped.detach().mul_(LEVELS).round_().mul_(1 / LEVELS)
    return clamped


def get_weight_levels(latent: Tensor) -> Tensor:
    """The int8 weights that `quantise_weights` stands for."""
    return (latent.detach() * LEVELS).round_().to(torch.int8)
