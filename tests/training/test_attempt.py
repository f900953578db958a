"""Attempts end to end: what they claim is true by the normative evaluator, and they end when they should."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from math import inf

import pytest
import torch

from consensus.block import Witness
from consensus.dataset import Dataset
from consensus.errors import BadDelivery, Code
from consensus.evaluation import NormativeWorkVerifier
from consensus.task import Rung, Task
from tests.training.samples import (
    DEAR,
    EASY,
    FAR,
    HEADER,
    NETWORK,
    NEVER,
    build_attempt,
    build_recipe,
    build_task,
)
from training import attempt as attempt_module
from training import evaluator as evaluator_module
from training.attempt import AttemptResult, Candidate, MiningAttempt
from training.data import TrainingData
from training.evaluator import ExactWorkVerifier, compute_features
from training.outcome import Progress
from training.rate import build_practice_header
from training.recipe import Polish
from training.tasks import load_recipe
from training.tasks.default import DEFAULT_RECIPE


def _run(attempt: MiningAttempt, rung: Rung, seed: int = 7) -> AttemptResult:
    return attempt.run([attempt.build(HEADER, rung, seed)], rung, lambda: False, lambda progress: None)


@pytest.fixture(scope="module")
def found(digits: Dataset, digits_data: TrainingData) -> tuple[Task, AttemptResult]:
    attempt, task = build_attempt(digits, digits_data, build_recipe(5_188))
    return task, _run(attempt, EASY)


def test_found_witness_verifies(found: tuple[Task, AttemptResult], digits: Dataset) -> None:
    task, result = found
    assert result.outcome == "found"
    assert result.witness is not None
    assert (result.train_correct, result.eval_correct) == (
        result.witness.train_correct,
        result.witness.eval_correct,
    )
    assert result.train_correct >= EASY.min_train_correct
    assert result.eval_correct >= EASY.min_eval_correct
    for verifier in (NormativeWorkVerifier(digits), ExactWorkVerifier(digits)):
        verifier.check(task, EASY, HEADER, result.witness)


def test_easy_target_stops_early(found: tuple[Task, AttemptResult]) -> None:
    assert found[1].samples < 5_184


def _mutations(witness: Witness) -> dict[Code, Witness]:
    solution = witness.solution
    return {
        Code.WRONG_TRAIN_COUNT: replace(witness, train_correct=witness.train_correct + 1),
        Code.WRONG_EVAL_COUNT: replace(witness, eval_correct=witness.eval_correct - 1),
        Code.SOLUTION_LENGTH: replace(witness, solution=solution + b"\0"),
        Code.WEIGHT_OUT_OF_RANGE: replace(witness, solution=b"\x80" + solution[1:]),
    }


@pytest.mark.parametrize(
    "code",
    [Code.WRONG_TRAIN_COUNT, Code.WRONG_EVAL_COUNT, Code.SOLUTION_LENGTH, Code.WEIGHT_OUT_OF_RANGE],
)
def test_rejects_a_false_witness(code: Code, found: tuple[Task, AttemptResult], digits: Dataset) -> None:
    task, result = found
    assert result.witness is not None
    with pytest.raises(BadDelivery) as caught:
        ExactWorkVerifier(digits).check(task, EASY, HEADER, _mutations(result.witness)[code])
    assert caught.value.code is code


def test_rejects_a_witness_under_another_header(found: tuple[Task, AttemptResult], digits: Dataset) -> None:
    task, result = found
    assert result.witness is not None
    with pytest.raises(BadDelivery) as caught:
        ExactWorkVerifier(digits).check(task, EASY, build_practice_header(8), result.witness)
    assert caught.value.code is Code.WRONG_TRAIN_COUNT


def test_same_seed_gives_the_same_witness(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = build_attempt(digits, digits_data, build_recipe(1_297))
    rung = replace(EASY, min_train_correct=700, min_eval_correct=0)
    first, again = _run(attempt, rung), _run(attempt, rung)
    assert first.witness is not None
    assert first.witness == again.witness
    assert first.multiply_accumulates == again.multiply_accumulates


def test_missed_attempt_ran_to_its_end_and_counted(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = build_attempt(digits, digits_data, build_recipe(1_297))
    result = _run(attempt, FAR)
    assert result.outcome == "missed"
    assert result.witness is None
    assert result.samples == 1_297 // 64 * 64
    assert 500 < result.train_correct < FAR.min_train_correct
    # Far from the target: nothing is counted that the search has not counted already.
    assert result.eval_correct == 0


def test_eval_floor_alone_makes_a_miss(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = build_attempt(digits, digits_data, build_recipe(1_297))
    result = _run(attempt, replace(EASY, min_train_correct=400, min_eval_correct=500))
    assert result.outcome == "missed"
    assert result.train_correct >= 400
    assert 150 < result.eval_correct < 500
    assert result.witness is None


@pytest.mark.parametrize(("checkpoint", "samples"), [(0, 0), (1, 1_280 // 64 // 8 * 64)])
def test_hopeless_attempt_gives_up_at_its_first_checkpoint(
    digits: Dataset, digits_data: TrainingData, checkpoint: int, samples: int
) -> None:
    limit = 0.01 if checkpoint else 0.999
    allowances = (*NEVER[:checkpoint], limit, *NEVER[checkpoint + 1 :])
    attempt, _ = build_attempt(digits, digits_data, build_recipe(1_280, allowances))
    result = _run(attempt, FAR)
    assert result.outcome == "gave-up"
    assert result.samples == samples
    assert (result.train_correct > 0) == (samples > 0)


@pytest.mark.parametrize(
    "polish",
    [
        DEFAULT_RECIPE.polish,
        load_recipe("digits").polish,
        replace(load_recipe("fashion-mnist").polish, tune_steps=(5, 7), tune_batch=500),
    ],
    ids=["searched", "by margins", "in batches"],
)
def test_multiply_accumulates_follow_the_documented_formula(
    polish: Polish, digits: Dataset, digits_data: TrainingData
) -> None:
    allowances = (0.0, *(1.0,) * (8 + len(polish.tune_steps) + polish.sweeps))
    recipe = replace(build_recipe(1_280, allowances), polish=polish)
    attempt, _ = build_attempt(digits, digits_data, recipe)
    forward, dense = NETWORK.multiply_accumulates, 64 * 64 + 640
    watermark = attempt.build(HEADER, FAR, 7).course.watermark
    last = NETWORK.layers[-1].start
    free_last = NETWORK.weight_count - last - int((watermark.indices >= last).sum())
    sweep = polish.proposals * (64 * (1 + 10) + free_last)
    width = 64 + 1
    expected = 1_297 * (forward - dense + width**2 + 2 * width * 10) + width**3
    expected += 3 * forward * 1_280
    expected += 1_297 * (forward + dense * len(polish.tune_steps) + polish.sweeps * sweep)
    expected += 3 * dense * sum(polish.tune_steps) * min(polish.tune_batch, 1_297)
    assert _run(attempt, FAR).multiply_accumulates == expected


def test_cancel_is_asked_between_steps_and_ends_the_attempt(
    digits: Dataset, digits_data: TrainingData
) -> None:
    attempt, _ = build_attempt(digits, digits_data, build_recipe(5_188))
    asked: list[float] = []

    def is_cancelled() -> bool:
        asked.append(time.thread_time())
        # Once before the first step.
        return len(asked) == 1 + 20

    result = attempt.run([attempt.build(HEADER, FAR, 1)], FAR, is_cancelled, lambda progress: None)
    assert result.outcome == "cancelled"
    assert result.witness is None
    assert result.samples == 20 * 64
    assert len(asked) == 1 + 20


def test_cancel_is_never_far_away(digits: Dataset, digits_data: TrainingData) -> None:
    """From training to the last sweep: at most 0.2 s of this thread's time lie between two questions."""
    attempt, _ = build_attempt(digits, digits_data, build_recipe(1_297))
    asked: list[float] = []

    def is_cancelled() -> bool:
        asked.append(time.thread_time())
        return False

    attempt.run([attempt.build(HEADER, FAR, 1)], FAR, is_cancelled, lambda progress: None)
    assert max(after - before for before, after in pairwise(asked)) < 0.2


