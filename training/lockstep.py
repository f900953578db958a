"""Several courses side by side, trained in one pass (training.stack).

Owns who trains with whom. Each course remains what it is alone: its own watermark, order of samples, polish
and end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence

import torch

from training.adam import Adam
from training.course import Checkpoint, Course
from training.optimise import build_optimiser, build_step, draw_batches
from training.recipe import Recipe
from training.stack import TwinStack

_ON_A_GPU = 8
"""Times as many networks as on a core: they are trained in hardly more time."""
_WORTH_RECORDING = 0.25
"""Share of the networks that are left when the others go on a GPU."""


def count_networks(recipe: Recipe, device: torch.device) -> int:
    """Networks that a pass on this device should train."""
    return recipe.networks * (1 if device.type == "cpu" else _ON_A_GPU)


class Lockstep:
    """Courses of one plan, recipe and dataset, about to begin."""

    def __init__(self, courses: Sequence[Course]) -> None:
        """Raises ValueError where the courses do not fit: one plan, recipe and dataset, no other processes.

        That their networks have as many free weights is seen at the first step.
        """
        if len({(course.plan, course.recipe, id(course.data)) for course in courses}) != 1:
            raise ValueError("courses in lockstep have one plan, one recipe and one dataset")
        if len(courses) > 1 and any(course.ranks for course in courses):
            raise ValueError("several processes train one network at a time")
        self._courses = list(courses)
        self._gone: set[Course] = set()

    def follow(self, poll: Callable[[], None] = lambda: None) -> Iterator[tuple[Course, Checkpoint]]:
        """All of them, checkpoint by checkpoint; one that has left is not followed further."""
        steps = train_together(self._courses, self._gone) if len(self._courses) > 1 else None
        try:
            yield from self._follow([(course, course.follow(poll, steps)) for course in self._courses])
        finally:
            # Courses and steps hold each other, and the steps what a GPU recorded.
            if steps is not None:
                steps.close()

    def _follow(self, ways: list[tuple[Course, Iterator[Checkpoint]]]) -> Iterator[tuple[Course, Checkpoint]]:
        while ways:
            for course, way in ways:
                if course in self._gone:
                    continue
                checkpoint = next(way, None)
                if checkpoint is None:
                    self.leave(course)
                else:
                    yield course, checkpoint
            ways = [(course, way) for course, way in ways if course not in self._gone]

    def leave(self, course: Course) -> None:
        """Gives one course up, before the next step."""
        self._gone.add(course)


def train_together(courses: Sequence[Course], gone: Collection[Course]) -> Generator[None, None, None]:
    """Trains the twins of several courses, a step of all at a time, and notes it in each.

    Those in `gone`, which may grow between steps, are noted no more. Raises ValueError for courses that
    do not fit.
    """
    members, first = list(courses), courses[0]
    data, recipe, device = first.data, first.recipe, first.data.inputs.device
    stack = TwinStack([course.twin for course in members])
    optimiser = build_optimiser(stack, recipe)
    take = build_step(stack, data, recipe, optimiser)
    streams = {course: draw_batches(len(data.train), recipe.batch, course.generator) for course in members}
    steps = first.total_samples // recipe.batch
    for step in range(steps):
        staying = [place for place, course in enumerate(members) if course not in gone]
        # A GPU trains a few more in the time that recording anew would take.
        if len(staying) < len(members) * (1 if device.type == "cpu" else _WORTH_RECORDING):
            members = [members[place] for place in staying]
            stack, optimiser = _take(stack, optimiser, staying, recipe)
            take = build_step(stack, data, recipe, optimiser)
        stack.train()
        indices = torch.stack([next(streams[course]) for course in members])
        right = take(indices.to(device, non_blocking=True), (step + 0.5) / steps)
        for course, count in zip(members, right, strict=True):
            if course not in gone:
                course.note(count)
        yield


def _take(stack: TwinStack, optimiser: Adam, places: Sequence[int], recipe: Recipe) -> tuple[TwinStack, Adam]:
    """The twins at these places on their own, to be trained on as before."""
    smaller = TwinStack([stack.twins[place] for place in places])
    taken = build_optimiser(smaller, recipe)
    for old, new in zip(stack.parameters(), smaller.parameters(), strict=True):
        # All but the count of steps have the twins as their first dimension. Before a step there is nothing.
        moments = optimiser.state.get(old, {}).items()
        taken.state[new] = {name: value[list(places)] if value.dim() else value for name, value in moments}
    return smaller, taken
