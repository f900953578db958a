"""The training-time twin of the integer network: the same CNN in floats, with gradients (protocol §2, §5).

The watermark acts during back-propagation (the paper's §3.6): frozen weights are constants of the graph, so
they have no gradient and cannot move. Only `free` is trained, with the normalisations and the last bias.
`export` folds everything into integers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consensus.network import BIAS_BOUND, MULTIPLIER_LIMIT, OFFSET_BOUND, IntegerNetwork, NetworkSpec
from consensus.watermark import Watermark
from training.quantisation import LEVELS, get_weight_levels, place_weights, quantise_activations

_log = logging.getLogger("freezenet.training")

EPSILON = 1e-5
MOMENTUM = 0.1
"""Of the running statistics, as the newest batch has it."""
_FOLD = 2**24
_FEW_CHANNELS = 4


class TwinBase(nn.Module):
    """What one twin and several in one pass (training.stack) have in common: normalisations and bounds."""

    spec: NetworkSpec
    """Of each twin."""
    free: nn.Parameter
    gains: nn.ParameterList
    shifts: nn.ParameterList
    means: list[Tensor]
    variances: list[Tensor]

    def activate(self, values: Tensor) -> Tensor:
        """Grid values of normalised sums."""
        return quantise_activations(values)

    @torch.no_grad()
    def apply_bounds(self) -> None:
        """After an optimiser's step: free weights into [-1, 1], gains to 0 or more."""
        self.free.clamp_(-1, 1)
        for gain in self.gains:
            gain.clamp_(min=0)

    def _normalise(self, index: int, sums: Tensor, pooled: bool) -> Tensor:
        """Activations; the channels of several twins lie one after the other, as their statistics do."""
        fused = find_fused(sums, pooled) if self.training else None
        if fused is None:
            return self.normalise_apart(index, sums, pooled)
        terms = self.gains[index].view(-1), self.shifts[index].view(-1)
        statistics = self.means[index].view(-1), self.variances[index].view(-1)
        return fused(sums, *terms, *statistics, MOMENTUM, EPSILON, pooled, LEVELS)

    def normalise_apart(self, index: int, sums: Tensor, pooled: bool) -> Tensor:
        """The same by torch's own operations, one after the other."""
        values = F.batch_norm(
            sums,
            self.means[index].view(-1),
            self.variances[index].view(-1),
            self.gains[index].view(-1),
            self.shifts[index].view(-1),
            self.training,
            momentum=MOMENTUM,
            eps=EPSILON,
        )
        return self._pool_and_activate(values, pooled)

    def _pool_and_activate(self, values: Tensor, pooled: bool) -> Tensor:
        # A gain is never negative, so the pool may come first and leave the rounding a quarter of the work.
        return self.activate(F.max_pool2d(values, 2) if pooled else values)


def convolve(activations: Tensor, weights: Tensor) -> Tensor:
    """float[n, outputs, h, w] sums of 3×3 windows of float[n, inputs, h, w], zeros about them.

    Images, which have few channels and want no gradient, a GPU takes by a kernel of their own where it may
    mix precisions.
    """
    is_image = activations.shape[1] <= _FEW_CHANNELS and not activations.requires_grad
    if is_image and activations.is_cuda and torch.is_autocast_enabled("cuda"):
        kernels = _load_kernels()
        if kernels:
            return kernels.convolve_images(activations, weights)
    return F.conv2d(activations, weights, padding=1)


def find_fused(sums: Tensor, pooled: bool) -> Callable[..., Tensor] | None:
    """training.kernels' `normalise` where it takes float[n, c, h, w] or float[n, c] sums: on a GPU."""
    is_even = not any(size % 2 for size in sums.shape[2:]) if pooled else True
    kernels = _load_kernels() if sums.is_cuda and is_even else None
    return kernels.normalise if kernels else None


class _Kernels(NamedTuple):
    """What a GPU has kernels for (training.kernels)."""

    normalise: Callable[..., Tensor]
    convolve_images: Callable[[Tensor, Tensor], Tensor]


@cache
def _load_kernels() -> _Kernels | None:
    """None where Triton is not installed, or does not compile: it wants a compiler of C. Takes a while."""
    try:
        from training.kernels.images import convolve_images
        from training.kernels.normalisation import normalise

        kernels = _Kernels(normalise, convolve_images)
        _try(kernels, "cuda")
    except Exception as error:
        _log.warning("training goes on without kernels of its own: %s", error)
        return None
    return kernels


def _try(kernels: _Kernels, device: str) -> None:
    """Raises whatever keeps the kernels from running on a device, forward or backward."""
    images = torch.ones(1, 1, 2, 2, device=device)
    weights, gain = torch.ones(4, 1, 3, 3, device=device), torch.ones(4, device=device)
    with torch.enable_grad():
        sums = kernels.convolve_images(images, weights.requires_grad_())
        statistics = torch.zeros_like(gain), torch.ones_like(gain)
        terms = gain.requires_grad_(), torch.zeros_like(gain)
        values = kernels.normalise(sums, *terms, *statistics, MOMENTUM, EPSILON, True, LEVELS)
        torch.autograd.grad(values.float().sum(), (weights, gain))


