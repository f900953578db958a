"""The arithmetic from traces to rungs, on made-up courses whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest

from tests.training.samples import NEVER, make_trace
from training.lab import ladder as ladder_module
from training.lab.columns import Columns
from training.lab.ladder import (
    Chances,
    MeasuredRung,
    Sizes,
    Stretch,
    _Trial,
    build_ladder,
    choose_allowances,
    find_floor,
)
from training.lab.statistics import Tail
from training.lab.traces import Goal
from training.recipe import Plan

SIZES = Sizes(n_train=1_297, recount_cost=178_000_000)


def _make_stretch(frozen: int, mean: float, deviation: float, courses: int = 400) -> Stretch:
    traces = tuple(make_trace(frozen, seed, mean, deviation) for seed in range(courses))
    return Stretch(frozen, Plan(0, 20_752, 8, NEVER), traces)


STRETCHES = (_make_stretch(9_500, 1_230, 8), _make_stretch(9_900, 1_210, 15))


@pytest.fixture(scope="module")
def built() -> tuple[tuple[Plan, ...], tuple[MeasuredRung, ...]]:
    return build_ladder(STRETCHES, SIZES)


@pytest.fixture(scope="module")
def ladder(built: tuple[tuple[Plan, ...], tuple[MeasuredRung, ...]]) -> tuple[MeasuredRung, ...]:
    return built[1]


def test_ladder_obeys_the_protocol(ladder: tuple[MeasuredRung, ...]) -> None:
    works = [step.rung.work for step in ladder]
    assert works[0] >= 1_000
    assert all(before < after <= 2 * before for before, after in pairwise(works))
    assert all(step.rung.min_train_correct <= 1_284 for step in ladder)
    asked = [(step.rung.frozen, step.rung.min_train_correct) for step in ladder]
    assert asked == sorted(set(asked))


def test_ladder_ends_where_the_protocol_ends_it(
    ladder: tuple[MeasuredRung, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder_module, "MAX_RUNGS", len(ladder) - 2)
    assert build_ladder(STRETCHES, SIZES)[1] == ladder[:-2]


def test_ladder_begins_at_its_foot(ladder: tuple[MeasuredRung, ...]) -> None:
    assert build_ladder(STRETCHES, SIZES, foot=ladder[3].rung.work)[1] == ladder[3:]
    assert build_ladder(STRETCHES, SIZES, foot=ladder[3].rung.work + 1)[1][0].rung.work > ladder[3].rung.work


def test_work_is_cost_over_probability(ladder: tuple[MeasuredRung, ...]) -> None:
    for step in ladder:
        measured = step.measurement
        assert step.rung.work == round(measured.multiply_accumulates / measured.probability)


def test_measured_probability_lies_in_its_interval(ladder: tuple[MeasuredRung, ...]) -> None:
    for step in ladder:
        measured = step.measurement
        if not measured.is_fitted:
            assert measured.low <= measured.successes / measured.attempts == measured.probability
            assert measured.probability <= measured.high


def test_only_rare_successes_are_fitted_and_the_fit_is_right(ladder: tuple[MeasuredRung, ...]) -> None:
    fitted = [step for step in ladder if step.measurement.is_fitted]
    assert fitted
    assert {step.rung.frozen for step in fitted} == {9_900}
    assert max(step.measurement.successes for step in fitted) < 15
    tail = Tail(1_210, 15)
    truths = {step: tail.compute_chance(step.rung.min_train_correct - 0.5) for step in fitted}
    # Further out than one in ten thousand, 400 courses tell nothing.
    near = {step: truth for step, truth in truths.items() if truth > 1e-4}
    assert len(near) > 5
    for step, truth in near.items():
        assert 1 / 4 < step.measurement.probability / truth < 4


def test_courses_that_end_badly_do_not_change_the_tail() -> None:
    """They do so in ways of their own."""
    ends = np.random.default_rng(0).normal(1_210, 20, 2_000).astype(np.int64)
    worse = np.where(ends < 1_200, 1_200 - 4 * (1_200 - ends), ends)
    wins = {target: tuple((ends >= target).tolist()) for target in range(1_150, 1_290)}
    trials = [_Trial(Goal(target, 0), won, (1,) * len(ends)) for target, won in wins.items()]
    for target in (1_265, 1_280):
        truth = 1 - NormalDist(1_210, 20).cdf(target)
        chances = [Chances(drawn, trials).compute(target) for drawn in (ends, worse)]
        assert chances[0] == chances[1] == pytest.approx(truth, rel=0.3)


def test_plans_begin_where_their_stretch_begins(
    built: tuple[tuple[Plan, ...], tuple[MeasuredRung, ...]],
) -> None:
    plans, ladder = built
    first = next(step.rung for step in ladder if step.rung.frozen == 9_900)
    assert [plan.min_work for plan in plans] == [0, first.work]


def test_giving_up_saves_work_and_keeps_the_best() -> None:
    choosing, measured = STRETCHES[1].traces[:100], STRETCHES[1].traces[100:]
    allowances = choose_allowances(choosing, SIZES)
    assert len(allowances) == 14
    columns = Columns(measured)
    target = sorted(columns.train_correct[:, -1].tolist())[len(columns) * 9 // 10]
    records = [allowance * SIZES.n_train for allowance in allowances]
    wins, costs = columns.replay(Goal(target, 0), records, SIZES.recount_cost)
    never = [0.0, *(1.0 * SIZES.n_train for _ in allowances[1:])]
    all_wins, all_costs = columns.replay(Goal(target, 0), never, SIZES.recount_cost)
    assert wins.sum() >= all_wins.sum() / 3
    assert costs.sum() / wins.sum() < 0.9 * all_costs.sum() / all_wins.sum()


def test_nothing_is_given_up_where_few_courses_would_choose() -> None:
    few = _make_stretch(9_900, 1_210, 15, courses=124)
    plans, ladder = build_ladder([few], SIZES)
    assert plans[0].allowances == NEVER
    finals = [trace.train_correct[-1] for trace in few.traces]
    for step in ladder:
        met = sum(final >= step.rung.min_train_correct for final in finals)
        assert met - 2 <= step.measurement.successes <= met


def test_a_course_is_measured_by_what_others_chose() -> None:
    """A fifth that ends best promises little: the others would pass it over, itself would not."""
    stretch, better = (_make_stretch(9_900, mean, 15, courses=500) for mean in (1_210, 1_230))
    pairs = zip(stretch.traces, better.traces, strict=True)
    odd = tuple(t if t.seed % 5 else replace(b, shown=(1, *b.shown[1:])) for t, b in pairs)
    plans, ladder = build_ladder([replace(stretch, traces=odd)], SIZES)
    assert plans[0].allowances[0] * SIZES.n_train < 1
    finals = [trace.train_correct[-1] for trace in odd if trace.seed % 5]
    for step in ladder:
        assert step.measurement.successes <= sum(end >= step.rung.min_train_correct for end in finals)


def test_floor_is_cleared_by_nineteen_in_twenty() -> None:
    traces = STRETCHES[1].traces
    floor = find_floor(Columns(traces), 1_200)
    assert floor is not None
    met = [t for t in traces if t.train_correct[-1] >= 1_200]
    first = [next(e for n, e in zip(t.train_correct, t.eval_correct, strict=True) if n >= 1_200) for t in met]
    assert sum(right >= floor for right in first) / len(first) >= 0.95


def test_floor_is_unknown_where_too_few_meet_the_target() -> None:
    assert find_floor(Columns(STRETCHES[1].traces), 1_296) is None


def test_rejects_a_gap_in_the_ladder() -> None:
    with pytest.raises(ValueError, match="more than twice"):
        build_ladder([_make_stretch(9_900, 1_210, 2.2)], SIZES)


def test_longer_courses_take_over_where_they_are_cheaper() -> None:
    """At one share: twice the cost, but what lies in the tail of the short ones is in reach."""
    short, long = _make_stretch(9_900, 1_210, 15), _make_stretch(9_900, 1_230, 15)
    twice = [
        replace(t, samples=2 * t.samples, multiply_accumulates=tuple(2 * m for m in t.multiply_accumulates))
        for t in long.traces
    ]
    long = replace(long, plan=replace(long.plan, samples=2 * long.plan.samples), traces=tuple(twice))
    plans, ladder = build_ladder([short, long], SIZES)
    alone = [step.rung for step in build_ladder([short], SIZES)[1]]
    below = [step.rung for step in ladder if step.rung.work < plans[1].min_work]
    above = [step.rung for step in ladder if step.rung.work >= plans[1].min_work]
    assert below == alone[: len(below)]
    works = {rung.min_train_correct: rung.work for rung in alone}
    assert above[0].min_train_correct > below[-1].min_train_correct
    higher = [rung for rung in above if below[-1].min_train_correct < rung.min_train_correct in works]
    assert higher
    assert all(rung.work < works[rung.min_train_correct] for rung in higher)


def test_rejects_a_stretch_that_adds_nothing() -> None:
    with pytest.raises(ValueError, match="no rung"):
        build_ladder([STRETCHES[1], _make_stretch(9_950, 1_296, 1), STRETCHES[1]], SIZES)
