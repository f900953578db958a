"""The price of an attack: its cost to a solution over the reference miner's, with an interval.

Arithmetic on recordings; trains nothing. An attempt gives up by allowances that one half of the recordings
chose and the other half pays for, so that nothing is measured on what it was fitted to. Where too few won to
be counted, the reference's own distribution, moved by the mean difference on the same headers, tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean

import numpy as np
import numpy.typing as npt

from training.lab.attacks.rows import Recording
from training.lab.columns import Columns
from training.lab.ladder import Sizes, choose_allowances, keep_share
from training.lab.traces import Goal, Trace

_REPLICATES = 2_000
_CONFIDENCE = 0.95
_RULE_OF_THREE = 3.0
"""Where nothing succeeded in n attempts, the probability is below 3/n with 95 % confidence."""
_ENOUGH_TO_HALVE = 20
_FLOOR_SHARE = 0.05
_PICKED = 0.05
_SHARES = (0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
_TOPS = (0.03, 0.06, 0.1, 0.2, 0.4, 1.0)

Choose = Callable[[Sequence[Trace], Goal, Sizes], Sequence[float]]
"""(pilot, goal, sizes) → allowances as shares of the train split."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt at a goal came to."""

    seed: int
    won: bool
    work: float
    """Multiply-accumulates."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """A cost to solution over the reference's, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Shift:
    """By how many train records an attack's courses end above the reference's."""

    mean: float
    error: float
    """Half of its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Price:
    """Of one attack at one goal."""

    attempts: int
    wins: int
    work: Ratio
    seconds: Ratio
    is_counted: bool
    """Whether the wins were counted, not told by the shift."""


def choose_goals(reference: Sequence[Recording], probabilities: Sequence[float]) -> list[Goal]:
    """The train targets that this share of the reference's whole courses meets; the floor is the median's."""
    finals = np.array([recording.train_correct[-1] for recording in reference])
    median = np.quantile(finals, 0.5, method="higher")
    met = [recording.eval_correct[-1] for recording in reference if recording.train_correct[-1] >= median]
    floor = int(np.quantile(met, _FLOOR_SHARE, method="lower"))
    return [Goal(int(np.quantile(finals, 1 - p, method="higher")), floor) for p in probabilities]


def choose_as_reference(pilot: Sequence[Trace], goal: Goal, sizes: Sizes) -> Sequence[float]:
    """The rule by which ladders are made: one schedule, cheap over many targets."""
    return choose_allowances(pilot, sizes)


def choose_pickier(pilot: Sequence[Trace], goal: Goal, sizes: Sizes) -> Sequence[float]:
    """The reference's schedule, but only a twentieth of the headers promises enough to be trained for."""
    promises = [trace.shown[0] for trace in pilot]
    least = float(np.quantile(promises, 1 - _PICKED)) / sizes.n_train
    return (least, *choose_as_reference(pilot, goal, sizes)[1:])


def choose_for_goal(pilot: Sequence[Trace], goal: Goal, sizes: Sizes) -> Sequence[float]:
    """The schedule that makes this one goal cheapest, of more and tighter ones."""
    candidates = [
        keep_share(pilot, promising, kept, top, sizes.n_train)
        for promising, kept, top in product(_SHARES, _SHARES, _TOPS)
    ]
    candidates.append(tuple(choose_as_reference(pilot, goal, sizes)))
    columns = Columns(pilot)

    def compute_cost(allowances: Sequence[float]) -> float:
        records = [allowance * sizes.n_train for allowance in allowances]
        wins, costs = columns.replay(goal, records, sizes.recount_cost)
        # One win more than seen: a schedule is not good because it was lucky once.
        return float(costs.sum() / (wins.sum() + 1))

    return min(candidates, key=compute_cost)


def attempt_all(
    recordings: Sequence[Recording], goal: Goal, sizes: Sizes, choose: Choose = choose_as_reference
) -> list[Outcome]:
    """What attempts at a goal would have done on these courses.

    Fewer than twenty choose and pay alike: a little too cheap.
    """
    halves = [[r for r in recordings if r.seed % 2 == parity] for parity in (0, 1)]
    if len(recordings) < _ENOUGH_TO_HALVE:
        halves = [list(recordings), []]
    outcomes = []
    for measured, pilot in (halves, halves[::-1]):
        if not measured:
            continue
        traces = [recording.get_trace() for recording in pilot or measured]
        allowances = [share * sizes.n_train for share in choose(traces, goal, sizes)]
        outcomes += _attempt(measured, goal, allowances, sizes)
    return outcomes


def compute_shift(attack: Sequence[Recording], reference: Sequence[Recording]) -> Shift:
    """On the headers that both met or of the two means, whichever is surer; no bound for fewer than three."""
    finals = {recording.seed: recording.train_correct[-1] for recording in reference}
    ends = np.array([recording.train_correct[-1] for recording in attack], np.float64)
    pairs = [(r.train_correct[-1], finals[r.seed]) for r in attack if r.seed in finals]
    differences = np.array([one - other for one, other in pairs], np.float64)
    every = np.array(list(finals.values()), np.float64)
    free = Shift(float(ends.mean() - every.mean()), math.hypot(_bound(ends), _bound(every)))
    if len(differences) < 3:
        return free
    return min(Shift(float(differences.mean()), _bound(differences)), free, key=lambda shift: shift.error)


