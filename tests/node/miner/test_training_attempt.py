"""What a trainer does for a request, with the real training: it takes on what the machine can do in time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dataset_server.importers import import_digits
from dataset_server.store import DatasetStore
from node.miner import trainer as trainer_module
from node.miner.trainer import TrainerSetup, TrainRequest, build_training_attempt
from training.outcome import Progress
from training.rate import HEADERS_APART, build_practice_header
from training.recipe import Plan
from training.tasks import load_recipe, load_task

AGES, NO_TIME = 1e9, 1e-5
"""Seconds between blocks."""


@pytest.fixture
def setup(tmp_path: Path) -> TrainerSetup:
    digits = import_digits()
    DatasetStore(tmp_path).put(digits.spec, digits.train, digits.eval)
    return TrainerSetup(load_task("digits", digits.spec), digits.spec.dataset_id, tmp_path, "cpu", 1)


def test_a_slow_machine_takes_on_less(setup: TrainerSetup) -> None:
    run_attempt, recipe = build_training_attempt(setup), load_recipe("digits")
    # One of the longest courses where shorter ones are not yet too dear.
    works = [plan.most_work for plan in recipe.plans if plan.most_work > recipe.plans[-1].min_work]
    rung = setup.task.get_rung(min(works))
    longest, shortest = recipe.get_plan(rung), recipe.get_plan(rung, 0)
    assert shortest.samples < longest.samples

    def attempt(turn: int, interval: float) -> tuple[int, int]:
        """Networks, and samples of a whole course of each."""
        reports: list[Progress] = []
        header = build_practice_header(turn * HEADERS_APART)
        result = run_attempt(
            TrainRequest(header, rung, turn, interval), lambda: len(reports) > 1, reports.append
        )
        return result.networks, reports[0].total_samples

    def count_samples(plan: Plan) -> int:
        return plan.samples // recipe.batch * recipe.batch

    # The first tells how fast the machine is.
    assert attempt(0, NO_TIME) == (1, count_samples(longest))
    assert attempt(1, NO_TIME) == (1, count_samples(shortest))
    assert attempt(2, AGES) == (recipe.networks, count_samples(longest))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_networks_that_end_are_followed_by_others_for_a_while(
    share: float, setup: TrainerSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not behind the first network, which tells how fast the machine is, and not before a fresh template."""
    monkeypatch.setattr(trainer_module, "_RENEWED_SHARE", share)
    run_attempt, recipe = build_training_attempt(setup), load_recipe("digits")
    rung = setup.task.rungs[0]
    assert recipe.get_plan(rung) == recipe.plans[0]
    hopeless = replace(rung, min_train_correct=1_284, work=10**9)
    monkeypatch.setattr(type(recipe), "get_plan", lambda *_: recipe.plans[0])
    asked = 0

    def is_cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 500

    request = TrainRequest(build_practice_header(0), hopeless, 0, AGES)
    first = run_attempt(request, is_cancelled, lambda _: None)
    assert (first.outcome, first.networks) == ("gave-up", 1)
    asked = 0
    request = replace(request, header=build_practice_header(HEADERS_APART), seed=1)
    second = run_attempt(request, is_cancelled, lambda _: None)
    if share:
        assert (second.outcome, second.networks > recipe.networks) == ("cancelled", True)
    else:
        assert (second.outcome, second.networks) == ("gave-up", recipe.networks)
