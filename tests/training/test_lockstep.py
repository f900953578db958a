"""Courses in lockstep: each is what it is alone, and goes when it is told to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from consensus.dataset import Dataset
from tests.training.samples import NETWORK, NEVER, build_recipe, build_watermark, widen
from training import lockstep as lockstep_module
from training.course import Checkpoint, Course
from training.data import TrainingData
from training.evaluator import compute_logits_in_float32, count_right
from training.lockstep import Lockstep
from training.recipe import Plan

STEPS = 16
RECIPE = build_recipe(STEPS * 64)


def _build(data: TrainingData, count: int, frozen: int = 9_500, is_wide: bool = False) -> list[Course]:
    """`is_wide` in float64, up to the polish."""
    if is_wide:
        data = replace(data, inputs=data.inputs.double())
    courses = []
    for seed in range(count):
        course = Course(NETWORK, build_watermark(frozen, seed), data, RECIPE, RECIPE.plans[0], seed)
        if is_wide:
            widen(course.twin)
        courses.append(course)
    return courses


def _follow(lockstep: Lockstep) -> dict[Course, list[Checkpoint]]:
    seen: dict[Course, list[Checkpoint]] = {}
    for course, checkpoint in lockstep.follow():
        seen.setdefault(course, []).append(checkpoint)
    return seen


def test_every_course_goes_its_whole_way(digits_data: TrainingData) -> None:
    courses = _build(digits_data, 3)
    seen = _follow(Lockstep(courses))
    assert list(seen) == courses
    for course, checkpoints in seen.items():
        assert [checkpoint.index for checkpoint in checkpoints] == list(range(len(NEVER)))
        assert [checkpoint.is_last for checkpoint in checkpoints] == [False] * 13 + [True]
        assert course.samples == course.total_samples == STEPS * 64
        network = course.build_network()
        assert (network.weights[course.watermark.indices] == course.watermark.values).all()
        logits = compute_logits_in_float32(network, digits_data.train.pixels)
        assert checkpoints[-1].train_correct == count_right(logits, digits_data.train.labels)


def test_each_is_what_it_is_alone(digits_data: TrainingData) -> None:
    seen = _follow(Lockstep(_build(digits_data, 3)))
    for (course, checkpoints), alone in zip(seen.items(), _build(digits_data, 3), strict=True):
        own = list(alone.follow())
        assert course.multiply_accumulates == alone.multiply_accumulates
        assert checkpoints[0] == own[0]
        # Sums in another order: two steps on they are close, at the end only alike.
        assert abs(checkpoints[1].train_correct - own[1].train_correct) <= 45
        assert abs(checkpoints[-1].train_correct - own[-1].train_correct) < 200


def test_each_trains_as_it_does_alone(digits_data: TrainingData) -> None:
    courses = _build(digits_data, 3, is_wide=True)
    shown = {}
    for course, checkpoint in Lockstep(courses).follow():
        shown[course] = checkpoint.train_correct
        if checkpoint.index == 3 and course is courses[-1]:
            break
    alone_courses, starts = (_build(digits_data, 3, is_wide=True) for _ in range(2))
    for course, alone, start in zip(courses, alone_courses, starts, strict=True):
        (*_, last) = (checkpoint for _, checkpoint in zip(range(4), alone.follow(), strict=False))
        assert last.train_correct == shown[course]
        # Losses are float32: their last digits move what hardly has a gradient.
        moved = (alone.twin.free - start.twin.free).detach().abs().mean()
        assert (course.twin.free - alone.twin.free).abs().mean() < 0.05 * moved


def test_one_alone_is_the_course_itself(digits_data: TrainingData) -> None:
    (checkpoints,) = _follow(Lockstep(_build(digits_data, 1))).values()
    assert checkpoints == list(_build(digits_data, 1)[0].follow())


@pytest.mark.parametrize("leaver", [0, 1, 2])
def test_one_that_leaves_stops_and_the_others_go_on_as_before(leaver: int, digits_data: TrainingData) -> None:
    staying, leaving = (_build(digits_data, 3, is_wide=True) for _ in range(2))
    for courses, does_leave in ((staying, False), (leaving, True)):
        lockstep = Lockstep(courses)
        for course, checkpoint in lockstep.follow():
            if does_leave and checkpoint.index == 1 and course is courses[leaver]:
                lockstep.leave(course)
            if checkpoint.index == 2 and course.samples == STEPS * 64 * 2 // 8:
                # All others are at this checkpoint too: they take every step together.
                break
    for place, (one, other) in enumerate(zip(staying, leaving, strict=True)):
        assert one.samples == STEPS * 64 * 2 // 8
        assert other.samples == (STEPS * 64 // 8 if place == leaver else one.samples)
        if place != leaver:
            assert (one.twin.free - other.twin.free).abs().mean() < 1e-3
            assert not torch.equal(one.twin.free, _build(digits_data, 3)[place].twin.free)


def test_moments_stay_with_those_who_stay(digits_data: TrainingData) -> None:
    """A step after another has left is not a first step: Adam's averages go on."""
    ends = []
    for count in (1, 2):
        courses = _build(digits_data, count, is_wide=True)
        lockstep = Lockstep(courses)
        for course, checkpoint in lockstep.follow():
            if course is not courses[0] and checkpoint.index == 1:
                lockstep.leave(course)
            if checkpoint.index == 2:
                break
        ends.append(courses[0].twin.free.detach().clone())
    moved = (ends[0] - _build(digits_data, 1)[0].twin.free).detach().abs().mean()
    assert (ends[0] - ends[1]).abs().mean() < 0.01 * moved


