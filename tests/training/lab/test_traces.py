"""Traces tell what attempts would do, and their file survives a kill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from consensus.dataset import Dataset
from consensus.task import Rung
from tests.training.samples import NETWORK, NEVER, build_recipe, build_task, build_watermark
from training.attempt import MiningAttempt
from training.course import Course
from training.data import TrainingData
from training.evaluator import compute_logits_in_float32, count_right
from training.lab.bench_rows import describe_origin
from training.lab.columns import Columns
from training.lab.traces import (
    NOT_COUNTED,
    CourseOrder,
    Goal,
    Trace,
    Tracer,
    extend_traces,
    group_orders,
    read_traces,
)
from training.rate import build_practice_header
from training.recipe import Plan

SAMPLES = 2_594
PLAN = Plan(0, SAMPLES, 8, NEVER)
RECOUNT_COST = 1_797 * NETWORK.multiply_accumulates
ALLOWANCES = (0.7, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.08, 0.06, 0.04, 0.03, 0.02, 0.02, 0.02)


def trace_singly(tracer: Tracer, orders: Sequence[CourseOrder]) -> Iterator[Trace]:
    return (tracer.trace([order])[0] for order in orders)


@pytest.fixture(scope="module")
def tracer(digits_data: TrainingData) -> Tracer:
    origin = describe_origin("cpu", 1, "test")
    return Tracer(NETWORK, digits_data, build_recipe(SAMPLES), compute_logits_in_float32, origin, "")


@pytest.fixture(scope="module")
def trace(tracer: Tracer) -> Trace:
    return tracer.trace([(PLAN, 9_500, 5)])[0]


@pytest.mark.parametrize(
    "goal", [Goal(500, 0), Goal(1_050, 0), Goal(1_150, 300), Goal(1_284, 0), Goal(900, 500), Goal(1_240, 0)]
)
def test_replay_equals_a_real_attempt(
    goal: Goal, trace: Trace, digits: Dataset, digits_data: TrainingData
) -> None:
    rung = Rung(9_500, goal.train, goal.eval, 10_000)
    attempt = MiningAttempt(
        build_task(digits.spec, rung), digits_data, build_recipe(SAMPLES, ALLOWANCES), "cpu"
    )
    candidate = attempt.build(build_practice_header(5), rung, 5)
    result = attempt.run([candidate], rung, lambda: False, lambda progress: None)
    records = [allowance * digits.spec.n_train for allowance in ALLOWANCES]
    wins, costs = Columns([trace]).replay(goal, records, RECOUNT_COST)
    assert wins.tolist() == [result.witness is not None]
    assert costs.tolist() == [result.multiply_accumulates]


def test_counts_of_the_head_are_exact(digits_data: TrainingData) -> None:
    recipe = build_recipe(SAMPLES)
    course = Course(NETWORK, build_watermark(9_500), digits_data, recipe, PLAN, 5)
    for checkpoint in course.follow():
        if checkpoint.index >= PLAN.parts:
            logits = compute_logits_in_float32(course.build_network(), digits_data.train.pixels)
            assert checkpoint.train_correct == count_right(logits, digits_data.train.labels)


def test_estimates_may_go_uncounted(tracer: Tracer, trace: Trace) -> None:
    (skipping,) = replace(tracer, counts_estimates=False).trace([(PLAN, 9_500, 5)])
    assert skipping.train_correct == (NOT_COUNTED,) * 8 + trace.train_correct[8:]
    assert skipping.eval_correct == (NOT_COUNTED,) * 8 + trace.eval_correct[8:]
    assert skipping.shown == trace.shown
    assert skipping.multiply_accumulates == trace.multiply_accumulates


def test_file_lacks_only_what_it_lacks(tracer: Tracer, tmp_path: Path) -> None:
    path, plan = tmp_path / "rows.jsonl", Plan(0, 640, 8, NEVER)
    wanted = [(plan, 9_500, seed) for seed in range(3)]
    assert len(list(extend_traces(path, partial(trace_singly, tracer), wanted[:2]))) == 2
    assert [trace.seed for trace in extend_traces(path, partial(trace_singly, tracer), wanted)] == [2]
    assert [trace.seed for trace in read_traces(path)] == [0, 1, 2]


def test_line_cut_by_a_kill_is_measured_again(tracer: Tracer, tmp_path: Path) -> None:
    path, plan = tmp_path / "rows.jsonl", Plan(0, 640, 8, NEVER)
    wanted = [(plan, 9_500, seed) for seed in range(2)]
    whole = list(extend_traces(path, partial(trace_singly, tracer), wanted))
    path.write_bytes(path.read_bytes()[:-20])
    assert read_traces(path) == whole[:1]
    assert [trace.seed for trace in extend_traces(path, partial(trace_singly, tracer), wanted)] == [1]
    assert [trace.train_correct for trace in read_traces(path)] == [t.train_correct for t in whole]


def test_groups_are_of_one_plan_and_share_and_keep_the_order() -> None:
    plan, longer = Plan(0, 640, 8, NEVER), Plan(0, 1_280, 8, NEVER)
    orders = [(plan, 9_500, seed) for seed in range(5)] + [(longer, 9_500, 0), (longer, 9_800, 0)]
    groups = list(group_orders(orders, 3))
    assert [len(group) for group in groups] == [3, 2, 1, 1]
    assert [order for group in groups for order in group] == orders


def test_courses_in_one_pass_are_courses_under_their_own_seeds(tracer: Tracer) -> None:
    plan = Plan(0, 640, 8, NEVER)
    orders = [(plan, 9_500, seed) for seed in range(3)]
    together = tracer.trace(orders)
    alone = [trace for order in orders for trace in tracer.trace([order])]
    for one, other in zip(together, alone, strict=True):
        assert (one.seed, one.shown[0]) == (other.seed, other.shown[0])
        assert abs(one.shown[1] - other.shown[1]) <= 45
        assert one.multiply_accumulates == other.multiply_accumulates
