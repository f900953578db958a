"""Tasks and ladders: bytes, validity, and which rung a difficulty asks for."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from consensus.encoding import compute_tagged_hash
from consensus.errors import Code, RuleViolation
from consensus.task import Rung, Task, check_task, decode_task, encode_task
from tests.consensus.golden import get_golden

DATASET = get_golden().spec.dataset
TASK = get_golden().spec.task
FIRST = TASK.rungs[0]


def with_rung(index: int, **changes: Any) -> Task:
    """The task with fields of one rung replaced."""
    rungs = list(TASK.rungs)
    rungs[index] = replace(rungs[index], **changes)
    return replace(TASK, rungs=tuple(rungs))


def with_works(*works: int) -> Task:
    """The task with a ladder of these works."""
    return replace(TASK, rungs=tuple(replace(FIRST, work=work) for work in works))


def test_the_layout_is_the_texts() -> None:
    expected = DATASET.dataset_id + struct.pack("<8H", 2, 5, 6, 3, 2, 4, 96, 4)
    for rung in TASK.rungs:
        expected += struct.pack(
            "<HIIQ", rung.frozen, rung.min_train_correct, rung.min_eval_correct, rung.work
        )
    assert encode_task(TASK) == expected
    assert decode_task(expected) == TASK
    assert TASK.task_id == compute_tagged_hash("FreezeNet/1/task", expected)


@pytest.mark.parametrize(
    ("difficulty", "index"),
    [(1_000, 0), (1_499, 0), (1_500, 1), (2_499, 1), (2_500, 2), (4_000, 3), (2**64 - 1, 3)],
)
def test_the_rung_is_the_last_whose_work_is_at_most_the_difficulty(difficulty: int, index: int) -> None:
    assert TASK.get_rung(difficulty) is TASK.rungs[index]


@pytest.mark.parametrize(("frozen", "count"), [(4_800, 1_025), (9_990, 2_133), (9_500, 2_029)])
def test_the_frozen_count_rounds_down(frozen: int, count: int) -> None:
    assert TASK.compute_frozen_count(replace(FIRST, frozen=frozen)) == count


VALID = {
    "as it is": TASK,
    "train target at 99 %": with_rung(0, min_train_correct=237),
    "train target 0": with_rung(0, min_train_correct=0),
    "eval floor at the whole split": with_rung(0, min_eval_correct=120),
    "frozen at the upper end": with_rung(0, frozen=9_990),
    "frozen_count 1,024": with_rung(0, frozen=4_795),
    "one rung": with_works(1_000),
    "256 rungs": with_works(*range(1_000, 1_256)),
    "work doubled": with_works(1_000, 2_000, 4_000),
    "work just below 2^56": with_works(2**56 - 2, 2**56 - 1),
}


@pytest.mark.parametrize("task", VALID.values(), ids=VALID.keys())
def test_accepts_a_task_at_its_bounds(task: Task) -> None:
    check_task(task, DATASET)


def test_accepts_a_watermark_share_of_a_tenth() -> None:
    network = replace(TASK.network, hidden=1_000)
    task = replace(with_rung(0, frozen=1_000), network=network)
    assert task.compute_frozen_count(task.rungs[0]) >= 1_024
    check_task(task, DATASET)


INVALID = {
    "another dataset": replace(TASK, dataset_id=bytes(32)),
    "no rungs": replace(TASK, rungs=()),
    "257 rungs": with_works(*range(1_000, 1_257)),
    "work below 1,000": with_works(999),
    "work of 2^56": with_works(2**56),
    "work repeated": with_works(1_000, 1_000),
    "work falling": with_works(1_500, 1_000),
    "work more than doubled": with_works(1_000, 2_001),
    "frozen below a tenth": replace(with_rung(0, frozen=999), network=replace(TASK.network, hidden=2_000)),
    "frozen above 9,990": with_rung(0, frozen=9_991),
    "frozen_count 1,023": with_rung(0, frozen=4_793),
    "train target above 99 %": with_rung(3, min_train_correct=238),
    "eval floor above the split": with_rung(3, min_eval_correct=121),
}


@pytest.mark.parametrize("task", INVALID.values(), ids=INVALID.keys())
def test_rejects_a_task_that_breaks_a_rule(task: Task) -> None:
    with pytest.raises(RuleViolation) as caught:
        check_task(task, DATASET)
    assert caught.value.code is Code.BAD_TASK


@pytest.mark.parametrize("field", ["c", "h", "w", "classes"])
def test_rejects_a_network_that_does_not_fit_the_dataset(field: str) -> None:
    with pytest.raises(RuleViolation) as caught:
        check_task(replace(TASK, network=replace(TASK.network, **{field: 7})), DATASET)
    assert caught.value.code is Code.BAD_TASK


def test_rejects_a_network_out_of_bounds() -> None:
    with pytest.raises(RuleViolation) as caught:
        check_task(replace(TASK, network=replace(TASK.network, hidden=0)), DATASET)
    assert caught.value.code is Code.BAD_NETWORK


def test_rejects_encoding_an_id_of_another_length() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        encode_task(replace(TASK, dataset_id=bytes(31)))


def test_rejects_encoding_a_rung_out_of_range() -> None:
    with pytest.raises(ValueError, match="out of range"):
        encode_task(replace(TASK, rungs=(Rung(2**16, 0, 0, 1_000),)))
