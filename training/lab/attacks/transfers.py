"""Starting from a trained network: under no watermark, under all of them, under a sibling's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from training.course import Course
from training.lab.attacks.frame import Attack, AttackCourse, Ground, build_open_twin, copy_normalisation
from training.optimise import train
from training.quantisation import LEVELS, quantise_weights
from training.twin import Twin

_TEACHER_SEED = 1_000_003
_ROBUST_COURSES = 8
"""Length of the robust pretraining, in courses of the reference."""
_ROBUST_SHARE = 0.3
"""Of the weights frozen in every batch: under 0.6 and more the network stays at chance."""
_ROBUST_RATE = 0.03
"""Of the reference's rates: at its own the noise of the watermarks destroys what was learnt."""
_ROBUST_BETAS = (0.9, 0.99)
_SHORT = 8
"""A short course is this part of the reference's."""


class RobustTwin(Twin):
    """A network of which every batch sees another watermark over most of its weights."""

    frozen_share: float
    draws: torch.Generator

    def compute_weights(self) -> Tensor:
        weights = quantise_weights(self.free)
        is_frozen = torch.rand(len(weights), generator=self.draws) < self.frozen_share
        values = torch.randint(-LEVELS, LEVELS + 1, (len(weights),), generator=self.draws) / LEVELS
        return torch.where(is_frozen, values, weights)


@cache
def train_teacher(ground: Ground) -> Twin:
    """A network that knows the task and no watermark."""
    twin = build_open_twin(ground, _TEACHER_SEED)
    _exhaust(train(twin, ground.data, ground.recipe, ground.samples, ground.build_generator(_TEACHER_SEED)))
    return twin


@cache
def train_robustly(ground: Ground) -> RobustTwin:
    """A network trained under a fresh watermark every batch, over fewer weights than a header freezes."""
    plain = build_open_twin(ground, _TEACHER_SEED)
    generator = ground.build_generator(_TEACHER_SEED)
    twin = RobustTwin(plain.spec, plain.watermark, generator, ground.recipe.gain, ground.recipe.shift)
    twin.frozen_share, twin.draws = _ROBUST_SHARE, generator
    samples = _ROBUST_COURSES * ground.samples
    recipe = replace(
        ground.recipe,
        weight_rate=_ROBUST_RATE * ground.recipe.weight_rate,
        normalisation_rate=_ROBUST_RATE * ground.recipe.normalisation_rate,
        betas=_ROBUST_BETAS,
    )
    _exhaust(train(twin, ground.data, recipe, samples, generator))
    return twin


@cache
def train_sibling(ground: Ground) -> AttackCourse:
    """A whole course under the watermark of another header."""
    course = AttackCourse(ground, _TEACHER_SEED)
    for _ in course.follow():
        pass
    return course


@torch.no_grad()
def transfer(weights: Tensor, teacher: Twin, course: AttackCourse) -> AttackCourse:
    """Starts a course from a teacher: its float[N] weights at the free places, its normalisations."""
    twin = course.twin
    twin.free.copy_(weights[twin.free_indices])
    copy_normalisation(teacher, twin)
    return course


def _transfer_naively(ground: Ground, seed: int, share: int = 1) -> Course:
    teacher = train_teacher(ground)
    course = AttackCourse(ground, seed, plan=ground.build_plan(ground.samples // share))
    return transfer(teacher.free, teacher, course)


def _transfer_robustly(ground: Ground, seed: int, share: int = 1) -> Course:
    teacher = train_robustly(ground)
    course = AttackCourse(ground, seed, plan=ground.build_plan(ground.samples // share))
    return transfer(teacher.free, teacher, course)


def _transfer_from_sibling(ground: Ground, seed: int) -> Course:
    teacher = train_sibling(ground).twin
    course = AttackCourse(ground, seed, plan=ground.build_plan(ground.samples // _SHORT))
    return transfer(teacher.compute_weights(), teacher, course)


def _exhaust(steps: Iterator[Tensor]) -> None:
    for _ in steps:
        pass


def _short(build_name: str) -> str:
    return f"{build_name}, 1/{_SHORT} of the course"


ATTACKS = (
    Attack(
        "naive transfer",
        "starts from a network trained without a watermark",
        _transfer_naively,
        1.0,
        train_teacher,
    ),
    Attack(
        _short("naive transfer"),
        "the same, then trains an eighth as long",
        lambda ground, seed: _transfer_naively(ground, seed, _SHORT),
        1.0,
        train_teacher,
    ),
    Attack(
        "robust transfer",
        "starts from a network pretrained under a fresh watermark every batch, over 30 % of the weights",
        _transfer_robustly,
        _ROBUST_COURSES,
        train_robustly,
    ),
    Attack(
        _short("robust transfer"),
        "the same, then trains an eighth as long",
        lambda ground, seed: _transfer_robustly(ground, seed, _SHORT),
        _ROBUST_COURSES,
        train_robustly,
    ),
    Attack(
        "sibling header",
        "re-uses the network of another header, then trains an eighth as long",
        _transfer_from_sibling,
        1.0,
        train_sibling,
    ),
)
