"""Several courses side by side, trained a step of all at a time (training.stack).

Owns who trains with whom. Each course remains what it is alone: its own watermark, order of samples,
schedule, polish and end. One that leaves makes a place, which another may take while the others are half way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence

import torch
from torch import Tensor

from training.course import Checkpoint, Course
from training.optimise import build_stack_optimiser, build_step, draw_batches
from training.recipe import Recipe
from training.stack import TwinStack
from training.stack_adam import StackAdam

_ON_A_GPU = 8
"""Times as many networks as on a core: they are trained in hardly more time."""
_WAITING_ON_A_GPU = 0.93
"""As Recipe.waiting: 64 networks of digits do 13 times what one alone does, 32 of CIFAR-10 8 times."""
_LEAST_TAKEN = {"cpu": 1.0, "cuda": 0.25}
"""Share of the places below which a stack is made smaller: a GPU trains a few more in the time that recording
anew would take."""


def count_networks(recipe: Recipe, device: torch.device) -> int:
    """Networks that a device should train side by side."""
    return recipe.networks * (1 if device.type == "cpu" else _ON_A_GPU)


def get_waiting(recipe: Recipe, device: torch.device) -> float:
    """The recipe's, or a GPU's."""
    return recipe.waiting if device.type == "cpu" else _WAITING_ON_A_GPU


class Lockstep:
    """Courses of one plan, recipe and dataset, about to begin."""

    def __init__(self, courses: Sequence[Course], poll: Callable[[], None] = lambda: None) -> None:
        """`poll` is called as a course calls it. Raises ValueError where the courses do not fit.

        Courses have one plan, recipe and dataset, and several have no other processes. That their networks
        have as many free weights is seen at their first step.
        """
        self._poll = poll
        self._kind = _get_kind(courses[0])
        self._ways: dict[Course, Iterator[Checkpoint]] = {}
        self._steps = self._train_together() if len(courses) > 1 else None
        self.widths: Counter[int] = Counter()
        """Steps so far of so many networks side by side; none of who goes alone."""
        for course in courses:
            self._begin(course)

    def follow(self) -> Iterator[tuple[Course, Checkpoint]]:
        """All of them, checkpoint by checkpoint; one that has left is not followed further.

        Who has the fewest samples before its next checkpoint is first, and of several at the same step those
        who have shown least: nobody is trained while another is at a checkpoint or polishes.
        """
        try:
            while self._ways:
                course = min(self._ways, key=_get_turn)
                checkpoint = next(self._ways[course], None)
                if checkpoint is None:
                    self.leave(course)
                else:
                    yield course, checkpoint
        finally:
            # Courses and steps hold each other, and the steps what a GPU recorded.
            if self._steps is not None:
                self._steps.close()

    def leave(self, course: Course) -> None:
        """Gives one course up, before the next step."""
        self._ways.pop(course, None)

    def join(self, course: Course) -> None:
        """Begins another course, in the place of one that has left since the last step.

        Raises ValueError where it does not fit, or would train beside another where there was one alone. On a
        place that is closed already the next step raises it.
        """
        if self._steps is None and self._ways:
            raise ValueError("a course that began alone goes alone")
        self._begin(course)

    def _train_together(self) -> Generator[None, None, None]:
        for width in train_together(lambda: list(self._ways)):
            self.widths[width] += 1
            yield

    def _begin(self, course: Course) -> None:
        if self._steps and course.ranks:
            raise ValueError("several processes train one network at a time")
        if _get_kind(course) != self._kind:
            raise ValueError("courses in lockstep have one plan, one recipe and one dataset")
        self._ways[course] = course.follow(self._poll, self._steps)


def _get_kind(course: Course) -> tuple[object, ...]:
    return course.plan, course.recipe, id(course.data)


def _get_turn(course: Course) -> tuple[int, int]:
    return course.samples_ahead, course.shown


def train_together(get_courses: Callable[[], Sequence[Course]]) -> Generator[int, None, None]:
    """Trains the twins of several courses, a step of all at a time, notes it in each and yields their places.

    `get_courses` is asked before every step: who is no longer there, or is trained to the end, is told of no
    more steps. Raises ValueError for courses that do not fit.
    """
    crew: _Crew | None = None
    while True:
        courses = [course for course in get_courses() if course.samples < course.total_samples]
        if crew is None:
            crew = _Crew(courses)
        crew.admit(courses)
        yield crew.step(courses)


class _Crew:
    """A stack with a place for every course, and how it is trained."""

    def __init__(self, members: Sequence[Course]) -> None:
        first = members[0]
        self._data, self._recipe, self._device = first.data, first.recipe, first.data.inputs.device
        self._streams: dict[Course, Iterator[Tensor]] = {}
        for course in members:
            self._open_stream(course)
        stack = TwinStack([course.twin for course in members])
        self._settle(members, stack, build_stack_optimiser(stack, self._recipe))

    def _settle(self, members: Sequence[Course], stack: TwinStack, optimiser: StackAdam) -> None:
        self._members, self._stack, self._optimiser = list(members), stack, optimiser
        self._take = build_step(stack, self._data, self._recipe, optimiser)

    def admit(self, courses: Sequence[Course]) -> None:
        """Newcomers take the places of those who left. Places that stay empty are closed."""
        staying = set(courses)
        empty = [place for place, member in enumerate(self._members) if member not in staying]
        newcomers = [course for course in courses if course not in self._streams]
        if len(newcomers) > len(empty):
            raise ValueError("no place is empty: a course joins where another has left")
        for place, course in zip(empty, newcomers, strict=False):
            self._replace(place, course)
        places = [place for place, member in enumerate(self._members) if member in staying]
        if len(places) < _LEAST_TAKEN[self._device.type] * len(self._members):
            self._close_all_but(places)

    def step(self, courses: Sequence[Course]) -> int:
        """Takes the next step of all places, so many, and notes it in those courses."""
        self._stack.train()
        batches = torch.stack([next(self._streams[course]) for course in self._members])
        batch, steps = self._recipe.batch, self._members[0].total_samples // self._recipe.batch
        shares = [min(1.0, (course.samples // batch + 0.5) / steps) for course in self._members]
        right = self._take(self._move(batches), self._move(torch.tensor(shares)))
        staying = set(courses)
        for course, count in zip(self._members, right, strict=True):
            if course in staying:
                course.note(count)
        return len(self._members)

    def _replace(self, place: int, course: Course) -> None:
        del self._streams[self._members[place]]
        self._members[place] = course
        self._open_stream(course)
        self._stack.replace(place, course.twin)
        self._optimiser.forget(place)

    def _close_all_but(self, places: Sequence[int]) -> None:
        members = [self._members[place] for place in places]
        smaller = TwinStack([course.twin for course in members])
        self._streams = {course: self._streams[course] for course in members}
        self._settle(members, smaller, self._optimiser.take(places, smaller))

    def _open_stream(self, course: Course) -> None:
        self._streams[course] = draw_batches(len(self._data.train), self._recipe.batch, course.generator)

    def _move(self, values: Tensor) -> Tensor:
        return values.to(self._device, non_blocking=True)
