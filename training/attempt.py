"""An attempt at a block: train under headers' watermarks, polish, recount exactly (protocol §3, §5).

Owns the decision to go on, to claim or to give up with each, and the witness. How a network gets there is
training.course's; which headers are tried is training.search's; where witnesses go is the miner's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from consensus.block import Header, Witness, encode_header
from consensus.network import IntegerNetwork
from consensus.solution import encode_solution, extract_solution
from consensus.task import Rung, Task
from consensus.watermark import derive_watermark
from training.course import Course, Judgement, judge
from training.data import Records, TrainingData
from training.evaluator import choose_compute_logits, compute_logits_normatively, count_at_once, count_right
from training.headers import pick_freest
from training.lockstep import Lockstep, count_networks, get_waiting
from training.optimise import Ranks
from training.outcome import Outcome, Progress
from training.pace import choose_width
from training.recipe import Plan, Recipe
from training.search import Candidate, Search

__all__ = ["AttemptResult", "Candidate", "MiningAttempt", "TrainingData"]

_REPORT_STEPS = 16


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended."""

    witness: Witness | None
    """Counted exactly on a self-tested evaluator; there iff the outcome is found."""
    header: Header
    """What the witness is for; without one, that of the network told of here, which came furthest."""
    networks: int
    """Begun, each under a header of its own."""
    widths: dict[int, int]
    """Steps with so many places side by side, those included that a GPU kept empty."""
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
        plan = self.get_plan(rung)
        course = Course(network, watermark, self._data, self.recipe, plan, seed, self._ranks)
        return Candidate(header, seed, course)

    def search(
        self, header: Header, rung: Rung, seed: int, is_cancelled: Callable[[], bool] = lambda: False
    ) -> Search:
        """For headers to train for at this rung: nonces and seeds are counted up from these."""

        def build(first: Header, own_seed: int) -> Candidate:
            return self.build(self.pick(first, rung), rung, own_seed)

        return Search(header, seed, build, self.recipe.headers, is_cancelled)

    def get_plan(self, rung: Rung) -> Plan:
        """Of the next attempts at this rung."""
        return self.recipe.get_plan(rung, self.most_samples)

    def pick(self, header: Header, rung: Rung) -> Header:
        """The one to look at of those that begin at this header."""
        frozen_count = self._task.compute_frozen_count(rung)
        return pick_freest(header, self.recipe.headers, self._task.network, frozen_count)

    def count_networks(self, rung: Rung, lasting: float = 0.0) -> int:
        """To train side by side, at most what the device takes (training.pace.choose_width).

        `lasting` is how long a course lasts alone, in intervals between blocks; 0 where that is not known.
        """
        device = self._data.inputs.device
        course = 3 * self._task.network.multiply_accumulates * self.get_plan(rung).samples
        burden, waiting = course / (rung.work * 1e6), get_waiting(self.recipe, device)
        return choose_width(lasting, burden, waiting, count_networks(self.recipe, device))

    def run(
        self,
        candidates: Sequence[Candidate],
        rung: Rung,
        is_cancelled: Callable[[], bool],
        report: Callable[[Progress], None],
        find_next: Callable[[], Candidate | None] = lambda: None,
    ) -> AttemptResult:
        """Trains for all candidates side by side, until a witness meets `rung` or there is no hope for any.

        They must be at the same rung and are used up. `find_next` is asked for another where one has ended.
        `is_cancelled` is asked between steps, and between the parts of an evaluation.
        """
        return _Run(self, candidates, rung, is_cancelled, report, find_next).execute()

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


@dataclass(slots=True)
class _Standing:
    """How a course stands."""

    header: Header
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
        find_next: Callable[[], Candidate | None],
    ) -> None:
        self._started = time.perf_counter()
        self._attempt, self._rung = attempt, rung
        self._is_cancelled, self._report, self._find_next = is_cancelled, report, find_next
        self._polls = 0
        self._standings = {candidate.course: _Standing(candidate.header) for candidate in candidates}
        self._best = next(iter(self._standings.values()))
        self._networks = len(candidates)
        self._samples = self._spent = 0
        """Of those that have ended."""
        self._lockstep = Lockstep(list(self._standings), self._poll)

    def execute(self) -> AttemptResult:
        try:
            return self._follow()
        except _Cancelled:
            return self._finish("cancelled", None)

    def _follow(self) -> AttemptResult:
        # Who was cancelled while it chose may hold a header that promises too little: it did not give up.
        self._poll()
        is_missed = False
        for course, checkpoint in self._lockstep.follow():
            standing = self._standings[course]
            standing.checkpoint = checkpoint.index
            if not checkpoint.is_promise:
                standing.train_correct = checkpoint.train_correct
            allowance = course.plan.allowances[checkpoint.index] * len(self._attempt.data.train)
            judgement = judge(checkpoint, self._rung.min_train_correct, allowance)
            if judgement is Judgement.RECOUNT and (witness := self._recount(course)):
                self._best = standing
                return self._finish("found", witness)
            is_missed |= checkpoint.is_last
            if checkpoint.is_last or judgement is Judgement.GIVE_UP:
                self._replace(course)
        return self._finish("missed" if is_missed else "gave-up", None)

    def _replace(self, course: Course) -> None:
        """Another takes the place of one that has ended, where there is another."""
        # Those who promise too little are given up without a step in between, at which to be cancelled.
        self._poll()
        self._lockstep.leave(course)
        standing = self._standings.pop(course)
        self._best = max(self._best, standing, key=lambda each: each.rank)
        self._samples += course.samples
        self._spent += _sum_spent(course, standing)
        candidate = self._find_next()
        if candidate is not None:
            self._networks += 1
            self._standings[candidate.course] = _Standing(candidate.header)
            self._lockstep.join(candidate.course)

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

    def _poll(self) -> None:
        if self._is_cancelled():
            raise _Cancelled
        self._polls += 1
        if self._polls % _REPORT_STEPS == 0 and self._standings:
            self._report(self._build_progress())

    def _build_progress(self) -> Progress:
        """Of the network under way that came furthest."""
        furthest = max(self._standings, key=lambda course: course.samples)
        train_correct = max(standing.train_correct for standing in self._standings.values())
        if furthest.samples < furthest.total_samples:
            together = [course for course in self._standings if course.samples == furthest.samples]
            train_correct = max(course.estimate_train_correct() for course in together)
        return Progress(
            furthest.samples,
            furthest.total_samples,
            train_correct,
            max(standing.eval_correct for standing in self._standings.values()),
            self._get_seconds(),
        )

    def _finish(self, outcome: Outcome, witness: Witness | None) -> AttemptResult:
        under_way = self._standings.items()
        samples = self._samples + sum(course.samples for course, _ in under_way)
        best = self._best
        if witness is None:
            best = max((best, *self._standings.values()), key=lambda standing: standing.rank)
        return AttemptResult(
            witness,
            best.header,
            self._networks,
            dict(self._lockstep.widths) or {1: samples // self._attempt.recipe.batch},
            samples,
            self._spent + sum(_sum_spent(course, standing) for course, standing in under_way),
            best.train_correct,
            best.eval_correct,
            self._get_seconds(),
            outcome,
        )

    def _get_seconds(self) -> float:
        return time.perf_counter() - self._started


def _sum_spent(course: Course, standing: _Standing) -> int:
    """Multiply-accumulates of a course, exact counts included."""
    return course.multiply_accumulates + standing.recounts * course.recount_cost
