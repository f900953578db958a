"""Who wins: passes as an obvious simulation has them, and shares where they are known."""

from __future__ import annotations

import numpy as np
import pytest

from training.lab.fairness import build_passes, compute_win_share, count_in_pace
from training.lab.lottery import Lottery

CHANCY = Lottery(0.1, 0.4, 1.0, np.array([10.0, 20.0, 30.0]), np.array([5.0, 25.0]))
"""Four headers in ten are kept, and one of these wins."""


def _simulate_pass(lottery: Lottery, networks: int, random: np.random.Generator) -> tuple[bool, float]:
    spent = 0.0
    courses: list[tuple[bool, float]] = []
    while len(courses) < networks:
        if random.random() >= lottery.kept:
            spent += lottery.look
        else:
            wins = bool(random.random() < lottery.probability / lottery.kept)
            courses.append((wins, float(random.choice(lottery.won if wins else lottery.lost))))
    end = min((cost for wins, cost in courses if wins), default=np.inf)
    return end < np.inf, spent + sum(min(cost, end) for _, cost in courses)


@pytest.mark.parametrize("networks", [1, 4])
def test_passes_are_those_of_a_plain_simulation(networks: int) -> None:
    random = np.random.default_rng(1)
    passes = build_passes(CHANCY, networks, random)
    plain = [_simulate_pass(CHANCY, networks, random) for _ in range(20_000)]
    won, lost = ([cost for wins, cost in plain if wins is outcome] for outcome in (True, False))
    assert passes.probability == pytest.approx(len(won) / len(plain), rel=0.03)
    assert passes.won.mean() == pytest.approx(np.mean(won), rel=0.03)
    assert passes.lost.mean() == pytest.approx(np.mean(lost), rel=0.03)
    assert passes.mean == pytest.approx(np.mean([cost for _, cost in plain]), rel=0.03)


def test_a_sure_win_is_drawn_at_once() -> None:
    sure = Lottery(1.0, 1.0, 1.0, np.array([5.0]), np.array([5.0]))
    assert sure.draw(np.random.default_rng(4)).tolist() == [5.0]


def test_a_block_takes_the_passes_before_it() -> None:
    random = np.random.default_rng(2)
    passes = build_passes(CHANCY, 3, random)
    drawn = passes.draw(20_000, random)
    assert drawn.min() >= passes.won.min()
    assert drawn.mean() == pytest.approx(passes.mean / passes.probability, rel=0.03)


def test_equals_share_equally_and_a_lottery_without_memory_is_fair() -> None:
    random = np.random.default_rng(3)
    passes = build_passes(CHANCY, 3, random)
    assert compute_win_share(passes, passes, 0.5, random) == pytest.approx(0.5, abs=0.01)
    rare = build_passes(Lottery(0.001, 1.0, 1.0, np.ones(1), np.ones(1)), 1, random)
    assert compute_win_share(rare, rare, 0.1, random) == pytest.approx(0.1, abs=0.01)


def test_a_race_is_won_by_the_faster() -> None:
    random = np.random.default_rng(4)
    sure = build_passes(Lottery(1.0, 1.0, 1.0, np.ones(1), np.ones(1)), 1, random)
    assert compute_win_share(sure, sure, 0.4, random) == 0.0


def test_pace_fits_the_budget() -> None:
    random = np.random.default_rng(5)
    each = build_passes(CHANCY, 1, random).mean
    counts = [count_in_pace(CHANCY, 8, budget, random) for budget in (0.1 * each, 3.5 * each, 100 * each)]
    assert counts == [1, 3, 8]
