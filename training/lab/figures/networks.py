"""The paper's network in floats, several of them side by side (its figures 4 and 5).

It differs from the chain's network (protocol §2) where the paper's published code does: convolutions and
dense layers have biases, the hidden layer is rectified before it is normalised, dropout follows every block,
and the watermark may fall on biases, gains and shifts as well as on weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consensus.network import Layer, NetworkSpec
from training.twin import convolve, find_fused

_EPSILON = 1e-3
_MOMENTUM = 0.01
_HIDDEN_DROPOUT = 0.5


class PaperNetworks(nn.Module):
    """One network for each seed, trained by one pass: a grouped convolution computes them all."""

    values: nn.Parameter
    """float[members, size]: everything that is trained, a row a network."""

    def __init__(self, spec: NetworkSpec, seeds: Sequence[int], device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.spec, self.members = spec, len(seeds)
        self._sizes = [size for layer in spec.layers for size in _list_sizes(layer)]
        rows = [_draw_values(spec, torch.Generator().manual_seed(seed)) for seed in seeds]
        self.values = nn.Parameter(torch.stack(rows).to(device))
        outputs = [self.members * count for count in spec.normalised_outputs]
        self.means = [torch.zeros(count, device=device) for count in outputs]
        self.variances = [torch.ones(count, device=device) for count in outputs]
        self._momentum = _MOMENTUM
        self._is_estimating = False

    @property
    def size(self) -> int:
        """Trained values of one network."""
        return sum(self._sizes)

    def forward(self, images: Tensor) -> Tensor:
        """float[members, n, classes] logits of float[n, members·c, h, w] images, each member its own c."""
        parts = iter(torch.split(self.values, self._sizes, dim=1))
        activations = images
        for index, layer in enumerate(self.spec.layers[:-2]):
            weights, bias, gain, shift = (next(parts) for _ in range(4))
            filters = weights.reshape(-1, layer.inputs, 3, 3)
            activations = self._convolve(index, activations, filters, bias.flatten(), gain, shift)
            if layer.pooled:
                activations = self._drop(activations, (index // 2 + 2) / 10)
        return self._classify(activations, *parts)

    def _convolve(
        self, index: int, activations: Tensor, filters: Tensor, bias: Tensor, gain: Tensor, shift: Tensor
    ) -> Tensor:
        """The next activations, pooled where the layer is."""
        pooled = self.spec.layers[index].pooled
        fused = find_fused(activations, pooled) if self.training and self.members == 1 else None
        if fused is None:
            sums = F.conv2d(activations, filters, bias, padding=1, groups=self.members)
            values = F.relu(self._normalise(index, sums, gain, shift))
            return F.max_pool2d(values, 2) if pooled else values
        sums = convolve(activations, filters)
        terms, statistics = (gain.flatten(), shift.flatten()), (self.means[index], self.variances[index])
        results: Tensor = fused(sums, *terms, *statistics, self._momentum, _EPSILON, pooled, 0)
        # The mean of a batch takes the bias out again: what is left of it is its part of the running mean.
        self.means[index].add_(bias.detach(), alpha=self._momentum)
        return results

    def _classify(self, activations: Tensor, *parts: Tensor) -> Tensor:
        weights, bias, gain, shift, last_weights, last_bias = parts
        hidden, last = self.spec.layers[-2:]
        features = activations.reshape(len(activations), self.members, -1).transpose(0, 1)
        sums = F.relu(_multiply(features, weights, bias, hidden))
        rows = sums.transpose(0, 1).flatten(1)
        values = self._normalise(len(self.means) - 1, rows, gain, shift)
        units = values.view(len(rows), self.members, -1)
        return _multiply(self._drop(units, _HIDDEN_DROPOUT).transpose(0, 1), last_weights, last_bias, last)

    def _drop(self, activations: Tensor, share: float) -> Tensor:
        return F.dropout(activations, share, self.training)

    def _normalise(self, index: int, sums: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        return F.batch_norm(
            sums,
            self.means[index],
            self.variances[index],
            gain.flatten(),
            shift.flatten(),
            self.training or self._is_estimating,
            momentum=self._momentum,
            eps=_EPSILON,
        )

    @torch.no_grad()
    def estimate_statistics(self, batches: Sequence[Tensor]) -> None:
        """All normalisations' statistics anew: the mean over batches of images, without dropout."""
        self.eval()
        self._is_estimating = True
        for count, images in enumerate(batches, 1):
            self._momentum = 1 / count
            self(images)
        self._momentum, self._is_estimating = _MOMENTUM, False


def _list_sizes(layer: Layer) -> list[int]:
    """Weights, bias and, except behind the logits, gain and shift."""
    outputs = layer.outputs
    normalisation = [] if layer.kind == "logits" else [outputs, outputs]
    return [outputs * layer.fan_in, outputs, *normalisation]


def _draw_values(spec: NetworkSpec, generator: torch.Generator) -> Tensor:
    """float[size]: Glorot's uniform weights, gains 1, everything else 0."""
    parts = []
    for layer in spec.layers:
        receptive = layer.fan_in // layer.inputs
        bound = (6 / (layer.fan_in + layer.outputs * receptive)) ** 0.5
        parts.append((torch.rand(layer.outputs * layer.fan_in, generator=generator) * 2 - 1) * bound)
        parts.append(torch.zeros(layer.outputs))
        if layer.kind != "logits":
            parts += [torch.ones(layer.outputs), torch.zeros(layer.outputs)]
    return torch.cat(parts)


def _multiply(features: Tensor, weights: Tensor, bias: Tensor, layer: Layer) -> Tensor:
    """float[members, n, out] of float[members, n, in]."""
    matrices = weights.reshape(len(features), layer.outputs, layer.inputs)
    return torch.baddbmm(bias.unsqueeze(1), features, matrices.transpose(1, 2))
