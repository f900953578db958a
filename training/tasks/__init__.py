"""Tasks as data: NAME.json holds network, recipe, ladder and the measurements behind it. Never imports torch.

Written by `python -m training.lab calibrate`; what a task must be is consensus.task's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import takewhile
from typing import Any

from consensus.dataset import DatasetSpec
from consensus.network import NetworkSpec
from consensus.task import Rung, Task, check_task
from training.recipe import Plan, Polish, Recipe
from training.tasks.default import DEFAULT_RECIPE

TASK_NAMES = ("digits", "fashion-mnist", "cifar10")


@dataclass(frozen=True, slots=True)
class Measurement:
    """What stands behind one rung."""

    attempts: int
    """Courses at the rung's share and plan, each under a watermark of its own."""
    successes: int
    """Those that would have found a block at this rung."""
    probability: float
    """Of success for one attempt: the measured share, or the fitted tail's."""
    low: float
    """Lower end of the probability's 99 % interval."""
    high: float
    """Upper end."""
    multiply_accumulates: int
    """Millions that one attempt costs on average at this rung."""
    variation: float
    """Coefficient of variation of the cost to solution: 1 is a lottery without memory, near 0 a race."""
    is_fitted: bool
    """Whether the probability comes from a tail fitted to the attempts, too few of which met the rung."""


@dataclass(frozen=True, slots=True)
class TaskFile:
    """The contents of NAME.json."""

    network: NetworkSpec
    recipe: Recipe
    rungs: tuple[Rung, ...]
    measurements: tuple[Measurement, ...]
    """One for each rung."""
    measured: dict[str, Any]
    """Machine, versions, date and command of the calibration."""

    @property
    def most_counted_work(self) -> int:
        """Of the last rung below the first whose probability is fitted, or of the first rung."""
        pairs = zip(self.rungs, self.measurements, strict=True)
        counted = takewhile(lambda pair: not pair[1].is_fitted, pairs)
        return max((rung.work for rung, _ in counted), default=self.rungs[0].work)


def load_task(name: str, dataset: DatasetSpec) -> Task:
    """The task of that name on its dataset.

    Raises KeyError for an unknown name, RuleViolation(BAD_TASK) for a dataset that the task is not for.
    """
    file = load_task_file(name)
    task = Task(dataset.dataset_id, file.network, file.rungs)
    check_task(task, dataset)
    return task


def load_recipe(task: str | NetworkSpec) -> Recipe:
    """The recipe of a task by name or network; the default one for any other network.

    Raises KeyError for an unknown name.
    """
    if isinstance(task, str):
        return load_task_file(task).recipe
    files = [load_task_file(name) for name in TASK_NAMES]
    return next((file.recipe for file in files if file.network == task), DEFAULT_RECIPE)


@cache
def load_task_file(name: str) -> TaskFile:
    """Everything about a task. Raises KeyError for an unknown name."""
    if name not in TASK_NAMES:
        raise KeyError(name)
    return decode_task_file(json.loads(resources.files(__name__).joinpath(f"{name}.json").read_text("utf-8")))


def decode_task_file(data: dict[str, Any]) -> TaskFile:
    """The contents of a task file's JSON."""
    recipe = dict(data["recipe"])
    plans = tuple(Plan(**{**plan, "allowances": tuple(plan["allowances"])}) for plan in recipe.pop("plans"))
    polish, betas = dict(recipe.pop("polish")), tuple(recipe.pop("betas"))
    polish["tune_steps"] = tuple(polish["tune_steps"])
    polish["margins"] = polish["margins"] and tuple(polish["margins"])
    return TaskFile(
        NetworkSpec(**data["network"]),
        Recipe(plans=plans, polish=Polish(**polish), betas=betas, **recipe),
        tuple(Rung(**rung["rung"]) for rung in data["ladder"]),
        tuple(Measurement(**rung["measurement"]) for rung in data["ladder"]),
        data["measured"],
    )
