"""The way of one attempt from fresh weights to a polished network, checkpoint by checkpoint.

Owns what is done and what it costs. Whether to go on at a checkpoint is decided by `judge`, for the miner
(training.attempt) and for the calibration (training.lab.traces) alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain

import torch
from torch import Tensor

from consensus.network import IntegerNetwork, NetworkSpec
from consensus.watermark import Watermark
from training.data import TrainingData
from training.evaluator import compute_features
from training.optimise import Ranks, train
from training.polish import Head, tune
from training.probe import compute_cost, count_promised
from training.recipe import Plan, Recipe
from training.twin import Twin

_WINDOW_STEPS = 20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A moment at which an attempt may end."""

    index: int
    """From 0; the allowance of the plan that applies."""
    train_correct: int
    """Right train records: counted, or while training those of the last batches, scaled to the split."""
    is_last: bool
    """Whether nothing more can be done."""

    @property
    def is_promise(self) -> bool:
        """Whether nothing is trained yet: the first tells what the watermark promises."""
        return self.index == 0


class Judgement(Enum):
    """What to do at a checkpoint."""

    RECOUNT = "the target seems to be met: count exactly"
    GO_ON = "it may still be met"
    GIVE_UP = "it is too far away"


def judge(checkpoint: Checkpoint, target: int, allowance: float) -> Judgement:
    """What to do about a train target, the plan's `allowance` given in records."""
    if checkpoint.is_promise:
        return Judgement.GO_ON if checkpoint.train_correct >= allowance else Judgement.GIVE_UP
    if checkpoint.train_correct >= target:
        return Judgement.RECOUNT
    return Judgement.GO_ON if checkpoint.train_correct >= target - allowance else Judgement.GIVE_UP


def look(courses: Sequence[Course]) -> None:
    """Finds what courses on the same data promise, in one pass."""
    promises = count_promised([course.twin for course in courses], courses[0].data)
    for course, promise in zip(courses, promises, strict=True):
        course.note_promise(promise)


