"""Other recipes: one number of the reference's changed at a time, so that none of them is a better miner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from training.course import Course
from training.lab.attacks.frame import Attack, AttackCourse, Ground


def _change(name: str, meaning: str, **change: Any) -> Attack:
    def build(ground: Ground, seed: int) -> Course:
        return AttackCourse(ground, seed, recipe=replace(ground.recipe, **change))

    return Attack(name, meaning, build)


def _scale(name: str, meaning: str, field: str, factor: float) -> Attack:
    def build(ground: Ground, seed: int) -> Course:
        value = type(getattr(ground.recipe, field))(getattr(ground.recipe, field) * factor)
        return AttackCourse(ground, seed, recipe=replace(ground.recipe, **{field: value}))

    return Attack(name, meaning, build)


ATTACKS = (
    _change("first shift 0", "normalisations begin with gain 0.15 and shift 0", gain=0.15, shift=0.0),
    _change("first shift 0.5", "normalisations begin in the middle of their range", shift=0.5),
    _scale("weights' rate / 2", "trains the free weights at half the rate", "weight_rate", 0.5),
    _scale(
        "normalisation's rate / 2",
        "trains gains, shifts and the bias at half the rate",
        "normalisation_rate",
        0.5,
    ),
    _scale("batch x 2", "takes batches of twice the size, at the same samples", "batch", 2),
    _change("slower averages", "gives Adam longer memories", betas=(0.8, 0.98)),
    _change("no smoothing", "trains on the labels as they are", label_smoothing=0.0),
)