def test_cancel_is_asked_between_parts_of_an_evaluation(
    digits: Dataset, digits_data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """512 of 1,297 records at a time, as where a network is larger."""
    attempt, _ = build_attempt(digits, digits_data, build_recipe(1_297))
    network = attempt.build(HEADER, FAR, 1).course.build_network()
    whole = compute_features(network, digits_data.train.pixels)
    right = attempt.count(network, digits_data.train, lambda: None)
    monkeypatch.setattr(evaluator_module, "_LOOK_WORK", 1)
    asked: list[str] = []
    features = compute_features(network, digits_data.train.pixels, lambda: asked.append("features"))
    assert torch.equal(features, whole)
    assert attempt.count(network, digits_data.train, lambda: asked.append("count")) == right
    assert asked == ["features"] * 3 + ["count"] * 3


def test_an_attempt_is_cancelled_within_a_recount(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = build_attempt(digits, digits_data, build_recipe(5_188))
    asked = 0

    def run(most: float) -> AttemptResult:
        nonlocal asked
        asked = 0

        def is_cancelled() -> bool:
            nonlocal asked
            asked += 1
            return asked >= most

        return attempt.run([attempt.build(HEADER, EASY, 7)], EASY, is_cancelled, lambda progress: None)

    found = run(inf)
    # It was last asked before the eval split.
    cancelled = run(asked)
    assert (found.outcome, cancelled.outcome) == ("found", "cancelled")
    assert cancelled.train_correct == found.train_correct
    assert cancelled.eval_correct < EASY.min_eval_correct <= found.eval_correct


def test_progress_grows_to_the_whole_attempt(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = build_attempt(digits, digits_data, build_recipe(2_594))
    reports: list[Progress] = []
    attempt.run([attempt.build(HEADER, FAR, 1)], FAR, lambda: False, reports.append)
    samples = [report.samples for report in reports]
    assert samples == sorted(samples)
    assert samples[-1] == reports[-1].total_samples == 2_594 // 64 * 64
    assert reports[0].train_correct < reports[-1].train_correct
    assert all(before.seconds <= after.seconds for before, after in pairwise(reports))


def test_without_an_exact_backend_the_normative_count_decides(
    digits: Dataset, digits_data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, _ = build_attempt(digits, digits_data, build_recipe(1_297))
    monkeypatch.setattr(attempt_module, "choose_compute_logits", lambda device: None)
    slow, _ = build_attempt(digits, digits_data, build_recipe(1_297))
    rung = replace(EASY, min_train_correct=700, min_eval_correct=0)
    assert _run(slow, rung).witness == _run(fast, rung).witness


@pytest.mark.cuda
@pytest.mark.parametrize("networks", [1, 4])
def test_attempt_on_cuda_verifies(networks: int, digits: Dataset) -> None:
    data, recipe = TrainingData.load(digits, "cuda"), replace(build_recipe(5_188), networks=networks)
    rung = replace(EASY, work=10**6)
    task = build_task(digits.spec, rung)
    attempt = MiningAttempt(task, data, recipe, "cuda")
    candidates = attempt.search(HEADER, rung, 1).take(networks)
    assert len(candidates) == networks
    result = attempt.run(candidates, rung, lambda: False, lambda progress: None)
    assert result.witness is not None
    NormativeWorkVerifier(digits).check(task, rung, result.header, result.witness)


def test_fewer_networks_where_courses_are_much_of_a_block(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = build_attempt(digits, digits_data, replace(build_recipe(640), networks=8))
    course = 3 * NETWORK.multiply_accumulates * 640
    counts = [
        attempt.count_networks(replace(FAR, work=courses * course // 10**6 + 1)) for courses in (1, 3, 1_000)
    ]
    assert counts == [1, 2, 8]
    assert attempt.count_networks(replace(FAR, work=10**9), lasting=10.0) == 1


@pytest.fixture(scope="module")
def crowd(digits: Dataset, digits_data: TrainingData) -> tuple[Task, list[Candidate], AttemptResult]:
    attempt, task = build_attempt(digits, digits_data, replace(build_recipe(2_594), networks=3))
    candidates = attempt.search(HEADER, replace(EASY, work=10**6), 5).take(3)
    return task, candidates, attempt.run(candidates, EASY, lambda: False, lambda progress: None)


def test_witness_of_many_is_for_the_header_of_its_network(
    crowd: tuple[Task, list[Candidate], AttemptResult], digits: Dataset
) -> None:
    task, candidates, result = crowd
    assert len(candidates) == 3
    assert result.witness is not None
    assert result.header in [candidate.header for candidate in candidates]
    NormativeWorkVerifier(digits).check(task, EASY, result.header, result.witness)
    others = [candidate.header for candidate in candidates if candidate.header != result.header]
    for header in others:
        with pytest.raises(BadDelivery):
            NormativeWorkVerifier(digits).check(task, EASY, header, result.witness)


def test_work_of_many_is_the_work_of_each(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = build_attempt(digits, digits_data, replace(build_recipe(640), networks=3))
    candidates = attempt.search(HEADER, DEAR, 5).take(3)
    result = attempt.run(candidates, DEAR, lambda: False, lambda progress: None)
    alone = _run(attempt, DEAR)
    assert result.outcome == "missed"
    assert result.samples == 3 * 640
    # The search has as many steps as the last layer has free weights.
    assert result.multiply_accumulates == pytest.approx(3 * alone.multiply_accumulates, rel=0.02)


def test_hopeless_ones_leave_and_the_best_is_told_of(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = build_attempt(digits, digits_data, replace(build_recipe(640), networks=4))
    candidates = attempt.search(HEADER, DEAR, 5).take(4)
    promises = sorted(candidate.course.promise for candidate in candidates)
    share = (promises[-1] - 0.5) / len(digits_data.train)
    for candidate in candidates:
        candidate.course.plan = replace(candidate.course.plan, allowances=(share, *NEVER[1:]))
    result = attempt.run(candidates, DEAR, lambda: False, lambda progress: None)
    assert result.outcome == "missed"
    assert result.samples == 640
    best = max(candidates, key=lambda candidate: candidate.course.promise)
    assert result.header == best.header


def test_another_takes_the_place_of_one_that_ended(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = build_attempt(digits, digits_data, replace(build_recipe(640), networks=2))
    search = attempt.search(HEADER, DEAR, 5)
    more = iter([search.take_one] * 3)
    candidates = search.take(2)
    look = candidates[0].course.multiply_accumulates
    result = attempt.run(
        candidates, DEAR, lambda: False, lambda progress: None, lambda: next(more, lambda: None)()
    )
    assert (result.outcome, result.networks, result.samples) == ("missed", 5, 5 * 640)
    alone = _run(attempt, DEAR)
    assert result.multiply_accumulates == pytest.approx(5 * alone.multiply_accumulates, rel=0.02)
    # It looks at two together: one is ready whom nobody has taken.
    assert search.spent == look


@pytest.mark.parametrize("count", [1, 2])
def test_one_that_came_later_wins(count: int, digits: Dataset, digits_data: TrainingData) -> None:
    easy = replace(EASY, work=10**6)
    attempt, task = build_attempt(digits, digits_data, replace(build_recipe(2_594), networks=count))
    candidates = attempt.search(HEADER, easy, 5).take(1)
    candidates += [attempt.build(replace(HEADER, nonce=nonce), easy, nonce) for nonce in range(4)]
    *others, best = sorted(candidates, key=lambda candidate: candidate.course.promise)
    share = (best.course.promise - 0.5) / len(digits_data.train)
    for candidate in candidates:
        candidate.course.plan = replace(candidate.course.plan, allowances=(share, *NEVER[1:]))
    later = iter([*others[count:], best])
    result = attempt.run(
        others[:count], easy, lambda: False, lambda progress: None, lambda: next(later, None)
    )
    assert (result.outcome, result.header, result.networks) == ("found", best.header, 5)
    assert result.witness is not None
    NormativeWorkVerifier(digits).check(task, easy, result.header, result.witness)


@pytest.mark.parametrize("networks", [1, 2])
def test_cancel_is_asked_where_nobody_promises_enough(
    networks: int, digits: Dataset, digits_data: TrainingData
) -> None:
    """Others that are given up at once come without a step in between."""
    recipe = replace(build_recipe(640, (1.0, *NEVER[1:])), networks=networks)
    hopeless, _ = build_attempt(digits, digits_data, recipe)
    begun = 0

    def find_next() -> Candidate:
        nonlocal begun
        begun += 1
        return hopeless.build(replace(HEADER, nonce=begun), DEAR, begun)

    candidates = [find_next() for _ in range(networks)]
    result = hopeless.run(candidates, DEAR, lambda: begun >= 6, lambda progress: None, find_next)
    assert (result.outcome, result.networks, result.samples) == ("cancelled", 6, 0)


def test_cancel_of_many_counts_the_steps_of_each(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = build_attempt(digits, digits_data, replace(build_recipe(640), networks=3))
    candidates = attempt.search(HEADER, DEAR, 5).take(3)
    promised = sum(candidate.course.multiply_accumulates for candidate in candidates)
    asked = iter(range(1 + 5))
    result = attempt.run(candidates, DEAR, lambda: next(asked) == 5, lambda progress: None)
    assert result.outcome == "cancelled"
    assert result.samples == 3 * 5 * 64
    trained = 3 * 5 * 64 * 3 * NETWORK.multiply_accumulates
    assert result.multiply_accumulates == promised + trained
