"""Twins of one network under several watermarks, trained in one pass.

A small network leaves a processor mostly idle: what it waits for is the next operation, not the last product.
Here convolutions are grouped, by twin or by a few twins, and everything else has the twins as one more
dimension: as long as values are finite nothing of one reaches another, and every step is what each would do
alone, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.quantisation import place_weights
from training.twin import EPSILON, Twin, TwinBase

_LEAST_INPUTS, _MOST_INPUTS = 8, 16
"""Channels of a merged group: a vector of float32, or two. More are slower in bfloat16, too."""


def convolve(activations: Tensor, weights: Tensor, count: int) -> Tensor:
    """float[n, count·outputs, h, w] sums of `count` twins' own channels.

    Of float[n, count·inputs, h, w] and float[count·outputs, inputs, 3, 3]. Twins of few channels share a
    group: the products between them are with zeros, and still cost less than groups of four channels do.
    """
    merged = choose_merged(count, weights.shape[1])
    if merged > 1:
        own = torch.eye(merged, dtype=weights.dtype, device=weights.device)
        parts = weights.view(-1, merged, len(weights) // count, 1, weights.shape[1], 3, 3)
        weights = (parts * own.view(merged, 1, merged, 1, 1, 1)).reshape(len(weights), -1, 3, 3)
    return F.conv2d(activations, weights, padding=1, groups=count // merged)


def choose_merged(count: int, inputs: int) -> int:
    """Twins in a group: a divisor of their number, the first that fills a vector and not more than two."""
    fitting = [n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * inputs <= _MOST_INPUTS)]
    return next((n for n in fitting if n * inputs >= _LEAST_INPUTS), fitting[-1])


class TwinStack(TwinBase):
    """`twins` as one network, begun with their values; from then on what they hold are views of its own."""

    def __init__(self, twins: Sequence[Twin]) -> None:
        """Raises ValueError where the twins' networks or numbers of free weights differ.

        Twins of another kind, which compute something of their own, are refused too.
        """
        super().__init__()
        _check_fit(twins)
        self.spec = twins[0].spec
        self.twins = tuple(twins)
        self.free = nn.Parameter(torch.stack([twin.free.detach() for twin in twins]))
        self.bias = nn.Parameter(torch.stack([twin.bias.detach() for twin in twins]))
        self.gains = nn.ParameterList(_stack([list(twin.gains) for twin in twins]))
        self.shifts = nn.ParameterList(_stack([list(twin.shifts) for twin in twins]))
        self.means = _stack([twin.means for twin in twins])
        self.variances = _stack([twin.variances for twin in twins])
        count, layers = len(twins), self.spec.layers
        every = [torch.arange(count * layer.start, count * layer.stop) for layer in layers]
        # int64[K, N]: where the stack has a twin's weights; int64[K·F]: its free ones among them.
        self._rows = torch.cat([part.view(count, -1) for part in every], 1).to(self.free.device)
        self._places = self._rows.new_zeros(self.free.numel())
        self._frozen_weights = self.free.new_zeros(count * self.spec.weight_count)
        for place in range(count):
            self._bind(place)
            self._arrange(place)

    def __len__(self) -> int:
        return len(self.twins)

    def replace(self, place: int, twin: Twin) -> None:
        """Puts a twin where another was, which keeps what it held as its own.

        All tensors of the stack stay where they are. Raises ValueError for a twin that does not fit.
        """
        _check_fit([self.twins[place], twin])
        _release(self.twins[place])
        for whole, value in zip(self.parameters(), _get_parameters(twin), strict=True):
            whole.data[place].copy_(value.data)
        for wholes, values in ((self.means, twin.means), (self.variances, twin.variances)):
            for statistics, own in zip(wholes, values, strict=True):
                statistics[place].copy_(own)
        self.twins = (*self.twins[:place], twin, *self.twins[place + 1 :])
        self._bind(place)
        self._arrange(place)

    def compute_weights(self) -> Tensor:
        """float[K·N] grid weights, layer by layer and in each twin by twin; the free ones have a gradient."""
        return place_weights(self.free.flatten(), self._frozen_weights, self._places)

    def forward(self, activations: Tensor) -> Tensor:
        """float[K, n, classes] logits of float[K, n, c, h, w] activations, K times n records."""
        count, records, channels, height, width = activations.shape
        # Every twin's records on channels of its own, and these last in memory.
        rows = activations.permute(1, 3, 4, 0, 2).reshape(records, height, width, count * channels)
        *convolutions, hidden, last = self._split(self.compute_weights())
        activations = rows.contiguous().permute(0, 3, 1, 2)
        for index, weights in enumerate(convolutions):
            sums = convolve(activations, weights, count)
            activations = self._normalise(index, sums, self.spec.layers[index].pooled)
        features = self._part(activations)
        sums = torch.bmm(features, hidden.transpose(1, 2))
        merged = sums.transpose(0, 1).reshape(records, -1)
        activations = self._normalise(len(self.gains) - 1, merged, pooled=False)
        parted = activations.view(records, count, -1).transpose(0, 1)
        return torch.bmm(parted, last.transpose(1, 2)) + self.bias[:, None]

    def extract(self, activations: Tensor) -> Tensor:
        """float[K, n, flat] behind every twin's convolutions of the same float[n, c, h, w] activations.

        Normalised by these records; keeps no statistics.
        """
        for index, weights in enumerate(self._split(self.compute_weights())[:-2]):
            sums = (
                convolve(activations, weights, len(self))
                if index
                else F.conv2d(activations, weights, padding=1)
            )
            gain, shift = self.gains[index].view(-1), self.shifts[index].view(-1)
            values = F.batch_norm(sums, None, None, gain, shift, training=True, eps=EPSILON)
            activations = self._pool_and_activate(values, self.spec.layers[index].pooled)
        return self._part(activations)

    def _part(self, activations: Tensor) -> Tensor:
        """float[K, n, flat] of what the convolutions left on every twin's channels."""
        records = len(activations)
        parted = activations.reshape(records, len(self), -1, *activations.shape[2:])
        return parted.transpose(0, 1).reshape(len(self), records, -1)

    def _split(self, weights: Tensor) -> list[Tensor]:
        """Convolutions float[K·outputs, inputs, 3, 3], dense layers float[K, outputs, inputs]."""
        layers, count = self.spec.layers, len(self)
        parts = torch.split(weights, [count * (layer.stop - layer.start) for layer in layers])
        return [
            part.view(count * layer.outputs, *layer.shape[1:])
            if layer.kind == "convolution"
            else part.view(count, *layer.shape)
            for part, layer in zip(parts, layers, strict=True)
        ]

    def _bind(self, place: int) -> None:
        """Makes the twin there a view of this stack."""
        twin = self.twins[place]
        for whole, part in zip(self.parameters(), _get_parameters(twin), strict=True):
            part.data = whole.data[place]
        twin.means = [mean[place] for mean in self.means]
        twin.variances = [variance[place] for variance in self.variances]

    def _arrange(self, place: int) -> None:
        """Takes the twin's frozen weights and the places of its free ones."""
        twin, row = self.twins[place], self._rows[place]
        self._frozen_weights[row] = twin.frozen_weights
        self._places.view(len(self), -1)[place] = row[twin.free_indices]


def _check_fit(twins: Sequence[Twin]) -> None:
    if any(type(twin) is not Twin for twin in twins):
        raise ValueError("twins of another kind do not stack")
    if len({(twin.spec, twin.free.shape) for twin in twins}) != 1:
        raise ValueError("twins of one stack have one network and one number of free weights")


def _get_parameters(twin: Twin) -> tuple[nn.Parameter, ...]:
    """In a stack's order."""
    return (twin.free, twin.bias, *twin.gains, *twin.shifts)


def _release(twin: Twin) -> None:
    """What a twin holds becomes its own."""
    for parameter in _get_parameters(twin):
        parameter.data = parameter.data.clone()
    twin.means = [mean.clone() for mean in twin.means]
    twin.variances = [variance.clone() for variance in twin.variances]


def _stack(lists: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.stack([value.detach() for value in values]) for values in zip(*lists, strict=True)]
