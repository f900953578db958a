"""Training a twin, or several in one pass: Adam under a one-cycle schedule, one step after the other.

Owns the step, the order of the samples and the schedule. When to stop is the attempt's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from training.adam import Adam
from training.data import TrainingData
from training.graphs import RepeatedStep
from training.precision import mix_precision
from training.recipe import Recipe
from training.stack import TwinStack
from training.stack_adam import StackAdam
from training.twin import Twin


class Ranks(Protocol):
    """Processes that train one network together, a share of every batch each (training.parallel)."""

    def take(self, indices: Tensor) -> Tensor:
        """This process's share of int64[batch] indices."""

    def join(self, model: Twin | TwinStack, right: Tensor) -> Tensor:
        """Averages gradients and statistics over all processes; returns their right answers in sum."""


def train(
    twin: Twin,
    data: TrainingData,
    recipe: Recipe,
    samples: int,
    generator: torch.Generator,
    ranks: Ranks | None = None,
) -> Iterator[Tensor]:
    """Trains for `samples` samples and yields after every step: int64[] right answers in its batch.

    The tensor is not waited for here, so that a GPU is never idle between two steps. All `ranks` get the same
    twin, data and generator's state, and keep them.
    """
    steps = samples // recipe.batch
    batches = draw_batches(len(data.train), recipe.batch, generator)
    take = build_step(twin, data, recipe, build_optimiser(twin, recipe), ranks)
    twin.train()
    for step in range(steps):
        indices = next(batches) if ranks is None else ranks.take(next(batches))
        yield take(indices.to(data.inputs.device, non_blocking=True), (step + 0.5) / steps)


Step = Callable[[Tensor, float | Tensor], Tensor]
"""(int64[batch] indices, share of all steps that are done) → int64[] right answers.

Of a stack int64[K, batch], float[K] and int64[K].
"""


def build_step(
    model: Twin | TwinStack,
    data: TrainingData,
    recipe: Recipe,
    optimiser: Adam | StackAdam,
    ranks: Ranks | None = None,
) -> Step:
    """A function that takes a training step, recorded on a GPU: a new block's watermark compiles nothing."""

    def take(indices: Tensor, progress: float | Tensor) -> Tensor:
        loss, right = compute_loss(model, data.inputs[indices], data.train.labels[indices], recipe)
        compute_gradients(optimiser, loss)
        right = right if ranks is None else ranks.join(model, right)
        take_step(model, optimiser, recipe, progress)
        return right

    # Processes that step together read a flag of their exchange, for which a recording cannot stop.
    return take if ranks else RepeatedStep(take, data.inputs.device)


def compute_gradients(optimiser: Adam | StackAdam | torch.optim.Optimizer, loss: Tensor) -> None:
    """Those of a float[] loss, in place of what was there."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]


def take_step(
    model: Twin | TwinStack, optimiser: Adam | StackAdam, recipe: Recipe, progress: float | Tensor
) -> None:
    """Moves by the gradients, at the rates after `progress` of all steps, and back into the bounds."""
    share = compute_one_cycle(progress, recipe.warm_up)
    if isinstance(optimiser, StackAdam):
        optimiser.step(torch.as_tensor(share))
    else:
        set_rates(optimiser, share)
        optimiser.step()
    model.apply_bounds()


def compute_loss(
    model: Twin | TwinStack, inputs: Tensor, labels: Tensor, recipe: Recipe
) -> tuple[Tensor, Tensor]:
    """float[] loss of a batch and int64[] right answers in it.

    Of a stack, which takes a batch for each twin: the sum of their losses, int64[K] right answers.
    """
    with mix_precision(inputs.device):
        logits = model(inputs)
    scaled = logits.float().flatten(0, -2) * recipe.logit_scale
    loss = F.cross_entropy(scaled, labels.flatten(), label_smoothing=recipe.label_smoothing)
    count = labels.numel() // labels.shape[-1]
    return loss * count, (logits.detach().argmax(-1) == labels).sum(-1)


def build_stack_optimiser(stack: TwinStack, recipe: Recipe) -> StackAdam:
    """What `build_optimiser` gives, for every twin of a stack."""
    return StackAdam(stack, recipe.weight_rate, recipe.normalisation_rate, recipe.betas)


def build_optimiser(twin: Twin, recipe: Recipe) -> Adam:
    """Adam on the free weights and, at a rate of its own, on everything that no watermark touches."""
    others = [twin.bias, *twin.gains, *twin.shifts]
    groups = [
        {"params": [twin.free], "peak": recipe.weight_rate},
        {"params": others, "peak": recipe.normalisation_rate},
    ]
    return Adam(groups, recipe.betas)


def set_rates(optimiser: Adam | torch.optim.Optimizer, share: float | Tensor) -> None:
    """Every group's learning rate to this share of its peak."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].copy_(share * group["peak"])
        else:
            group["lr"] = share * group["peak"]


def compute_one_cycle(progress: float | Tensor, warm_up: float) -> float | Tensor:
    """Share of the peak rate after `progress` of all steps: up in a line, then down to zero."""
    if isinstance(progress, Tensor):
        return torch.minimum(progress / warm_up, (1 - progress) / (1 - warm_up))
    return progress / warm_up if progress < warm_up else (1 - progress) / (1 - warm_up)


def draw_batches(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """int64[batch] indices without end; every record once before any comes again."""
    stream = torch.empty(0, dtype=torch.int64)
    while True:
        while len(stream) < batch:
            stream = torch.cat([stream, torch.randperm(count, generator=generator)])
        yield stream[:batch]
        stream = stream[batch:]
