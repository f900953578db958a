"""Every stage of a course has its checkpoint, and the last of them says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.samples import NETWORK, build_recipe, build_watermark
from training.course import Course
from training.data import TrainingData
from training.tasks import load_recipe

PARTS = 2


@pytest.mark.parametrize(("tune_steps", "sweeps"), [((), 0), ((), 1), ((2,), 0), ((2, 3), 0), ((2, 3), 1)])
def test_checkpoints_follow_the_stages(
    tune_steps: tuple[int, ...], sweeps: int, digits_data: TrainingData
) -> None:
    polish = replace(load_recipe("digits").polish, tune_steps=tune_steps, sweeps=sweeps, proposals=1)
    recipe = replace(build_recipe(128, parts=PARTS), polish=polish)
    course = Course(NETWORK, build_watermark(9_500), digits_data, recipe, recipe.plans[0], 1)
    seen = list(course.follow())
    assert [checkpoint.index for checkpoint in seen] == list(range(1 + PARTS + len(tune_steps) + sweeps))
    assert [checkpoint.is_last for checkpoint in seen] == [False] * (len(seen) - 1) + [True]
