"""Difficulty against exact rationals; clamps, easing, timestamps and confirmations."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.block import Header
from consensus.difficulty import (
    compute_confirmations,
    compute_difficulty,
    compute_earliest_timestamp,
    compute_eased_difficulty,
    compute_latest_timestamp,
    get_required_rung,
)
from consensus.params import ChainParams
from node.dev_vectors import build_wide_params
from tests.consensus.golden import get_golden

PARAMS = build_wide_params(get_golden().spec.params)
FIRST, LAST = PARAMS.task.rungs[0].work, PARAMS.task.rungs[-1].work
T0 = 1_700_000_000

intervals = st.integers(16, 2**24 - 1)
difficulties = st.integers(FIRST, LAST) | st.sampled_from([FIRST, LAST])


def with_interval(interval: int) -> ChainParams:
    return replace(PARAMS, target_interval=interval)


def build_parent(difficulty: int, timestamp: int = T0) -> Header:
    zero = bytes(32)
    return Header(1, 7, zero, zero, timestamp, zero, zero, difficulty, zero, nonce=0)


def compute_next(interval: int, difficulty: int, elapsed: int) -> int:
    """The difficulty after a block that came `elapsed` seconds after its parent."""
    return compute_difficulty(with_interval(interval), build_parent(difficulty), T0 - elapsed)


@given(intervals, difficulties, st.integers(0, 2**32))
def test_difficulty_is_the_exact_quotient_rounded_down_and_clamped(
    interval: int, difficulty: int, elapsed: int
) -> None:
    """D / (1 + (t - T) / HL) with t at most 64·T."""
    t = min(elapsed, 64 * interval)
    exact = Fraction(difficulty) / (1 + Fraction(t - interval, 16 * interval))
    assert compute_next(interval, difficulty, elapsed) == min(max(floor(exact), FIRST), LAST)


@given(intervals, difficulties)
def test_a_block_on_time_changes_nothing(interval: int, difficulty: int) -> None:
    assert compute_next(interval, difficulty, interval) == difficulty
    assert compute_difficulty(with_interval(interval), build_parent(difficulty), None) == difficulty


@given(intervals, difficulties, st.integers(0, 2**31), st.integers(1, 2**31))
def test_later_blocks_never_raise_the_difficulty(
    interval: int, difficulty: int, elapsed: int, more: int
) -> None:
    assert compute_next(interval, difficulty, elapsed + more) <= compute_next(interval, difficulty, elapsed)


@given(intervals, difficulties, st.integers(1, 10**6), st.integers(0, 2**31))
def test_a_higher_parent_never_lowers_the_difficulty(
    interval: int, difficulty: int, more: int, elapsed: int
) -> None:
    higher = min(difficulty + more, LAST)
    assert compute_next(interval, higher, elapsed) >= compute_next(interval, difficulty, elapsed)


@given(intervals, difficulties)
def test_one_block_changes_the_difficulty_by_known_factors(interval: int, difficulty: int) -> None:
    """At most 16/15 up, at most 16/79 down: 64·T is the longest time that counts."""
    assert compute_next(interval, difficulty, 0) <= Fraction(16, 15) * difficulty
    slowest = compute_next(interval, difficulty, 2**40)
    assert slowest == compute_next(interval, difficulty, 64 * interval)
    assert slowest >= min(FIRST, floor(Fraction(16, 79) * difficulty))


@given(intervals, st.integers(0, 2**31))
def test_difficulty_stays_on_the_ladder(interval: int, elapsed: int) -> None:
    assert FIRST <= compute_next(interval, FIRST, elapsed) <= LAST
    assert FIRST <= compute_next(interval, LAST, elapsed) <= LAST


def compute_eased(interval: int, difficulty: int, late: int) -> int:
    return compute_eased_difficulty(with_interval(interval), difficulty, T0 + late, T0)


@given(intervals, difficulties, st.integers(0, 2**32))
def test_easing_halves_once_every_two_intervals_after_six(interval: int, difficulty: int, late: int) -> None:
    halvings = max(0, floor(Fraction(late - 6 * interval, 2 * interval)))
    assert compute_eased(interval, difficulty, late) == max(floor(Fraction(difficulty, 2**halvings)), FIRST)


@pytest.mark.parametrize(
    ("late", "shift"),
    [(0, 0), (120, 0), (159, 0), (160, 1), (199, 1), (200, 2), (120 + 40 * 15, 15)],
)
def test_easing_begins_at_eight_intervals(late: int, shift: int) -> None:
    assert compute_eased(20, LAST, late) == LAST >> shift


@pytest.mark.parametrize("late", [120 + 40 * 62, 120 + 40 * 63, 120 + 40 * 64, 2**63, 2**64 - 1 - T0])
def test_a_dead_chain_thaws_to_the_first_rung(late: int) -> None:
    assert compute_eased(20, LAST, late) == FIRST


def test_easing_is_not_inherited() -> None:
    """The child of an eased block starts from what the block stated, not from what it met."""
    late = 1_000
    header = build_parent(LAST, T0 + late)
    assert get_required_rung(PARAMS, header, T0).work < LAST
    assert compute_difficulty(PARAMS, header, T0) == LAST * 320 // (300 + late)


@given(difficulties, st.integers(0, 10**6))
def test_the_required_rung_is_the_last_that_the_eased_difficulty_reaches(difficulty: int, late: int) -> None:
    eased = compute_eased(20, difficulty, late)
    rung = get_required_rung(PARAMS, build_parent(difficulty, T0 + late), T0)
    assert rung.work <= eased
    assert all(other.work <= rung.work or other.work > eased for other in PARAMS.task.rungs)


@pytest.mark.parametrize(("interval", "quarter"), [(16, 4), (19, 4), (20, 5), (2**24 - 1, 2**22 - 1)])
def test_the_earliest_timestamp_is_a_quarter_interval_later(interval: int, quarter: int) -> None:
    assert compute_earliest_timestamp(with_interval(interval), T0) == T0 + quarter


@pytest.mark.parametrize(("interval", "ahead"), [(16, 15), (31, 15), (32, 16), (33, 16), (600, 300)])
def test_the_latest_timestamp_is_half_an_interval_or_15_seconds_ahead(interval: int, ahead: int) -> None:
    assert compute_latest_timestamp(with_interval(interval), T0) == T0 + ahead


@pytest.mark.parametrize(
    ("work", "recent", "folds"),
    [(0, [5], 0), (9, [3, 5, 4], 1), (10, [3, 5, 4], 2), (14, [5], 2), (10**30, [1], 10**30), (7, [], 0)],
)
def test_confirmations_are_told_in_the_largest_recent_work(work: int, recent: list[int], folds: int) -> None:
    assert compute_confirmations(work, recent) == folds