def _bound(values: npt.NDArray[np.float64]) -> float:
    """Half of the 95 % interval of their mean."""
    if len(values) < 3:
        return math.inf
    return _compute_student(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))


def _compute_student(freedom: int) -> float:
    """97.5 % point of Student's t, by its expansion about the normal one: 2 % low at 4 degrees of freedom."""
    z = 1.96
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def estimate_price(
    attack: Sequence[Recording],
    reference: Sequence[Recording],
    shift: Shift,
    goal: Goal,
    later: int,
    near: float,
) -> tuple[Ratio, Ratio]:
    """Work and seconds if the attack's courses ended as the reference's do, moved by the shift.

    Both are taken to save the same share by giving up, but for what lies behind the first stage of the
    polish: of the reference's last `later` checkpoints those alone reach the next who miss by at most `near`.
    """
    first = len(reference[0].shown) - 1 - later
    missed = [goal.train - recording.shown[first] for recording in reference]
    share = sum(0 < records <= near for records in missed) / len(missed)
    finals = [recording.train_correct[-1] for recording in reference]
    means = (shift.mean, shift.mean + shift.error, shift.mean - shift.error)
    chance = _compute_chance(finals, goal.train)
    gains = [chance / _compute_chance(finals, goal.train - mean) for mean in means]
    if max(finals) < goal.train - shift.mean:
        # Beyond every course of the reference, nothing tells by how much the attack is dearer.
        gains = [gains[0], gains[1], math.inf]
    ratios = []
    for measure in ("multiply_accumulates", "seconds"):
        spent = [
            fmean(_weigh(getattr(recording, measure), first, share) for recording in side)
            for side in (attack, reference)
        ]
        ratios.append(Ratio(*(spent[0] / spent[1] * gain for gain in gains)))
    return ratios[0], ratios[1]


def _weigh(spent: Sequence[float], first: int, share: float) -> float:
    """What a course had spent at its first stage, and this share of what came behind it."""
    behind = spent[min(first, len(spent) - 1)]
    return behind + share * (spent[-1] - behind)


def _compute_chance(finals: Sequence[int], target: float) -> float:
    """Share of the finals that meet a target, half a course at the least."""
    return max(0.5, sum(final >= target for final in finals)) / len(finals)


def compute_price(attack: Sequence[Outcome], reference: Sequence[Outcome]) -> Price:
    """Cost to solution of an attack over the reference's; seeds that both have are drawn together."""
    seeds = sorted({outcome.seed for outcome in (*attack, *reference)})
    places = {seed: place for place, seed in enumerate(seeds)}
    draws = np.random.default_rng(0).poisson(1.0, (_REPLICATES, len(seeds))).astype(np.float64)
    draws = np.concatenate([np.ones((1, len(seeds))), draws])
    ratios = []
    for measure in ("work", "seconds"):
        costs = [_resample(outcomes, measure, places, draws) for outcomes in (attack, reference)]
        with np.errstate(invalid="ignore"):
            ratios.append(_summarise(costs[0] / costs[1]))
    wins = sum(outcome.won for outcome in attack)
    if not wins:
        ratios = [replace(ratio, high=math.inf) for ratio in ratios]
    return Price(len(attack), wins, ratios[0], ratios[1], True)


def _attempt(
    recordings: Sequence[Recording], goal: Goal, allowances: Sequence[float], sizes: Sizes
) -> list[Outcome]:
    """Those on courses that take the same seconds (rows.even_out)."""
    traces = [recording.get_trace() for recording in recordings]
    wins, works = Columns(traces).replay(goal, allowances, sizes.recount_cost)
    # The same way once more, counted in microseconds.
    micros = [tuple(round(1e6 * seconds) for seconds in recording.seconds) for recording in recordings]
    timed = [replace(trace, multiply_accumulates=m) for trace, m in zip(traces, micros, strict=True)]
    _, spent = Columns(timed).replay(goal, allowances, round(1e6 * recordings[0].recount_seconds))
    columns = zip(recordings, wins.tolist(), works.tolist(), spent.tolist(), strict=True)
    return [Outcome(recording.seed, won, work, time / 1e6) for recording, won, work, time in columns]


def _resample(
    outcomes: Sequence[Outcome], measure: str, places: dict[int, int], draws: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """float[1 + replicates]: cost to solution, first as seen."""
    weights = draws[:, [places[outcome.seed] for outcome in outcomes]]
    costs = np.array([getattr(outcome, measure) for outcome in outcomes])
    wins = np.array([outcome.won for outcome in outcomes], np.float64)
    least = 0.0 if wins.any() else _RULE_OF_THREE
    total: npt.NDArray[np.float64] = weights @ costs
    with np.errstate(divide="ignore", invalid="ignore"):
        solution: npt.NDArray[np.float64] = total / np.maximum(weights @ wins, least)
    return solution


def _summarise(ratios: npt.NDArray[np.float64]) -> Ratio:
    tail = (1 - _CONFIDENCE) / 2
    known = ratios[~np.isnan(ratios)]
    low, high = (float(np.quantile(known, share, method="nearest")) for share in (tail, 1 - tail))
    return Ratio(float(ratios[0]), low, high)


def compute_spread(recordings: Sequence[Recording]) -> tuple[float, float]:
    """Mean and standard deviation of the train records right at the end."""
    finals = [recording.train_correct[-1] for recording in recordings]
    return fmean(finals), float(np.std(finals, ddof=1)) if len(finals) > 1 else 0.0
