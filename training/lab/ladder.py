"""From traces to rungs: allowances, eval floors, probabilities, costs and the ladder of protocol §3.

Arithmetic on samples of training.lab.traces; trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from statistics import fmean

import numpy as np
import numpy.typing as npt

from consensus.network import NetworkSpec
from consensus.task import MAX_RUNGS, MIN_WORK, Rung
from training.lab.columns import Columns
from training.lab.statistics import compute_interval, compute_variation, fit_tail
from training.lab.traces import NOT_COUNTED, Goal, Trace
from training.recipe import Plan
from training.tasks import Measurement

_PROMISING_SHARES = (0.4, 0.7, 1.0)
_KEPT_SHARES = (0.6, 0.75, 0.9, 1.0)
_TOP_SHARES = (0.15, 0.3, 0.6)
_TUNING_QUANTILES = (0.5, 0.7, 0.8, 0.9, 0.95)
_FLOOR_SHARE = 0.05
_MIN_FLOOR_ATTEMPTS = 60
"""That met the target, or a third of the courses where those are few."""
MIN_SUCCESSES = 15
_TAIL_SHARE = 0.25
"""The tail is fitted to targets that at most this share of the courses meets."""
_LEAST_PROBABILITY = 1e-6
"""Of the last stretch's fitted tail; a stretch below it is left where too few courses meet a target."""
_FOLDS = 5
_MIN_CHOOSERS = 100
"""Allowances fitted to 30 courses gave up what would have won."""
_DEAREST = 2
"""Times the work of a rung: what a slow machine may pay for a shorter course there."""
_STEP = 1.05
"""A rung costs at least this much more than the one below: closer ones could not be told apart."""


