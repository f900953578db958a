"""Attempts end to end: what they claim is true by the normative evaluator, and they end when they should."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import pytest

from consensus.block import Witness
from consensus.dataset import Dataset
from consensus.errors import BadDelivery, Code
from consensus.evaluation import NormativeWorkVerifier
from consensus.task import Rung, Task
from tests.training.samples import NETWORK, NEVER, build_recipe, build_task
from training import attempt as attempt_module
from training.attempt import AttemptResult, MiningAttempt, Progress
from training.data import TrainingData
from training.evaluator import ExactWorkVerifier
from training.rate import build_practice_header
from training.recipe import Recipe

EASY = Rung(9_500, 1_000, 330, 10_000)
FAR = Rung(9_900, 1_284, 0, 10_000)
HEADER = build_practice_header(7)


def _build(dataset: Dataset, data: TrainingData, recipe: Recipe) -> tuple[MiningAttempt, Task]:
    task = build_task(dataset.spec, EASY)
    return MiningAttempt(task, data, recipe, "cpu"), task


def _run(attempt: MiningAttempt, rung: Rung, seed: int = 7) -> AttemptResult:
    return attempt.run(HEADER, rung, seed, lambda: False, lambda progress: None)


@pytest.fixture(scope="module")
def found(digits: Dataset, digits_data: TrainingData) -> tuple[Task, AttemptResult]:
    attempt, task = _build(digits, digits_data, build_recipe(5_188))
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
    attempt, _ = _build(digits, digits_data, build_recipe(1_297))
    rung = replace(EASY, min_train_correct=700, min_eval_correct=0)
    first, again = _run(attempt, rung), _run(attempt, rung)
    assert first.witness is not None
    assert first.witness == again.witness
    assert first.multiply_accumulates == again.multiply_accumulates


def test_missed_attempt_ran_to_its_end_and_counted(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = _build(digits, digits_data, build_recipe(1_297))
    result = _run(attempt, FAR)
    assert result.outcome == "missed"
    assert result.witness is None
    assert result.samples == 1_297 // 64 * 64
    assert 500 < result.train_correct < FAR.min_train_correct
    assert result.eval_correct > 150


def test_eval_floor_alone_makes_a_miss(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = _build(digits, digits_data, build_recipe(1_297))
    result = _run(attempt, replace(EASY, min_train_correct=400, min_eval_correct=500))
    assert result.outcome == "missed"
    assert result.train_correct >= 400
    assert result.witness is None


@pytest.mark.parametrize(("checkpoint", "samples"), [(0, 0), (1, 1_280 // 64 // 8 * 64)])
def test_hopeless_attempt_gives_up_at_its_first_checkpoint(
    digits: Dataset, digits_data: TrainingData, checkpoint: int, samples: int
) -> None:
    limit = 0.01 if checkpoint else 0.999
    allowances = (*NEVER[:checkpoint], limit, *NEVER[checkpoint + 1 :])
    attempt, _ = _build(digits, digits_data, build_recipe(1_280, allowances))
    result = _run(attempt, FAR)
    assert result.outcome == "gave-up"
    assert result.samples == samples
    assert (result.train_correct > 0) == (samples > 0)


def test_multiply_accumulates_follow_the_documented_formula(
    digits: Dataset, digits_data: TrainingData
) -> None:
    recipe = build_recipe(1_280)
    attempt, _ = _build(digits, digits_data, recipe)
    polish, forward, dense = recipe.polish, NETWORK.multiply_accumulates, 64 * 64 + 640
    watermark = attempt.build_course(HEADER, FAR, 7, lambda: None).watermark
    last = NETWORK.layers[-1].start
    free_last = NETWORK.weight_count - last - int((watermark.indices >= last).sum())
    sweep = polish.proposals * (64 * (1 + 10) + free_last)
    width = 64 + 1
    expected = 1_297 * (forward - dense + width**2 + 2 * width * 10) + width**3
    expected += 3 * forward * 1_280 + 1_797 * forward
    expected += 1_297 * (forward + dense + 3 * dense * polish.tune_steps + polish.sweeps * sweep)
    assert _run(attempt, FAR).multiply_accumulates == expected


def test_cancel_is_asked_between_steps_and_ends_the_attempt(
    digits: Dataset, digits_data: TrainingData
) -> None:
    attempt, _ = _build(digits, digits_data, build_recipe(5_188))
    asked: list[float] = []

    def is_cancelled() -> bool:
        asked.append(time.thread_time())
        return len(asked) == 20

    result = attempt.run(HEADER, FAR, 1, is_cancelled, lambda progress: None)
    assert result.outcome == "cancelled"
    assert result.witness is None
    assert result.samples == 20 * 64
    assert len(asked) == 20


def test_cancel_is_never_far_away(digits: Dataset, digits_data: TrainingData) -> None:
    """From training to the last sweep: at most 0.2 s of this thread's time lie between two questions."""
    attempt, _ = _build(digits, digits_data, build_recipe(1_297))
    asked: list[float] = []

    def is_cancelled() -> bool:
        asked.append(time.thread_time())
        return False

    attempt.run(HEADER, FAR, 1, is_cancelled, lambda progress: None)
    assert max(after - before for before, after in pairwise(asked)) < 0.2


