"""Which headers are trained for: the first that promise enough, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from consensus.block import Header
from consensus.dataset import Dataset
from consensus.task import Rung
from tests.training.samples import DEAR, HEADER, NETWORK, NEVER, build_attempt, build_recipe
from training.attempt import Candidate, MiningAttempt
from training.data import TrainingData
from training.headers import pick_freest


def _choose(
    attempt: MiningAttempt,
    header: Header,
    rung: Rung,
    seed: int,
    count: int,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> tuple[list[Candidate], int]:
    """So many candidates to train side by side, and the multiply-accumulates of passing others over."""
    search = attempt.search(header, rung, seed, is_cancelled)
    return search.take(count), search.spent


def test_chosen_headers_are_the_first_that_promise_enough(digits: Dataset, digits_data: TrainingData) -> None:
    patient, _ = build_attempt(digits, digits_data, build_recipe(640))
    headers = [replace(HEADER, nonce=(2**64 - 2 + step) % 2**64) for step in range(40)]
    looks = [patient.build(header, DEAR, 3 + step).course for step, header in enumerate(headers)]
    promises = [look.promise for look in looks]
    # Far from the next value, which a look in one pass with others may move by a record or two.
    least = max(value for value in promises if all(abs(value - p) > 6 for p in promises if p < value))
    wanted = [header for header, promise in zip(headers, promises, strict=True) if promise >= least]
    share = (least - 3.5) / len(digits_data.train)
    recipe = replace(build_recipe(640, (share, *NEVER[1:])), networks=len(wanted))
    picky, _ = build_attempt(digits, digits_data, recipe)
    chosen, spent = _choose(picky, headers[0], DEAR, 3, len(wanted))
    assert [candidate.header for candidate in chosen] == wanted
    looked = len(wanted) + spent // looks[0].multiply_accumulates
    assert spent % looks[0].multiply_accumulates == 0
    assert headers.index(wanted[-1]) < looked <= headers.index(wanted[-1]) + 4
    assert picky.run(chosen, DEAR, lambda: False, lambda progress: None).outcome == "missed"


def test_of_several_headers_the_freest_is_looked_at(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, task = build_attempt(digits, digits_data, replace(build_recipe(640), headers=3, networks=5))
    chosen, _ = _choose(attempt, HEADER, DEAR, 3, 5)
    begins = [replace(HEADER, nonce=HEADER.nonce + 3 * block) for block in range(5)]
    frozen = task.compute_frozen_count(DEAR)
    assert [candidate.header for candidate in chosen] == [
        pick_freest(header, 3, NETWORK, frozen) for header in begins
    ]


def test_choosing_ends_without_a_promise_and_when_cancelled(
    digits: Dataset, digits_data: TrainingData
) -> None:
    recipe = replace(build_recipe(640, (1.0, *NEVER[1:])), networks=1)
    hopeless, _ = build_attempt(digits, digits_data, recipe)
    (chosen,), spent = _choose(hopeless, HEADER, DEAR, 3, 1)
    assert chosen.header.nonce == HEADER.nonce + 64
    assert spent > 0
    (chosen,), spent = _choose(hopeless, HEADER, DEAR, 3, 1, lambda: True)
    assert (chosen.header, spent) == (HEADER, 0)
    # It promises too little, but that is not why it ends.
    assert hopeless.run([chosen], DEAR, lambda: True, lambda progress: None).outcome == "cancelled"


@pytest.mark.parametrize(("asked", "passed_over", "taken"), [(1, 0, 2), (3, 0, 4), (5, 2, 2), (7, 4, 1)])
def test_choosing_begins_no_header_once_cancelled(
    asked: int, passed_over: int, taken: int, digits: Dataset, digits_data: TrainingData
) -> None:
    recipe = replace(build_recipe(640, (1.0, *NEVER[1:])), networks=8)
    hopeless, _ = build_attempt(digits, digits_data, recipe)
    # Asked before every header but the first of four, and of every header that promises too little.
    answers = iter([False] * asked)
    chosen, spent = _choose(hopeless, HEADER, DEAR, 3, 8, lambda: next(answers, True))
    nonces = [candidate.header.nonce - HEADER.nonce for candidate in chosen]
    assert nonces == list(range(passed_over, passed_over + taken))
    assert spent == passed_over * chosen[0].course.multiply_accumulates


def test_a_search_goes_on_where_it_was(digits: Dataset, digits_data: TrainingData) -> None:
    attempt, _ = build_attempt(digits, digits_data, replace(build_recipe(640), networks=3))
    at_once = attempt.search(HEADER, DEAR, 3).take(7)
    search = attempt.search(HEADER, DEAR, 3)
    bit_by_bit = [*search.take(3), *(search.take_one() for _ in range(4))]
    for one, other in zip(at_once, bit_by_bit, strict=True):
        assert (one.header, one.seed) == (other.header, other.seed)
    # It looks at three together: two are ready whom nobody has taken.
    assert search.spent == 2 * at_once[0].course.multiply_accumulates