_LEAST_COURSES = math.ceil(2 / _TAIL_SHARE)
"""Of the last stretch: with fewer, no two targets of the tail could be met by different numbers of them."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The part of the ladder at one share and plan, with the courses measured for it."""

    frozen: int
    plan: Plan
    """Its allowances are chosen here; min_work too."""
    traces: tuple[Trace, ...]
    """They choose the allowances and measure the rungs, each fifth of them under allowances that the others
    chose: what was fitted to a course could not be measured on it."""

    @property
    def has_choosers(self) -> bool:
        """Whether the courses beside each fifth are enough to choose when to give up."""
        return len(self.traces) * (_FOLDS - 1) // _FOLDS >= _MIN_CHOOSERS


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the arithmetic needs to know of the dataset."""

    n_train: int
    recount_cost: int
    """Multiply-accumulates of an exact count of both splits."""

    @classmethod
    def build(cls, n_train: int, n_eval: int, network: NetworkSpec) -> Sizes:
        """Of splits of so many records, counted by such a network."""
        return cls(n_train, (n_train + n_eval) * network.multiply_accumulates)


@dataclass(frozen=True, slots=True)
class MeasuredRung:
    """A rung and what stands behind it."""

    rung: Rung
    measurement: Measurement


def check_courses(counts: Sequence[int]) -> None:
    """Raises ValueError where stretches of so many courses each, from the foot up, cannot make a ladder."""
    for number, count in enumerate(counts, 1):
        least = MIN_SUCCESSES if number < len(counts) else _LEAST_COURSES
        if count < least:
            raise ValueError(
                f"{count} courses are too few for stretch {number} of {len(counts)},"
                f" which needs {least} at least"
            )


def build_ladder(
    stretches: Sequence[Stretch], sizes: Sizes, foot: int = MIN_WORK
) -> tuple[tuple[Plan, ...], tuple[MeasuredRung, ...]]:
    """The plans and the rungs of all stretches, each beginning where the one before it ends.

    A stretch ends where its targets do, where too few of its courses meet them, or where the next one, at the
    same share, meets the same target for less. A ladder has as many rungs as protocol §3 allows; the dearest
    are left out, and so are those whose work is below `foot`. Raises ValueError if a rung would cost more
    than twice the one below, or a stretch has none.
    """
    sides = [list(_measure(stretch, sizes, is_last=stretch is stretches[-1])) for stretch in stretches]
    plans: list[Plan] = []
    ladder: list[MeasuredRung] = []
    for number, stretch in enumerate(stretches):
        after = sides[number + 1] if number + 1 < len(sides) else []
        below = ladder[-1].rung if ladder else None
        rungs = list(_climb(_leave(sides[number], after), below, foot))
        if not rungs:
            raise ValueError(
                f"no rung at {stretch.frozen} per 10,000 with {stretch.plan.samples} samples above"
                f" {below.work if below else foot} M"
            )
        allowances = stretch.plan.allowances
        if stretch.has_choosers:
            allowances = choose_allowances(stretch.traces, sizes)
        min_work = rungs[0].rung.work if ladder else 0
        plans.append(replace(stretch.plan, min_work=min_work, allowances=allowances))
        ladder += rungs
    ladder = ladder[:MAX_RUNGS]
    _check_steps(ladder)
    climbed = [step.rung for step in ladder]
    plans = [
        replace(
            plan,
            most_work=_find_most_work(
                stretch, [rung for rung in climbed if rung.work >= plan.min_work], sizes
            ),
        )
        for stretch, plan in zip(stretches, plans, strict=True)
        if plan.min_work <= climbed[-1].work
    ]
    return tuple(plans), tuple(ladder)


def choose_allowances(traces: Sequence[Trace], sizes: Sizes) -> tuple[float, ...]:
    """Allowances, as shares of the train split, that make these courses' blocks cheapest over some targets.

    Of the courses that ended best they keep one share at the promise and another at each later checkpoint;
    the three shares are searched.
    """
    finals = [trace.train_correct[-1] for trace in traces]
    targets = [int(np.quantile(finals, quantile)) for quantile in _TUNING_QUANTILES]
    columns = Columns(traces)

    def compute_cost(allowances: Sequence[float]) -> float:
        records = [allowance * sizes.n_train for allowance in allowances]
        return fmean(math.log(_compute_work(columns, target, records, sizes)) for target in targets)

    candidates = [
        keep_share(traces, promising, kept, top, sizes.n_train)
        for promising, kept, top in product(_PROMISING_SHARES, _KEPT_SHARES, _TOP_SHARES)
    ]
    return min(candidates, key=compute_cost)


def keep_share(
    traces: Sequence[Trace], promising: float, kept: float, top: float, n_train: int
) -> tuple[float, ...]:
    """Allowances that keep, of the `top` courses by their end, the share `promising` and then `kept`."""
    finals = np.array([trace.train_correct[-1] for trace in traces])
    best = finals >= np.quantile(finals, 1 - top)
    shown = np.array([trace.shown for trace in traces])[best]
    gains = np.quantile(finals[best][:, None] - shown, kept, axis=0)
    shares = [math.ceil(1000 * max(0.0, float(gain)) / n_train) / 1000 for gain in gains]
    shares[0] = math.floor(1000 * float(np.quantile(shown[:, 0], 1 - promising)) / n_train) / 1000
    return tuple(shares)


def find_floor(columns: Columns, target: int) -> int | None:
    """Right eval records that 19 in 20 have on first meeting a train target; None where too few meet it."""
    met = columns.get_first_evals(target)
    if len(met) < max(1, min(_MIN_FLOOR_ATTEMPTS, len(columns) // 3)):
        return None
    return int(np.quantile(met, _FLOOR_SHARE, method="lower"))


def choose_crosswise(stretch: Stretch, sizes: Sizes) -> npt.NDArray[np.float64]:
    """float64[checkpoints, traces]: of each fifth of the traces, in records, what the others choose.

    Where these would be few, the plan's allowances.
    """
    folds = np.array([trace.seed % _FOLDS for trace in stretch.traces])
    allowances = np.empty((len(stretch.traces[0].shown), len(folds)))
    for fold in set(folds.tolist()):
        others = [trace for trace in stretch.traces if trace.seed % _FOLDS != fold]
        shares = choose_allowances(others, sizes) if stretch.has_choosers else stretch.plan.allowances
        allowances[:, folds == fold] = np.array(shares)[:, None] * sizes.n_train
    return allowances


def _measure(stretch: Stretch, sizes: Sizes, is_last: bool) -> Iterator[MeasuredRung]:
    """Every target that enough courses meet; on the last stretch those of the fitted tail too."""
    trials = list(_try_targets(stretch, sizes))
    chances = Chances(_get_ends(stretch), trials) if is_last else None
    for trial in trials:
        probability, is_fitted = trial.successes / len(stretch.traces), trial.successes < MIN_SUCCESSES
        if is_fitted and chances is None:
            return
        if is_fitted and chances is not None:
            probability = chances.compute(trial.goal.train)
            if probability < _LEAST_PROBABILITY:
                return
        measurement = _describe_trial(trial, probability, is_fitted)
        work = round(measurement.multiply_accumulates / probability)
        yield MeasuredRung(Rung(stretch.frozen, trial.goal.train, trial.goal.eval, work), measurement)


def count_least(courses: int) -> int:
    """The fewest of so many courses that must meet a target for the tail to go through it.

    As many must win for it to tell what giving up leaves.
    """
    return max(1, min(MIN_SUCCESSES, courses // 12))


def fit_chances(stretch: Stretch, sizes: Sizes) -> Chances:
    """From every target that the stretch's courses met."""
    return Chances(_get_ends(stretch), list(_try_targets(stretch, sizes)))


def _get_ends(stretch: Stretch) -> npt.NDArray[np.int64]:
    return np.array([trace.train_correct[-1] for trace in stretch.traces], np.int64)


