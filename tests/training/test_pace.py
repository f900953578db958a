"""How much is taken on at once: as much as comes to its end."""

from __future__ import annotations

import numpy as np
import pytest

from training.pace import Pace, choose_width, compute_slowdown

WAITING = 0.8


def test_pace_tells_what_a_step_alone_takes_and_learns() -> None:
    pace = Pace(WAITING)
    assert pace.step_seconds is None
    pace.note({}, 5.0, 1e9)
    assert pace.step_seconds is None
    # Steps of one, and of two, which take 1.2 times as long: as 220 of one; behind five seconds of looks.
    pace.note({1: 100, 2: 100}, 39.0, 1e9)
    assert pace.step_seconds == pytest.approx((0.7 * 5 + 39) / 220)
    steady = Pace(WAITING)
    for widths in ({8: 50}, {1: 7, 4: 3}, {8: 500, 4: 20, 2: 10, 1: 10}):
        lone = sum(count * compute_slowdown(WAITING, width) for width, count in widths.items())
        steady.note(widths, 0.25 * lone, 1e9)
        assert steady.step_seconds == pytest.approx(0.25)


def test_an_attempt_weighs_by_its_length_and_older_ones_fade() -> None:
    pace = Pace(WAITING)
    pace.note({1: 1_000}, 1_000.0, 1e9)
    pace.note({1: 1}, 100.0, 1e9)
    assert pace.step_seconds == pytest.approx(1.0, rel=0.2)
    for _ in range(30):
        pace.note({1: 10}, 100.0, 1e9)
    assert pace.step_seconds == pytest.approx(10.0, rel=0.01)


def test_who_was_asleep_is_not_slow_for_long() -> None:
    pace = Pace(WAITING)
    for seconds in (300.0, 300.0, 8 * 3_600.0, 300.0):
        pace.note({1: 300}, seconds, 300.0)
    assert pace.step_seconds == pytest.approx(1.0, rel=0.6)


@pytest.mark.parametrize("lasting", [0.01, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("waiting", [0.0, 0.6, 0.9])
def test_as_many_networks_as_end_most_courses(lasting: float, waiting: float) -> None:
    """A plain simulation: places that begin anew after every block, blocks without memory."""
    gaps = np.random.default_rng(1).exponential(1.0, 100_000)
    widths = (1, 2, 4, 8)
    ended = {n: float((n * (gaps // (lasting * compute_slowdown(waiting, n)))).sum()) for n in widths}
    chosen = choose_width(lasting, 0.0, waiting, 8)
    # The rule counts the first course of every place alone.
    assert ended[chosen] >= 0.8 * max(ended.values())


def test_fewer_where_courses_are_much_of_a_block() -> None:
    chosen = [choose_width(0.0, burden, WAITING, 8) for burden in (0.001, 0.1, 0.3, 1.0)]
    assert chosen == sorted(chosen, reverse=True)
    assert (chosen[0], chosen[-1]) == (8, 1)
    assert choose_width(0.0, 0.0, WAITING, 7) == 4
    assert choose_width(0.0, 0.0, WAITING, 1) == 1
