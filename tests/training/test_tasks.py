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
from training.recipe import Plan, Recipe
from training.tasks import TASK_NAMES, load_recipe, load_task, load_task_file
from training.tasks.default import DEFAULT_RECIPE


def test_digits_are_a_valid_task(digits: Dataset) -> None:
    task = load_task("digits", digits.spec)
    check_task(task, digits.spec)
    assert all(rung.frozen >= 9_800 for rung in task.rungs)
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


def test_a_slow_machine_follows_the_longest_plan_that_is_not_too_long_or_too_dear() -> None:
    plans = (
        Plan(0, 10, 1, (), most_work=2_000),
        Plan(2_001, 20, 1, (), most_work=9_000),
        Plan(5_000, 40, 1, (), most_work=7_000),
        Plan(6_000, 80, 1, ()),
    )
    recipe = replace(DEFAULT_RECIPE, plans=plans)

    def get_samples(work: int, samples: int | None) -> int:
        return recipe.get_plan(Rung(9_800, 1, 1, work), samples).samples

    assert [get_samples(6_500, samples) for samples in (None, 80, 79, 40, 39, 20, 1)] == [
        *(80, 80, 40, 40, 20, 20, 20)
    ]
    assert [get_samples(work, 40) for work in (1_000, 3_000, 5_000, 7_000, 7_001, 9_001)] == [
        *(10, 20, 40, 40, 20, 80)
    ]


@pytest.mark.parametrize("name", TASK_NAMES)
def test_shorter_courses_of_a_task_are_for_rungs_of_their_own_share_and_some_above(name: str) -> None:
    file = load_task_file(name)
    for plan in file.recipe.plans:
        rungs = [rung for rung in file.rungs if file.recipe.get_plan(rung) == plan]
        above = [rung for rung in file.rungs if rungs[0].work <= rung.work <= plan.most_work]
        assert {rung.frozen for rung in above} == {rungs[0].frozen}
        # Above what any course met nothing is known, which for the longest is in its own part.
        assert set(rungs) <= set(above) or plan == file.recipe.plans[-1]


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