def _find_most_work(stretch: Stretch, rungs: Sequence[Rung], sizes: Sizes) -> int:
    """Of the last of these, its own first rung and those above, that costs not much more by its courses.

    A target that none of them met tells nothing.
    """
    columns, allowances = Columns(stretch.traces), choose_crosswise(stretch, sizes)
    chances: Chances | None = None
    best, most = int(_get_ends(stretch).max()), 0
    for rung in rungs:
        if rung.frozen != stretch.frozen:
            continue
        goal = Goal(rung.min_train_correct, rung.min_eval_correct)
        wins, costs = columns.replay(goal, allowances, sizes.recount_cost)
        chance = float(wins.mean())
        if wins.sum() < MIN_SUCCESSES:
            chances = chances or fit_chances(stretch, sizes)
            chance = chances.compute(rung.min_train_correct)
        if rung.min_train_correct > best or float(costs.mean()) / 1e6 > _DEAREST * rung.work * chance:
            break
        most = rung.work
    return most


class Chances:
    """Of an attempt at targets that too few met.

    The tail is that of whole courses' ends. Giving up thins them, the low targets more than the high ones, so
    that a tail through the successes themselves would be too flat; the share of the winners that is left
    at the highest targets counted is taken to be left above them too.
    """

    def __init__(self, ends: npt.NDArray[np.int64], trials: Sequence[_Trial]) -> None:
        count = len(ends)
        met = {trial.goal.train: int((ends >= trial.goal.train).sum()) for trial in trials}
        least = count_least(count)
        most = _TAIL_SHARE * count
        points = [(target, number) for target, number in met.items() if least <= number <= most]
        self._tail = fit_tail(points, count)
        counted = [trial for trial in trials if least <= trial.successes <= 2 * least]
        left = sum(trial.successes for trial in counted)
        self._left = min(1.0, left / max(1, sum(met[trial.goal.train] for trial in counted)))

    def compute(self, target: int) -> float:
        """Probability that an attempt succeeds."""
        return self._left * self._tail.compute_chance(target)


def _leave(rungs: Sequence[MeasuredRung], after: Sequence[MeasuredRung]) -> Iterator[MeasuredRung]:
    """The rungs below the first whose target the next stretch, at the same share, meets for less."""
    works = {(step.rung.frozen, step.rung.min_train_correct): step.rung.work for step in after}
    for step in rungs:
        if works.get((step.rung.frozen, step.rung.min_train_correct), math.inf) <= step.rung.work:
            return
        yield step


def _climb(rungs: Iterable[MeasuredRung], below: Rung | None, foot: int) -> Iterator[MeasuredRung]:
    """Those from the foot on that cost enough more than the one below and, at its share, ask for more."""
    for step in rungs:
        rung = step.rung
        if below and rung.frozen == below.frozen and rung.min_train_correct <= below.min_train_correct:
            continue
        if rung.work >= max(MIN_WORK, foot, math.ceil(below.work * _STEP) if below else 0):
            yield step
            below = rung


@dataclass(frozen=True, slots=True)
class _Trial:
    """What every trace did at one goal."""

    goal: Goal
    wins: tuple[bool, ...]
    costs: tuple[int, ...]
    """Multiply-accumulates."""

    @property
    def successes(self) -> int:
        return sum(self.wins)


def _try_targets(stretch: Stretch, sizes: Sizes) -> Iterator[_Trial]:
    """Every target from the lowest counted to 99 % of the train split, with its floor."""
    columns, allowances = Columns(stretch.traces), choose_crosswise(stretch, sizes)
    lowest = min(_get_first_count(trace) for trace in stretch.traces)
    floor = 0
    for target in range(lowest, 99 * sizes.n_train // 100 + 1):
        # Higher up too few courses meet the target to tell their eval share; the last floor known is kept.
        floor = max(floor, find_floor(columns, target) or 0)
        goal = Goal(target, floor)
        wins, costs = columns.replay(goal, allowances, sizes.recount_cost)
        yield _Trial(goal, tuple(wins.tolist()), tuple(costs.tolist()))


def _describe_trial(trial: _Trial, probability: float, is_fitted: bool) -> Measurement:
    attempts = len(trial.wins)
    low, high = compute_interval(trial.successes, attempts)
    cost = round(fmean(trial.costs) / 1e6)
    variation = round(compute_variation(trial.costs, trial.wins, probability), 3)
    return Measurement(attempts, trial.successes, probability, low, high, cost, variation, is_fitted)


def _compute_work(columns: Columns, target: int, allowances: Sequence[float], sizes: Sizes) -> float:
    """Multiply-accumulates per success; the eval floor, which nearly all clear, is left out."""
    wins, costs = columns.replay(Goal(target, 0), allowances, sizes.recount_cost)
    return int(costs.sum()) / int(wins.sum()) if wins.any() else math.inf


def _get_first_count(trace: Trace) -> int:
    return next(count for count in trace.train_correct if count != NOT_COUNTED)


def _check_steps(ladder: Sequence[MeasuredRung]) -> None:
    for before, after in pairwise(ladder):
        if after.rung.work > 2 * before.rung.work:
            raise ValueError(
                f"{after.rung} costs more than twice {before.rung}: measure targets between them"
            )
