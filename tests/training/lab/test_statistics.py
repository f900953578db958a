"""Intervals and tails against known values."""

from __future__ import annotations

from statistics import NormalDist

import pytest

from training.lab.check import FRESH_CONFIDENCE, choose_rung
from training.lab.statistics import (
    compute_at_most,
    compute_binomial,
    compute_interval,
    do_overlap,
    fit_tail,
)
from training.tasks import load_task_file


def test_interval_of_ten_in_hundred() -> None:
    low, high = compute_interval(10, 100, confidence=0.95)
    assert (low, high) == pytest.approx((0.0490, 0.1762), abs=1e-4)


def test_interval_of_none_and_of_all() -> None:
    assert compute_interval(0, 50)[0] == 0
    assert compute_interval(0, 50)[1] == pytest.approx(1 - 0.005 ** (1 / 50))
    assert compute_interval(50, 50) == pytest.approx((0.005 ** (1 / 50), 1))


def test_binomial_sum() -> None:
    assert compute_at_most(1, 3, 0.5) == pytest.approx(0.5)
    assert compute_at_most(3, 3, 0.2) == pytest.approx(1)
    assert (compute_at_most(1, 3, 0.0), compute_at_most(1, 3, 1.0)) == (1.0, 0.0)


def test_intervals_overlap_also_in_one_point() -> None:
    assert do_overlap((0.1, 0.2), (0.2, 0.3))
    assert not do_overlap((0.1, 0.2), (0.21, 0.3))


def test_normal_tail_is_found_again() -> None:
    truth, attempts = NormalDist(1_210, 20), 100_000
    points = [(target, round(attempts * (1 - truth.cdf(target)))) for target in range(1_215, 1_260, 5)]
    tail = fit_tail(points, attempts)
    assert (tail.mean, tail.deviation) == pytest.approx((1_210, 20), abs=0.05)
    assert tail.compute_chance(1_270) == pytest.approx(1 - truth.cdf(1_270), rel=0.02)


@pytest.mark.parametrize("points", [[], [(1_215, 40)], [(1_215, 40), (1_216, 40)]])
def test_rejects_a_tail_without_a_slope(points: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="of 100 courses too few differ"):
        fit_tail(points, 100)


def _compute_false_alarm(probability: float, stored: int, fresh: int) -> float:
    """How often two samples of one probability have intervals that do not overlap."""
    fresh_shares = compute_binomial(fresh, probability)
    fresh_intervals = [compute_interval(successes, fresh, FRESH_CONFIDENCE) for successes in range(fresh + 1)]
    total = 0.0
    for successes, share in enumerate(compute_binomial(stored, probability)):
        # Rarer than this, a sample cannot change the answer; its interval would only take time.
        if share > 1e-9:
            interval = compute_interval(successes, stored)
            apart = [not do_overlap(interval, other) for other in fresh_intervals]
            total += float(share * fresh_shares[apart].sum())
    return total


def test_check_of_a_correct_rung_fails_less_than_once_in_a_thousand() -> None:
    file = load_task_file("digits")
    stored = file.measurements[choose_rung(file)]
    for probability in (stored.low, stored.probability, stored.high):
        assert _compute_false_alarm(probability, stored.attempts, 60) < 0.001
