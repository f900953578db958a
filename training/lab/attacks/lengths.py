"""Longer and shorter courses, restarts against going on, and polish beyond the reference's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from training.course import Checkpoint, Course
from training.lab.attacks.frame import Attack, AttackCourse, Ground
from training.recipe import Polish
from training.tasks.default import DEFAULT_RECIPE

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


def _polish(name: str, meaning: str, change: Callable[[Polish], Polish]) -> Attack:
    def build(ground: Ground, seed: int) -> Course:
        recipe = replace(ground.recipe, polish=change(ground.recipe.polish))
        return AttackCourse(ground, seed, recipe=recipe)

    return Attack(name, meaning, build)


def _tune_longer(polish: Polish) -> Polish:
    steps = polish.tune_steps
    return replace(polish, tune_steps=(*steps[:-1], *(3 * last for last in steps[-1:])))


def _tune_more(polish: Polish) -> Polish:
    return replace(polish, tune_steps=(*polish.tune_steps, 1_000))


def _search(polish: Polish) -> Polish:
    # Near the margin at which the tuning ends, a little wider: what it left lies about there.
    softness = polish.softness if polish.margins is None else 2 * polish.margins[1]
    return replace(polish, sweeps=2, proposals=16, softness=softness)


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
    _polish(
        "no polish", "leaves the dense layers as they are", lambda p: replace(p, tune_steps=(), sweeps=0)
    ),
    _polish("longer stage", "tunes three times as long in the last stage", _tune_longer),
    _polish("another stage", "goes on with another thousand steps", _tune_more),
    _polish(
        "clever polish",
        "searches the dense layers at random behind the tuning, twice, 16 proposals each",
        _search,
    ),
    _polish(
        "former polish",
        "tunes by the loss of the training, then searches, as a network without a task does",
        lambda _: DEFAULT_RECIPE.polish,
    ),
)
