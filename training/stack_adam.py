"""Adam on a stack of twins (training.stack), each at a step and a rate of its own.

Twins join a stack while others are half way, so neither the count of steps nor the rate is the stack's. All
parameters are one vector here: a small network's update would else be dozens of operations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training.adam import EPSILON
from training.stack import TwinStack


class StackAdam:
    """The same steps as training.adam's on every twin alone, up to rounding.

    Where a GPU has recorded a step, what it holds stays where it is.
    """

    def __init__(
        self, stack: TwinStack, weight_rate: float, other_rate: float, betas: tuple[float, float]
    ) -> None:
        """Peak rates of the free weights and of everything that no watermark touches."""
        self._parameters = list(stack.parameters())
        peaks = [weight_rate if parameter is stack.free else other_rate for parameter in self._parameters]
        sizes = [parameter.numel() for parameter in self._parameters]
        sample = stack.free
        self._peaks = torch.cat([sample.new_full((n,), peak) for n, peak in zip(sizes, peaks, strict=True)])
        # int64[sum of all sizes]: whose a number is.
        self._owners = torch.cat(
            [torch.arange(len(stack), device=sample.device).repeat_interleave(n // len(stack)) for n in sizes]
        )
        self._sizes, self._betas = sizes, betas
        self._first, self._second = torch.zeros_like(self._peaks), torch.zeros_like(self._peaks)
        self._steps = sample.new_zeros(len(stack))

    def zero_grad(self) -> None:
        """Drops all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, share: Tensor) -> None:
        """Moves every twin by its gradients, at these shares, float[K], of the peak rates."""
        first_beta, second_beta = self._betas
        gradients = torch.cat([_get_gradient(parameter) for parameter in self._parameters])
        self._steps.add_(1)
        self._first.lerp_(gradients, 1 - first_beta)
        self._second.mul_(second_beta).addcmul_(gradients, gradients, value=1 - second_beta)
        rates = (share / (1 - first_beta**self._steps))[self._owners] * self._peaks
        scales = (1 - second_beta**self._steps).rsqrt()[self._owners]
        moves = self._first * rates / (self._second.sqrt() * scales + EPSILON)
        for parameter, move in zip(self._parameters, torch.split(moves, self._sizes), strict=True):
            parameter.sub_(move.view_as(parameter))

    def forget(self, place: int) -> None:
        """A twin is new at this place: its next step is its first."""
        for values in (self._first, self._second):
            values.masked_fill_(self._owners == place, 0)
        self._steps[place] = 0

    def take(self, places: Sequence[int], smaller: TwinStack) -> StackAdam:
        """That of a smaller stack with the twins at these places, to go on as before."""
        taken = StackAdam(smaller, 0, 0, self._betas)
        index = torch.tensor(places, device=self._steps.device)
        taken._steps = self._steps[index]
        ours, theirs = self._split(len(self._steps)), taken._split(len(places))
        for mine, part in zip(ours, theirs, strict=True):
            for old, new in zip(mine, part, strict=True):
                new.copy_(old[index])
        return taken

    def _split(self, count: int) -> list[list[Tensor]]:
        """Peaks and moments as float[K, …] of every parameter."""
        vectors = (self._peaks, self._first, self._second)
        return [[part.view(count, -1) for part in torch.split(vector, self._sizes)] for vector in vectors]


def _get_gradient(parameter: torch.nn.Parameter) -> Tensor:
    assert parameter.grad is not None, "a stack's parameters all have a gradient"
    return parameter.grad.reshape(-1)