class Twin(TwinBase):
    """The network of `spec` under `watermark`, on one device.

    Activations are grid values a/127 in [0, 1], weights grid values w/127 in [-1, 1], so a sum of the integer
    network is 127² times a sum here.
    """

    free: nn.Parameter
    """float[N - frozen_count], latent free weights in index order, in [-1, 1]."""
    bias: nn.Parameter
    """float[classes] of the last layer."""
    frozen_weights: Tensor
    """float[N]: the watermark's values/127 at the frozen places, 0 elsewhere."""
    free_indices: Tensor
    """int64[N - frozen_count], the free places, increasing."""

    def __init__(
        self,
        spec: NetworkSpec,
        watermark: Watermark,
        generator: torch.Generator,
        gain: float,
        shift: float,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.spec = spec
        self.watermark = watermark
        weights = np.zeros(spec.weight_count, dtype=np.float32)
        weights[watermark.indices] = watermark.values.astype(np.float32) / LEVELS
        free_indices = torch.from_numpy(np.flatnonzero(~watermark.frozen_mask))
        self.register_buffer("frozen_weights", torch.from_numpy(weights))
        self.register_buffer("free_indices", free_indices)
        self.free = nn.Parameter(_draw_grid(len(free_indices), generator))
        self.bias = nn.Parameter(torch.zeros(spec.classes))
        self.gains = nn.ParameterList(torch.full((n,), gain) for n in spec.normalised_outputs)
        self.shifts = nn.ParameterList(torch.full((n,), shift) for n in spec.normalised_outputs)
        self.to(device)
        self.means = [torch.zeros(n, device=device) for n in spec.normalised_outputs]
        self.variances = [torch.ones(n, device=device) for n in spec.normalised_outputs]

    def compute_weights(self) -> Tensor:
        """float[N] grid weights; the gradient reaches the free ones alone."""
        return place_weights(self.free, self.frozen_weights, self.free_indices)

    def forward(self, activations: Tensor) -> Tensor:
        """float[n, classes] logits of float[n, c, h, w] activations; in training normalised by the batch."""
        *convolutions, hidden, last = self._split(self.compute_weights())
        for index, weights in enumerate(convolutions):
            sums = convolve(activations, weights)
            activations = self._normalise(index, sums, self.spec.layers[index].pooled)
        return self._classify(activations.flatten(1), hidden, last)

    def classify(self, features: Tensor, weights: Tensor) -> Tensor:
        """float[n, classes] logits of float[n, flat] activations behind the convolutions."""
        return self._classify(features, *self._split(weights)[-2:])

    def _classify(self, features: Tensor, hidden: Tensor, last: Tensor) -> Tensor:
        sums = F.linear(features, hidden)
        activations = self._normalise(len(self.gains) - 1, sums, pooled=False)
        return F.linear(activations, last) + self.bias

    def _split(self, weights: Tensor) -> list[Tensor]:
        """The layers' matrices; as one operation, whose gradient is one too."""
        parts = torch.split(weights, [layer.stop - layer.start for layer in self.spec.layers])
        return [part.view(layer.shape) for part, layer in zip(parts, self.spec.layers, strict=True)]

    @torch.no_grad()
    def export(self) -> IntegerNetwork:
        """The integer network that predicts as this one does, up to the rounding of folded normalisations."""
        free = get_weight_levels(self.free).cpu().numpy()
        folded = [self._fold(index) for index in range(len(self.gains))]
        bias = (self.bias.double() * LEVELS**2).round().clamp(-BIAS_BOUND, BIAS_BOUND)
        return IntegerNetwork(
            self.spec,
            self.watermark.assemble(free),
            tuple(multipliers for multipliers, _ in folded),
            tuple(offsets for _, offsets in folded),
            bias.cpu().numpy().astype(np.int32),
        )

    def _fold(self, index: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        scale = self.gains[index].double() / (self.variances[index].double() + EPSILON).sqrt()
        shift = self.shifts[index].double() - scale * self.means[index].double()
        multipliers = (scale * (_FOLD / LEVELS)).round().clamp(0, MULTIPLIER_LIMIT - 1)
        offsets = (shift * (_FOLD * LEVELS)).round().clamp(-OFFSET_BOUND, OFFSET_BOUND)
        return multipliers.cpu().numpy().astype(np.uint32), offsets.cpu().numpy().astype(np.int64)


def _draw_grid(count: int, generator: torch.Generator) -> Tensor:
    levels = torch.randint(-LEVELS, LEVELS + 1, (count,), generator=generator)
    return levels.float() / LEVELS
