"""An attempt at a block: train under headers' watermarks, polish, recount exactly (protocol §3, §5).

Owns the choice of headers, the decision to go on, to claim or to give up with each, and the witness. How a
network gets there is training.course's; where headers come from and where witnesses go is the miner's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from consensus.block import Header, Witness, encode_header
from consensus.network import IntegerNetwork
from consensus.solution import encode_solution, extract_solution
from consensus.task import Rung, Task
from consensus.watermark import derive_watermark
from training.course import Course, Judgement, judge, look
from training.data import Records, TrainingData
from training.evaluator import choose_compute_logits, compute_logits_normatively, count_at_once, count_right
from training.headers import NONCES, pick_freest
from training.lockstep import Lockstep, count_networks
from training.optimise import Ranks
from training.outcome import Outcome, Progress
from training.recipe import Plan, Recipe

__all__ = ["AttemptResult", "Candidate", "MiningAttempt", "TrainingData"]

_REPORT_STEPS = 16
_LOOKS = 64
"""At headers for each candidate, before there may be a fresh template."""
_LOOKS_TOGETHER = 4
_SEEDS = 2**63


@dataclass(frozen=True, slots=True)
class Candidate:
    """A header and the course under its watermark, not begun."""

    header: Header
    seed: int
    """Of the course."""
    course: Course


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended."""

    witness: Witness | None
    """Counted exactly on a self-tested evaluator; there iff the outcome is found."""
    header: Header
    """What the witness is for; without one, that of the network told of here, which came furthest."""
    samples: int
    """Trained with all networks together."""
    multiply_accumulates: int
    """Three forward passes for a sample trained; evaluation and polishing by what they multiply."""
    train_correct: int
    """Exact if the outcome is found or missed, else an estimate."""
    eval_correct: int
    """Exact if the outcome is found, else 0 or an earlier exact count: a near miss alone is counted."""
    seconds: float
    outcome: Outcome


