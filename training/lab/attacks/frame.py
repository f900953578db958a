"""What an attack is: another course to the same target, with a name and what it means to an operator.

Owns the ground that all courses of a comparison stand on, and the hooks by which an attack differs from the
reference: what it starts from, what it trains, and on what. Measuring is rows's, prices are prices's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from consensus.block import encode_header
from consensus.network import NetworkSpec
from consensus.watermark import Watermark, derive_watermark
from training.course import Course
from training.data import TrainingData
from training.lab.traces import digest_recipe
from training.optimise import build_optimiser, compute_gradients, draw_batches, take_step, train
from training.precision import mix_precision
from training.rate import pick_practice_header
from training.recipe import Plan, Recipe
from training.twin import Twin

_OWN_DRAWS = 2**31
"""Added to a seed; a generator of torch looks at its 32 low bits alone."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What every course of a comparison stands on."""

    network: NetworkSpec
    data: TrainingData
    dataset: str
    """As a trace names it."""
    recipe: Recipe
    """The reference's."""
    frozen: int
    """Share of the weights frozen, per 10,000."""
    samples: int
    """Of the reference's course at this share."""

    @property
    def title(self) -> str:
        """Of the network, in words."""
        network = self.network
        return f"{network.blocks} blocks of {network.filters}, hidden {network.hidden}"

    @property
    def key(self) -> tuple[str, str, int, str, int, int]:
        """What a recording names of it: network, dataset, train records, recipe, share and samples."""
        records, recipe = len(self.data.train), digest_recipe(self.recipe)
        return self.title, self.dataset, records, recipe, self.frozen, self.samples

    @property
    def frozen_count(self) -> int:
        """Weights frozen."""
        return self.network.weight_count * self.frozen // 10_000

    def derive_watermark(self, seed: int) -> Watermark:
        """That of the practice header which the reference picks: attack and reference meet the same ones."""
        header = pick_practice_header(seed, self.recipe, self.network, self.frozen_count)
        return derive_watermark(encode_header(header), self.network.weight_count, self.frozen_count)

    def build_plan(self, samples: int | None = None) -> Plan:
        """A plan that never gives up, of the reference's length unless said otherwise."""
        return Plan(0, samples or self.samples, self.recipe.plans[0].parts, ())

    def build_generator(self, seed: int) -> torch.Generator:
        """Of an attack's own draws, apart from those of the course with the same seed."""
        return torch.Generator().manual_seed(_OWN_DRAWS + seed)


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to undercut the reference miner."""

    name: str
    meaning: str
    """What it does, in a line."""
    build: Callable[[Ground, int], Course]
    """The course under practice header `seed`."""
    once: float = 0.0
    """What is done once for all blocks, in courses of the reference."""
    prepare: Callable[[Ground], object] = lambda ground: None
    """Does it."""


class AttackCourse(Course):
    """A course that may be changed before it is followed; unchanged it is the reference's."""

    def __init__(
        self,
        ground: Ground,
        seed: int,
        *,
        recipe: Recipe | None = None,
        plan: Plan | None = None,
        watermark: Watermark | None = None,
    ) -> None:
        super().__init__(
            ground.network,
            watermark or ground.derive_watermark(seed),
            ground.data,
            recipe or ground.recipe,
            plan or ground.build_plan(),
            seed,
        )


class StandInCourse(AttackCourse):
    """A course that trains something else, on something else, and is polished as the reference is."""

    def __init__(
        self,
        ground: Ground,
        seed: int,
        *,
        recipe: Recipe | None = None,
        plan: Plan | None = None,
        stand_in: Twin | None = None,
        lessons: TrainingData | None = None,
        passes: float = 3.0,
    ) -> None:
        """`passes` are the forward passes of the stand-in that one sample costs."""
        super().__init__(ground, seed, recipe=recipe, plan=plan)
        self._stand_in = stand_in or self.twin
        self._lessons = lessons or ground.data
        self._passes = passes

    def settle(self) -> None:
        """Before every checkpoint: what the stand-in learnt, into the twin."""

    def stream(self) -> Iterator[Tensor]:
        """Trains the stand-in: int64[] right answers after every step."""
        return train(self._stand_in, self._lessons, self.recipe, self.plan.samples, self.generator)

    def _train(self) -> Iterator[int]:
        batch, parts = self.recipe.batch, self.plan.parts
        steps = self.plan.samples // batch
        ends = {steps * part // parts for part in range(1, parts)}
        cost = round(self._passes * self._stand_in.spec.multiply_accumulates * batch)
        for step, right in enumerate(self.stream(), 1):
            self._recent.append(right)
            self.samples += batch
            self.multiply_accumulates += cost
            if step in ends:
                self.settle()
                yield self.estimate_train_correct()
        self.settle()


def train_with(
    twin: Twin,
    compute_logits: Callable[[Tensor], Tensor],
    compute_loss: Callable[[Tensor, Tensor], Tensor],
    labels: Tensor,
    recipe: Recipe,
    samples: int,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """training.optimise.train with other logits of int64[batch] indices, and a loss of (logits, indices)."""
    steps = samples // recipe.batch
    optimiser = build_optimiser(twin, recipe)
    batches = draw_batches(len(labels), recipe.batch, generator)
    twin.train()
    for step in range(steps):
        indices = next(batches)
        with mix_precision(labels.device):
            logits = compute_logits(indices)
        compute_gradients(optimiser, compute_loss(logits.float(), indices))
        take_step(twin, optimiser, recipe, (step + 0.5) / steps)
        yield (logits.detach().argmax(1) == labels[indices]).sum()


def build_open_twin(ground: Ground, seed: int) -> Twin:
    """A twin of the ground's network without a watermark."""
    count = ground.network.weight_count
    nothing = Watermark(count, np.zeros(0, np.int64), np.zeros(0, np.int8))
    return Twin(
        ground.network, nothing, ground.build_generator(seed), ground.recipe.gain, ground.recipe.shift
    )


@torch.no_grad()
def copy_normalisation(source: Twin, target: Twin) -> None:
    """Gains, shifts, batch statistics and last bias of one twin into another of the same network."""
    target.bias.copy_(source.bias)
    ours = (*source.gains, *source.shifts, *source.means, *source.variances)
    theirs = (*target.gains, *target.shifts, *target.means, *target.variances)
    for one, other in zip(ours, theirs, strict=True):
        other.copy_(one)