def test_one_that_joins_goes_its_whole_way_as_alone(digits_data: TrainingData) -> None:
    """In the place of one that left, while another is half way: both end as they do alone."""
    (leaver, stayer, newcomer), alone = (_build(digits_data, 3, is_wide=True) for _ in range(2))
    lockstep = Lockstep([leaver, stayer])
    shown: dict[Course, list[Checkpoint]] = {}
    for course, checkpoint in lockstep.follow():
        shown.setdefault(course, []).append(checkpoint)
        if course is leaver and checkpoint.index == 3:
            lockstep.leave(leaver)
            lockstep.join(newcomer)
        if checkpoint.index == 7:
            # Its last checkpoint before the polish, which float64 does not reach.
            lockstep.leave(course)
    assert [len(checkpoints) for checkpoints in shown.values()] == [4, 8, 8]
    for course, own in zip((stayer, newcomer), alone[1:], strict=True):
        last = next(checkpoint for checkpoint in own.follow() if checkpoint.index == 7)
        assert abs(shown[course][-1].train_correct - last.train_correct) <= 45
        assert course.samples == own.samples
        assert course.multiply_accumulates == own.multiply_accumulates


def test_places_may_stay_empty_until_they_are_taken(
    digits_data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which would have to record a smaller stack anew: what is trained there reaches nobody."""
    monkeypatch.setitem(lockstep_module._LEAST_TAKEN, "cpu", 0.25)
    courses, alone = (_build(digits_data, 5, is_wide=True) for _ in range(2))
    *starters, newcomer = courses
    lockstep = Lockstep(starters)
    shown = {}
    for course, checkpoint in lockstep.follow():
        if checkpoint.index == 2 and course in courses[:2]:
            lockstep.leave(course)
        if checkpoint.index == 4 and course is courses[3]:
            lockstep.join(newcomer)
        shown[course] = checkpoint.train_correct
        if checkpoint.index == 7:
            lockstep.leave(course)
    assert lockstep.widths == {4: STEPS * 4 // 8 + STEPS * 7 // 8}
    for course, own in zip(courses[2:], alone[2:], strict=True):
        last = next(checkpoint for checkpoint in own.follow() if checkpoint.index == 7)
        assert abs(shown[course] - last.train_correct) <= 45
        assert course.samples == own.samples


@pytest.mark.cuda
def test_one_joins_a_recorded_stack(digits: Dataset) -> None:
    """Recorded after three steps; the places of the one that left are the newcomer's from then on."""
    data = TrainingData.load(digits, "cuda")
    (leaver, stayer, newcomer), alone = (_build(data, 3) for _ in range(2))
    lockstep = Lockstep([leaver, stayer])
    shown = {}
    for course, checkpoint in lockstep.follow():
        shown[course] = checkpoint.train_correct
        if course is leaver and checkpoint.index == 3:
            lockstep.leave(leaver)
            lockstep.join(newcomer)
        if checkpoint.index == 7:
            lockstep.leave(course)
    for course, own in zip((stayer, newcomer), alone[1:], strict=True):
        last = next(checkpoint for checkpoint in own.follow() if checkpoint.index == 7)
        # Sums in another order, and in half precision.
        assert abs(shown[course] - last.train_correct) <= 130


def test_nobody_is_trained_past_a_checkpoint_unasked(digits_data: TrainingData) -> None:
    """Courses at different steps are all at a checkpoint when they are asked, or before it."""
    courses = _build(digits_data, 4)
    lockstep = Lockstep(courses[:2])
    waiting = courses[2:]
    seen = []
    for course, checkpoint in lockstep.follow():
        part = min(checkpoint.index, RECIPE.plans[0].parts)
        assert course.samples == STEPS * part // RECIPE.plans[0].parts * 64
        if checkpoint.index == 3 and course in courses[:2] and waiting:
            lockstep.leave(course)
            lockstep.join(waiting.pop())
        if checkpoint.is_last:
            seen.append(course)
    assert seen == [courses[3], courses[2]]


def test_nobody_joins_where_no_place_is_empty(digits_data: TrainingData) -> None:
    *starters, third = _build(digits_data, 3)
    lockstep = Lockstep(starters)
    way = lockstep.follow()
    while next(way)[1].index == 0:
        pass
    lockstep.join(third)
    with pytest.raises(ValueError, match="no place is empty"):
        list(way)


def test_who_began_alone_is_joined_by_nobody(digits_data: TrainingData) -> None:
    first, second = _build(digits_data, 2)
    lockstep = Lockstep([first])
    ends = []
    for course, checkpoint in lockstep.follow():
        if checkpoint.index == 2 and course is first:
            with pytest.raises(ValueError, match="goes alone"):
                lockstep.join(second)
            lockstep.leave(first)
            lockstep.join(second)
        ends.append((course, checkpoint))
    assert [checkpoint for course, checkpoint in ends if course is second] == list(
        _build(digits_data, 2)[1].follow()
    )


def test_one_that_left_before_the_first_step_is_never_trained(digits_data: TrainingData) -> None:
    courses = _build(digits_data, 2)
    lockstep = Lockstep(courses)
    lasts: dict[Course, int] = {}
    for course, checkpoint in lockstep.follow():
        lasts[course] = checkpoint.index
        if course is courses[1]:
            lockstep.leave(course)
    assert list(lasts.values()) == [len(NEVER) - 1, 0]
    assert [course.samples for course in courses] == [STEPS * 64, 0]


def test_poll_ends_all_by_raising(digits_data: TrainingData) -> None:
    courses = _build(digits_data, 3)
    asked = 0

    def poll() -> None:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        for _ in Lockstep(courses, poll).follow():
            pass
    assert [course.samples for course in courses] == [5 * 64] * 3


def test_refuses_courses_that_do_not_fit(digits_data: TrainingData) -> None:
    courses = [*_build(digits_data, 1), *_build(digits_data, 1, 9_800)]
    with pytest.raises(ValueError, match="one number of free weights"):
        list(Lockstep(courses).follow())


def test_refuses_courses_of_different_plans(digits_data: TrainingData) -> None:
    one, other = _build(digits_data, 2)
    other.plan = replace(other.plan, samples=2 * other.plan.samples)
    with pytest.raises(ValueError, match="one plan"):
        Lockstep([one, other])


def test_one_that_leaves_before_its_turn_is_not_followed(digits_data: TrainingData) -> None:
    courses = _build(digits_data, 2)
    lockstep = Lockstep(courses)
    seen = []
    for course, checkpoint in lockstep.follow():
        seen.append((courses.index(course), checkpoint.index))
        if checkpoint.index == 1:
            lockstep.leave(courses[1])
            break
    assert seen == [(0, 0), (1, 0), (0, 1)]


def test_plan_of_no_steps_leaves_the_polish_alone(digits_data: TrainingData) -> None:
    plan = Plan(0, 63, 8, NEVER)
    courses = [Course(NETWORK, build_watermark(9_500, 1), digits_data, RECIPE, plan, seed) for seed in (1, 2)]
    assert all(len(checkpoints) == len(NEVER) for checkpoints in _follow(Lockstep(courses)).values())
    assert [course.samples for course in courses] == [0, 0]