def test_progress_grows_to_the_whole_attempt(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = _build(digits, digits_data, build_recipe(2_594))
    reports: list[Progress] = []
    attempt.run(HEADER, FAR, 1, lambda: False, reports.append)
    samples = [report.samples for report in reports]
    assert samples == sorted(samples)
    assert samples[-1] == reports[-1].total_samples == 2_594 // 64 * 64
    assert reports[0].train_correct < reports[-1].train_correct
    assert all(before.seconds <= after.seconds for before, after in pairwise(reports))


def test_without_an_exact_backend_the_normative_count_decides(
    digits: Dataset, digits_data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, _ = _build(digits, digits_data, build_recipe(1_297))
    monkeypatch.setattr(attempt_module, "choose_compute_logits", lambda device: None)
    slow, _ = _build(digits, digits_data, build_recipe(1_297))
    rung = replace(EASY, min_train_correct=700, min_eval_correct=0)
    assert _run(slow, rung).witness == _run(fast, rung).witness


@pytest.mark.cuda
def test_attempt_on_cuda_verifies(digits: Dataset) -> None:
    data = TrainingData.load(digits, "cuda")
    task = build_task(digits.spec, EASY)
    result = _run(MiningAttempt(task, data, build_recipe(5_188), "cuda"), EASY)
    assert result.witness is not None
    NormativeWorkVerifier(digits).check(task, EASY, HEADER, result.witness)


def test_chosen_header_is_the_first_that_promises_enough(digits: Dataset, digits_data: TrainingData) -> None:
    patient, _ = _build(digits, digits_data, build_recipe(640))
    headers = [replace(HEADER, nonce=(2**64 - 2 + step) % 2**64) for step in range(40)]
    promises = [patient.build_course(header, FAR, 3, lambda: None).promise for header in headers]
    least = sorted(promises)[-2]
    first = next(step for step, promise in enumerate(promises) if promise >= least)
    share = (least - 0.5) / len(digits_data.train)
    picky, _ = _build(digits, digits_data, build_recipe(640, (share, *NEVER[1:])))
    chosen, spent = picky.choose(headers[0], FAR, 3, lambda: False)
    assert chosen == headers[first]
    look = picky.build_course(chosen, FAR, 3, lambda: None)
    assert look.promise >= least
    assert spent == first * look.multiply_accumulates
    assert picky.run(chosen, FAR, 3, lambda: False, lambda progress: None).outcome == "missed"


def test_choosing_ends_without_a_promise_and_when_cancelled(
    digits: Dataset, digits_data: TrainingData
) -> None:
    hopeless, _ = _build(digits, digits_data, build_recipe(640, (1.0, *NEVER[1:])))
    chosen, spent = hopeless.choose(HEADER, FAR, 3, lambda: False)
    assert chosen.nonce == HEADER.nonce + 64
    assert spent > 0
    assert hopeless.choose(HEADER, FAR, 3, lambda: True) == (HEADER, 0)
