"""Longer and shorter courses, restarts against going on, and polish beyond the reference's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from training.course import Checkpoint, Course
from training.lab.attacks.frame import Attack, AttackCourse, Ground

_GENTLE = 0.3
"""Of the reference's rates, where a trained network is trained once more."""


class ContinuedCourse(AttackCourse):
    """A course that, where it missed, trains and polishes once more from where it is."""

    def follow(
        self, poll: Callable[[], None] = lambda: None, steps: Iterator[None] | None = None
    ) -> Iterator[Checkpoint]:
        count = 0
        for checkpoint in super().follow(poll, steps):
            count += 1
            yield replace(checkpoint, is_last=False)
        self._resume()
        yield from self._train_and_polish(count)

    def _resume(self) -> None:
        """Back into training, gently; what the search found in the last layer's integers is left behind."""
        self._head = self._steps = None
        self._recent.clear()
        recipe = self.recipe
        self.recipe = replace(
            recipe,
            weight_rate=_GENTLE * recipe.weight_rate,
            normalisation_rate=_GENTLE * recipe.normalisation_rate,
        )
        self.plan = replace(self.plan, samples=self.plan.samples // 2)


def _scale_course(numerator: int, denominator: int) -> Attack:
    def build(ground: Ground, seed: int) -> Course:
        plan = ground.build_plan(ground.samples * numerator // denominator)
        return AttackCourse(ground, seed, plan=plan)

    share = f"{numerator}/{denominator}" if denominator > 1 else f"{numerator}"
    return Attack(f"course x {share}", f"trains {share} times as long in every attempt", build)


def _scale_polish(name: str, meaning: str, **factors: int) -> Attack:
    def build(ground: Ground, seed: int) -> Course:
        polish = ground.recipe.polish
        polish = replace(polish, **{name: getattr(polish, name) * by for name, by in factors.items()})
        return AttackCourse(ground, seed, recipe=replace(ground.recipe, polish=polish))

    return Attack(name, meaning, build)


REFERENCE = Attack("reference", "the miner that nodes ship", AttackCourse)

ATTACKS = (
    _scale_course(1, 4),
    _scale_course(1, 2),
    _scale_course(2, 1),
    Attack(
        "one long run",
        "goes on with a missed network at 0.3 of the rates, half as long, and polishes it again",
        ContinuedCourse,
    ),
    _scale_polish("no polish", "neither tunes nor searches the dense layers", tune_steps=0, sweeps=0),
    _scale_polish("long polish", "searches four times as long", sweeps=4),
    _scale_polish(
        "clever polish",
        "tunes five times as long and searches four times as wide",
        tune_steps=5,
        proposals=4,
    ),
)