class Course:
    """One attempt under one watermark."""

    twin: Twin
    """The network that ends in the block."""
    generator: torch.Generator
    """Of the first free weights, the order of samples and the polish, in turn."""
    samples: int
    """Trained so far."""
    multiply_accumulates: int
    """Spent so far: three forward passes for a sample trained, what it multiplies for everything else."""

    def __init__(
        self,
        spec: NetworkSpec,
        watermark: Watermark,
        data: TrainingData,
        recipe: Recipe,
        plan: Plan,
        seed: int,
        ranks: Ranks | None = None,
    ) -> None:
        self.samples = 0
        self.multiply_accumulates = 0
        self.generator = torch.Generator().manual_seed(seed)
        self.twin = Twin(spec, watermark, self.generator, recipe.gain, recipe.shift, data.inputs.device)
        self.data, self.recipe = data, recipe
        self.plan, self.ranks, self._spec = plan, ranks, spec
        self._poll: Callable[[], None] = lambda: None
        self._steps: Iterator[None] | None = None
        self._recent: deque[Tensor] = deque(maxlen=_WINDOW_STEPS)
        self._promise: int | None = None
        self.shown = 0
        """Checkpoints so far."""
        self._head: Head | None = None

    @property
    def total_samples(self) -> int:
        """Trained at the end of a full course: whole steps."""
        return self.plan.samples // self.recipe.batch * self.recipe.batch

    @property
    def watermark(self) -> Watermark:
        """What the network carries."""
        return self.twin.watermark

    @property
    def promise(self) -> int:
        """Right train records that the untrained network promises; looks where nobody has looked."""
        if self._promise is None:
            look([self])
        assert self._promise is not None, "a look notes it"
        return self._promise

    @property
    def samples_ahead(self) -> int:
        """To be trained before the next checkpoint: whole steps."""
        batch, parts = self.recipe.batch, self.plan.parts
        due = self.plan.samples // batch * min(self.shown, parts) // parts * batch
        return max(0, due - self.samples)

    def note_promise(self, promise: int) -> None:
        """A look was taken, which costs once."""
        self.multiply_accumulates += self.look_cost
        self._promise = promise

    def build_network(self) -> IntegerNetwork:
        """The network as it is now."""
        return self._head.build_network() if self._head else self.twin.export()

    def estimate_train_correct(self) -> int:
        """Right train records by the last steps' batches, which it waits for."""
        if not self._recent:
            return 0
        share = torch.stack(list(self._recent)).sum() / (len(self._recent) * self.recipe.batch)
        return int(share * len(self.data.train))

    def note(self, right: Tensor) -> None:
        """A step was trained, with int64[] right answers in its batch."""
        self._recent.append(right)
        self.samples += self.recipe.batch
        self.multiply_accumulates += 3 * self._spec.multiply_accumulates * self.recipe.batch

    def follow(
        self, poll: Callable[[], None] = lambda: None, steps: Iterator[None] | None = None
    ) -> Iterator[Checkpoint]:
        """Goes the whole way, pausing at every checkpoint; it ends where the caller stops asking.

        `poll` is called between steps and between parts of an evaluation, and ends the course by raising.
        `steps`, where there are any, train the twin beside others, a step at a time, and tell `note` of each
        (training.lockstep): they must not go beyond `samples_ahead` between two checkpoints.
        """
        self._poll, self._steps = poll, steps
        promise, self.shown = self.promise, 1
        yield Checkpoint(0, promise, False)
        yield from self._train_and_polish(1)

    def _train_and_polish(self, index: int) -> Iterator[Checkpoint]:
        """The checkpoints from this one on."""
        stages = chain(((estimate, False) for estimate in self._train()), self._polish())
        for number, (train_correct, is_last) in enumerate(stages, index):
            self.shown = number + 1
            yield Checkpoint(number, train_correct, is_last)

    def _train(self) -> Iterator[int]:
        batch = self.recipe.batch
        # Who trains in lockstep may be past the first steps before it is asked for them.
        steps, begun = (self._steps, 0) if self._steps else (self._train_alone(), self.samples)
        for part in range(1, self.plan.parts + 1):
            end = begun + self.plan.samples // batch * part // self.plan.parts * batch
            while self.samples < end:
                next(steps)
                self._poll()
            if part < self.plan.parts:
                yield self.estimate_train_correct()

    def _train_alone(self) -> Iterator[None]:
        samples = self.plan.samples
        for right in train(self.twin, self.data, self.recipe, samples, self.generator, self.ranks):
            self.note(right)
            yield

    def _polish(self) -> Iterator[tuple[int, bool]]:
        polish = self.recipe.polish
        features = self._compute_features()
        labels, left = self.data.train.labels, len(polish.tune_steps) + polish.sweeps
        yield self._open_head(features), left == 0

        for steps in polish.tune_steps:
            for records in tune(self.twin, features, labels, self.recipe, steps, self.generator):
                self.multiply_accumulates += 3 * self._dense_cost * records
                self._poll()
            left -= 1
            yield self._open_head(features), left == 0

        for sweep in range(polish.sweeps):
            left -= 1
            yield self._sweep(0.5**sweep), left == 0

    def _compute_features(self) -> Tensor:
        records = len(self.data.train)
        self.multiply_accumulates += records * (self._spec.multiply_accumulates - self._dense_cost)
        return compute_features(self.twin.export(), self.data.train.pixels, self._poll)

    def _open_head(self, features: Tensor) -> int:
        self.multiply_accumulates += len(self.data.train) * self._dense_cost
        self._head = Head(self.twin.export(), self.watermark.frozen_mask, features, self.data.train.labels)
        return self._head.train_correct

    def _sweep(self, width: float) -> int:
        assert self._head is not None, "the head is opened before it is searched"
        for trials in self._head.sweep(self.recipe.polish, width, self.generator):
            self.multiply_accumulates += trials * len(self.data.train)
            self._poll()
        return self._head.train_correct

    @property
    def look_cost(self) -> int:
        """Multiply-accumulates of a look."""
        return compute_cost(self._spec, len(self.data.train))

    @property
    def recount_cost(self) -> int:
        """Multiply-accumulates of counting both splits exactly."""
        return (len(self.data.train) + len(self.data.eval)) * self._spec.multiply_accumulates

    @property
    def _dense_cost(self) -> int:
        """Multiply-accumulates of the dense layers on one record."""
        return sum(layer.outputs * layer.inputs for layer in self._spec.layers[-2:])
