"""One attempt at a block: train under the header's watermark, polish, recount exactly (protocol §3, §5).

Owns the decision to go on, to claim or to give up, and the witness. How the network gets there is
training.course's; where headers come from and where witnesses go is the miner's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from consensus.block import Header, Witness, encode_header
from consensus.network import IntegerNetwork, count_correct
from consensus.solution import encode_solution, extract_solution
from consensus.task import Rung, Task
from consensus.watermark import derive_watermark
from training.course import Course, Judgement, judge
from training.data import Records, TrainingData
from training.evaluator import choose_compute_logits, count_right
from training.optimise import Ranks
from training.recipe import Recipe

__all__ = ["AttemptResult", "MiningAttempt", "Outcome", "Progress", "TrainingData"]

Outcome = Literal["found", "missed", "gave-up", "cancelled"]
_REPORT_STEPS = 16
_LOOKS = 64
"""At headers, before there may be a fresh template."""
_NONCES = 2**64


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is."""

    samples: int
    """Trained so far."""
    total_samples: int
    """Of a full attempt."""
    train_correct: int
    """Right train records, estimated from the last batches while training."""
    eval_correct: int
    """Right eval records of the last exact count, 0 before the first."""
    seconds: float
    """Since the attempt began."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended."""

    witness: Witness | None
    """Counted exactly on a self-tested evaluator; there iff the outcome is found."""
    samples: int
    multiply_accumulates: int
    """Three forward passes for a sample trained; evaluation and polishing by what they multiply."""
    train_correct: int
    """Exact if the outcome is found or missed, else an estimate."""
    eval_correct: int
    """Exact if the outcome is found or missed, else 0 or an earlier exact count."""
    seconds: float
    outcome: Outcome


class _Cancelled(Exception):
    """Ends a course between two steps."""


class MiningAttempt:
    """Attempts at the blocks of one task on one device; holds the dataset there."""

    def __init__(
        self,
        task: Task,
        dataset: TrainingData,
        recipe: Recipe,
        device: str | torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self._task = task
        self._data = dataset
        self._recipe = recipe
        self._ranks = ranks
        self._compute_logits = choose_compute_logits(device)

    def choose(
        self, header: Header, rung: Rung, seed: int, is_cancelled: Callable[[], bool]
    ) -> tuple[Header, int]:
        """A header worth training for, and the multiply-accumulates of passing others over.

        It is the first, its nonce counted up, whose watermark promises what the plan asks for, so that an
        attempt at it with the same seed goes on; after 64, or cancelled, it is the next one.
        """
        least = self._recipe.get_plan(rung).allowances[0] * len(self._data.train)
        spent = 0
        for _ in range(_LOOKS):
            course = self.build_course(header, rung, seed, lambda: None)
            if course.promise >= least or is_cancelled():
                break
            spent += course.multiply_accumulates
            header = replace(header, nonce=(header.nonce + 1) % _NONCES)
        return header, spent

    def run(
        self,
        header: Header,
        rung: Rung,
        seed: int,
        is_cancelled: Callable[[], bool],
        report: Callable[[Progress], None],
    ) -> AttemptResult:
        """Trains for `header`, nonce included, until its witness meets `rung` or there is no hope.

        `seed` decides the first free weights, the order of samples and the search. `is_cancelled` is asked
        between steps.
        """
        return _Run(self, header, rung, seed, is_cancelled, report).execute()

    def count(self, network: IntegerNetwork, records: Records) -> int:
        """Exact number of records classified right."""
        if self._compute_logits is None:
            return count_correct(network, records.pixels.cpu().numpy(), records.labels.cpu().numpy())
        return count_right(self._compute_logits(network, records.pixels), records.labels)

    def build_course(self, header: Header, rung: Rung, seed: int, poll: Callable[[], None]) -> Course:
        """The course of an attempt at this header and rung."""
        network = self._task.network
        frozen_count = self._task.compute_frozen_count(rung)
        watermark = derive_watermark(encode_header(header), network.weight_count, frozen_count)
        plan = self._recipe.get_plan(rung)
        return Course(network, watermark, self._data, self._recipe, plan, seed, poll, self._ranks)

    @property
    def data(self) -> TrainingData:
        """Both splits on the device."""
        return self._data

    @property
    def recipe(self) -> Recipe:
        """What the attempts follow."""
        return self._recipe


class _Run:
    """The state of one attempt."""

    def __init__(
        self,
        attempt: MiningAttempt,
        header: Header,
        rung: Rung,
        seed: int,
        is_cancelled: Callable[[], bool],
        report: Callable[[Progress], None],
    ) -> None:
        self._started = time.perf_counter()
        self._attempt, self._rung = attempt, rung
        self._plan = attempt.recipe.get_plan(rung)
        self._is_cancelled, self._report = is_cancelled, report
        self._polls = self._recounts = 0
        self._train_correct = self._eval_correct = 0
        self._course = attempt.build_course(header, rung, seed, self._poll)

    def execute(self) -> AttemptResult:
        try:
            return self._follow()
        except _Cancelled:
            return self._finish("cancelled", None)

    def _follow(self) -> AttemptResult:
        for checkpoint in self._course.follow():
            if not checkpoint.is_promise:
                self._train_correct = checkpoint.train_correct
            allowance = self._plan.allowances[checkpoint.index] * len(self._attempt.data.train)
            judgement = judge(checkpoint, self._rung.min_train_correct, allowance)
            if judgement is Judgement.RECOUNT or checkpoint.is_last:
                if witness := self._recount(self._course.build_network()):
                    return self._finish("found", witness)
            elif judgement is Judgement.GIVE_UP:
                return self._finish("gave-up", None)
        return self._finish("missed", None)

    def _recount(self, network: IntegerNetwork) -> Witness | None:
        """The network's witness, if both exact counts meet the rung."""
        self._recounts += 1
        self._train_correct = self._attempt.count(network, self._attempt.data.train)
        self._eval_correct = self._attempt.count(network, self._attempt.data.eval)
        if self._train_correct < self._rung.min_train_correct:
            return None
        if self._eval_correct < self._rung.min_eval_correct:
            return None
        solution = encode_solution(extract_solution(network, self._course.watermark))
        return Witness(self._train_correct, self._eval_correct, solution)

    def _poll(self) -> None:
        if self._is_cancelled():
            raise _Cancelled
        self._polls += 1
        if self._polls % _REPORT_STEPS == 0:
            self._report(self._build_progress())

    def _build_progress(self) -> Progress:
        is_training = self._course.samples < self._course.total_samples
        train_correct = self._course.estimate_train_correct() if is_training else self._train_correct
        return Progress(
            self._course.samples,
            self._course.total_samples,
            train_correct,
            self._eval_correct,
            self._get_seconds(),
        )

    def _finish(self, outcome: Outcome, witness: Witness | None) -> AttemptResult:
        recounted = self._recounts * self._course.recount_cost
        return AttemptResult(
            witness,
            self._course.samples,
            self._course.multiply_accumulates + recounted,
            self._train_correct,
            self._eval_correct,
            self._get_seconds(),
            outcome,
        )

    def _get_seconds(self) -> float:
        return time.perf_counter() - self._started
