"""Tasks as data: every stored ladder is legal and says what stands behind it; none of it needs torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from consensus.dataset import Dataset
from consensus.errors import Code, RuleViolation
from consensus.network import NetworkSpec
from consensus.task import Rung, check_task
from training.recipe import Recipe
from training.tasks import TASK_NAMES, load_recipe, load_task, load_task_file
from training.tasks.default import DEFAULT_RECIPE


def test_digits_are_a_valid_task(digits: Dataset) -> None:
    task = load_task("digits", digits.spec)
    check_task(task, digits.spec)
    assert all(rung.frozen >= 9_500 for rung in task.rungs)
    assert all(rung.min_train_correct > 0 for rung in task.rungs)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_every_rung_is_measured(name: str) -> None:
    file = load_task_file(name)
    assert {"command", "date", "machine", "torch"} <= file.measured.keys()
    for rung, measured in zip(file.rungs, file.measurements, strict=True):
        assert measured.attempts >= 60
        assert rung.work == round(measured.multiply_accumulates / measured.probability)
        if not measured.is_fitted:
            assert measured.successes >= 15
            assert measured.low <= measured.probability <= measured.high


@pytest.mark.parametrize("recipe", [*map(load_recipe, TASK_NAMES), DEFAULT_RECIPE])
def test_every_checkpoint_has_its_allowance(recipe: Recipe) -> None:
    assert recipe.plans[0].min_work == 0
    for plan in recipe.plans:
        stages = len(recipe.polish.tune_steps) + recipe.polish.sweeps
        assert len(plan.allowances) == 1 + plan.parts + stages


def test_plan_follows_the_work() -> None:
    recipe = load_recipe("digits")
    for plan in recipe.plans:
        assert recipe.get_plan(Rung(9_900, 1, 1, max(1_000, plan.min_work))) == plan


def test_a_shortened_recipe_keeps_to_plans_of_the_same_share() -> None:
    file = load_task_file("digits")
    recipe = file.recipe
    shares: dict[int, int] = {}
    for rung in file.rungs:
        shares.setdefault(recipe.get_plan(rung).samples, rung.frozen)
    known = {plan.samples: plan.allowances for plan in recipe.plans}
    for most in (1, *known, max(known) - 1):
        shortened = recipe.shorten(file.rungs, most)
        assert [plan.min_work for plan in shortened.plans] == [plan.min_work for plan in recipe.plans]
        for old, new in zip(recipe.plans, shortened.plans, strict=True):
            fitting = [n for n, share in shares.items() if share == shares[old.samples]]
            fitting = [n for n in fitting if n <= max(most, min(fitting)) and n <= old.samples]
            assert new.samples == max(fitting)
            assert new.allowances == known[new.samples]
    assert recipe.shorten(file.rungs, max(known)) == recipe
    assert recipe.shorten(file.rungs, 1) != recipe


def test_a_recipe_whose_plans_no_rung_follows_stays_as_it_is() -> None:
    assert DEFAULT_RECIPE.shorten((), 1) == DEFAULT_RECIPE


def test_recipe_is_found_by_network() -> None:
    network = load_task_file("digits").network
    assert load_recipe(network) == load_recipe("digits")
    assert load_recipe(replace(network, hidden=65)) is DEFAULT_RECIPE
    assert load_recipe(NetworkSpec(3, 32, 32, 10, 4, 32, 128)) is DEFAULT_RECIPE


def test_rejects_an_unknown_task(digits: Dataset) -> None:
    with pytest.raises(KeyError):
        load_task("letters", digits.spec)
    with pytest.raises(KeyError):
        load_recipe("letters")


def test_rejects_a_dataset_that_the_task_is_not_for(digits: Dataset) -> None:
    with pytest.raises(RuleViolation) as caught:
        load_task("digits", replace(digits.spec, classes=11))
    assert caught.value.code is Code.BAD_TASK


def test_tasks_load_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import training.tasks as t; t.load_recipe('digits')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