class _Cancelled(Exception):
    """Ends a course between two steps, or two parts of an evaluation."""


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
        self.recipe = recipe
        """What the attempts follow."""
        self.most_samples: int | None = None
        """Of a course of the next attempts, where the recipe has shorter ones (`Recipe.get_plan`)."""
        self._ranks = ranks
        self._compute_logits = choose_compute_logits(device) or compute_logits_normatively

    def build(self, header: Header, rung: Rung, seed: int) -> Candidate:
        """The course of an attempt at this header and rung."""
        network = self._task.network
        frozen_count = self._task.compute_frozen_count(rung)
        watermark = derive_watermark(encode_header(header), network.weight_count, frozen_count)
        plan = self._get_plan(rung)
        course = Course(network, watermark, self._data, self.recipe, plan, seed, self._ranks)
        return Candidate(header, seed, course)

    def choose(
        self, header: Header, rung: Rung, seed: int, most: int, is_cancelled: Callable[[], bool]
    ) -> tuple[list[Candidate], int]:
        """Up to `most` headers to train for in one pass, and the multiply-accumulates of passing others over.

        The nonce is counted up, and of so many as the recipe says the freest is looked at, with seeds counted
        up too. Chosen are the first whose watermarks promise what the plan asks for; after 64 looks for one
        of them it is the next, and once cancelled there may be fewer, but always one.
        """
        least = self._get_plan(rung).allowances[0] * len(self._data.train)
        count = min(most, self._count_networks(rung))
        chosen: list[Candidate] = []
        begun = spent = looks = 0
        while len(chosen) < count and not (chosen and is_cancelled()):
            candidates: list[Candidate] = []
            while len(candidates) < min(count, _LOOKS_TOGETHER) and not (candidates and is_cancelled()):
                candidates.append(self._build_next(header, rung, seed, begun))
                begun += 1
            look([candidate.course for candidate in candidates])
            for candidate in candidates:
                looks += 1
                is_next = candidate.course.promise >= least or looks > _LOOKS or is_cancelled()
                if is_next and len(chosen) < count:
                    chosen.append(candidate)
                    looks = 0
                else:
                    spent += candidate.course.multiply_accumulates
        return chosen, spent

    def _get_plan(self, rung: Rung) -> Plan:
        return self.recipe.get_plan(rung, self.most_samples)

    def _build_next(self, header: Header, rung: Rung, seed: int, offset: int) -> Candidate:
        nonce = (header.nonce + offset * self.recipe.headers) % NONCES
        freest = self.pick(replace(header, nonce=nonce), rung)
        return self.build(freest, rung, (seed + offset) % _SEEDS)

    def pick(self, header: Header, rung: Rung) -> Header:
        """The one to look at of those that begin at this header."""
        frozen_count = self._task.compute_frozen_count(rung)
        return pick_freest(header, self.recipe.headers, self._task.network, frozen_count)

    def _count_networks(self, rung: Rung) -> int:
        """What the device takes, but no more than the courses that the rung is worth: one should win."""
        course = 3 * self._task.network.multiply_accumulates * self._get_plan(rung).samples
        return max(1, min(self.networks, rung.work * 10**6 // course))

    def run(
        self,
        candidates: Sequence[Candidate],
        rung: Rung,
        is_cancelled: Callable[[], bool],
        report: Callable[[Progress], None],
    ) -> AttemptResult:
        """Trains for all candidates in one pass, until a witness meets `rung` or there is no hope for any.

        They must be at the same rung and are used up. `is_cancelled` is asked between steps, and between the
        parts of an evaluation.
        """
        return _Run(self, candidates, rung, is_cancelled, report).execute()

    def count(self, network: IntegerNetwork, records: Records, poll: Callable[[], None]) -> int:
        """Exact number of records classified right; `poll` is called before each part, and may raise."""
        size, right = count_at_once(network.spec, records.pixels.device), 0
        for pixels, labels in zip(
            torch.split(records.pixels, size), torch.split(records.labels, size), strict=True
        ):
            poll()
            right += count_right(self._compute_logits(network, pixels), labels)
        return right

    @property
    def data(self) -> TrainingData:
        """Both splits on the device."""
        return self._data

    @property
    def networks(self) -> int:
        """The most that a pass trains on this device."""
        return count_networks(self.recipe, self._data.inputs.device)


@dataclass(slots=True)
class _Standing:
    """How a course stands."""

    train_correct: int = 0
    eval_correct: int = 0
    recounts: int = 0
    checkpoint: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        """Greater for one that came further, or as far with more right."""
        return self.checkpoint, self.train_correct


class _Run:
    """The state of one attempt."""

    def __init__(
        self,
        attempt: MiningAttempt,
        candidates: Sequence[Candidate],
        rung: Rung,
        is_cancelled: Callable[[], bool],
        report: Callable[[Progress], None],
    ) -> None:
        self._started = time.perf_counter()
        self._attempt, self._rung = attempt, rung
        self._is_cancelled, self._report = is_cancelled, report
        self._polls = 0
        self._headers = {candidate.course: candidate.header for candidate in candidates}
        self._standings = {course: _Standing() for course in self._headers}
        self._lockstep = Lockstep(list(self._headers))

    def execute(self) -> AttemptResult:
        try:
            return self._follow()
        except _Cancelled:
            return self._finish("cancelled", self._best, None)

    def _follow(self) -> AttemptResult:
        # Who was cancelled while it chose may hold a header that promises too little: it did not give up.
        self._poll()
        is_missed = False
        for course, checkpoint in self._lockstep.follow(self._poll):
            standing = self._standings[course]
            standing.checkpoint = checkpoint.index
            if not checkpoint.is_promise:
                standing.train_correct = checkpoint.train_correct
            allowance = course.plan.allowances[checkpoint.index] * len(self._attempt.data.train)
            judgement = judge(checkpoint, self._rung.min_train_correct, allowance)
            if judgement is Judgement.RECOUNT and (witness := self._recount(course)):
                return self._finish("found", course, witness)
            if judgement is Judgement.GIVE_UP:
                self._lockstep.leave(course)
            is_missed |= checkpoint.is_last
        return self._finish("missed" if is_missed else "gave-up", self._best, None)

    def _recount(self, course: Course) -> Witness | None:
        """The network's witness, if both exact counts meet the rung."""
        standing, network = self._standings[course], course.build_network()
        standing.recounts += 1
        standing.train_correct = self._attempt.count(network, self._attempt.data.train, self._poll)
        standing.eval_correct = self._attempt.count(network, self._attempt.data.eval, self._poll)
        if standing.train_correct < self._rung.min_train_correct:
            return None
        if standing.eval_correct < self._rung.min_eval_correct:
            return None
        solution = encode_solution(extract_solution(network, course.watermark))
        return Witness(standing.train_correct, standing.eval_correct, solution)

    @property
    def _best(self) -> Course:
        return max(self._standings, key=lambda course: self._standings[course].rank)

    def _poll(self) -> None:
        if self._is_cancelled():
            raise _Cancelled
        self._polls += 1
        if self._polls % _REPORT_STEPS == 0:
            self._report(self._build_progress())

    def _build_progress(self) -> Progress:
        furthest = max(self._headers, key=lambda course: course.samples)
        train_correct = max(standing.train_correct for standing in self._standings.values())
        if furthest.samples < furthest.total_samples:
            together = [course for course in self._headers if course.samples == furthest.samples]
            train_correct = max(course.estimate_train_correct() for course in together)
        return Progress(
            furthest.samples,
            furthest.total_samples,
            train_correct,
            max(standing.eval_correct for standing in self._standings.values()),
            self._get_seconds(),
        )

    def _finish(self, outcome: Outcome, course: Course, witness: Witness | None) -> AttemptResult:
        spent = sum(
            each.multiply_accumulates + standing.recounts * each.recount_cost
            for each, standing in self._standings.items()
        )
        standing = self._standings[course]
        return AttemptResult(
            witness,
            self._headers[course],
            sum(each.samples for each in self._standings),
            spent,
            standing.train_correct,
            standing.eval_correct,
            self._get_seconds(),
            outcome,
        )

    def _get_seconds(self) -> float:
        return time.perf_counter() - self._started
