"""Who wins: what it takes as an obvious simulation has it, and shares where they are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from training.lab.fairness import Field, Miner, compute_win_share, draw_work
from training.lab.lottery import Lottery
from training.pace import compute_slowdown
from training.tasks import load_task_file

CHANCY = Lottery(0.1, 0.4, 1.0, np.array([10.0, 20.0, 30.0]), np.array([5.0, 25.0]))
"""Four headers in ten are kept, and one of these wins."""
SURE = Lottery(1.0, 1.0, 1.0, np.ones(1), np.ones(1))
RARE = Lottery(0.001, 1.0, 1.0, np.ones(1), np.ones(1))


def _simulate_place(lottery: Lottery, random: np.random.Generator) -> float:
    spent = 0.0
    while True:
        if random.random() >= lottery.kept:
            spent += lottery.look
        elif random.random() < lottery.probability / lottery.kept:
            return spent + float(random.choice(lottery.won))
        else:
            spent += float(random.choice(lottery.lost))


@pytest.mark.parametrize("networks", [1, 4])
def test_work_is_that_of_a_plain_simulation(networks: int) -> None:
    random = np.random.default_rng(1)
    drawn = draw_work(CHANCY, networks, 20_000, random)
    plain = [networks * min(_simulate_place(CHANCY, random) for _ in range(networks)) for _ in range(20_000)]
    assert len(drawn) == 20_000
    assert drawn.mean() == pytest.approx(np.mean(plain), rel=0.03)
    assert drawn.std() == pytest.approx(np.std(plain), rel=0.05)


def test_rare_wins_are_drawn_in_parts() -> None:
    random = np.random.default_rng(2)
    rarest = replace(RARE, probability=1e-4)
    drawn = draw_work(rarest, 8, 500, random)
    assert len(drawn) == 500
    assert drawn.mean() == pytest.approx(1e4, rel=0.2)


def test_a_sure_win_is_drawn_at_once() -> None:
    sure = replace(SURE, won=np.array([5.0]))
    assert sure.draw(np.random.default_rng(4)).tolist() == [5.0]


def _equip(lottery: Lottery, networks: int, power: float) -> Miner:
    return Miner(lottery, 640, networks, power)


def test_equals_share_equally_and_a_lottery_without_memory_is_fair() -> None:
    random = np.random.default_rng(3)
    even = compute_win_share(_equip(CHANCY, 3, 1), _equip(CHANCY, 3, 1), random)
    assert even == pytest.approx(0.5, abs=0.015)
    rare = compute_win_share(_equip(RARE, 1, 1), _equip(RARE, 1, 9), random)
    assert rare == pytest.approx(0.1, abs=0.01)


def test_a_race_is_won_by_the_faster() -> None:
    random = np.random.default_rng(4)
    assert compute_win_share(_equip(SURE, 1, 4), _equip(SURE, 1, 6), random) == 0.0


def test_the_slower_take_on_less_and_lose_some_power_by_it() -> None:
    file = load_task_file("digits")
    longest, shortest = 83_008, 20_752

    def find(most: int | None) -> tuple[int, Lottery]:
        return (longest if most is None or most >= longest else shortest), CHANCY

    field = Field(file.network, file.recipe, 10**9, 20, find)
    fast, slow = field.settle(100_000.0), field.settle(20.0)
    assert (fast.samples, fast.networks) == (longest, file.recipe.networks)
    assert fast.power == pytest.approx(100_000)
    assert (slow.samples, slow.networks) == (shortest, 1)
    full = file.recipe.networks / compute_slowdown(file.recipe.waiting, file.recipe.networks)
    assert slow.power == pytest.approx(20 / full)
    assert field.settle_at(20.0, 2).samples == longest
    assert slow.power < field.settle_at(20.0, 2).power < 20
    short_of_work = replace(field, work=10_000).settle(100_000.0)
    assert short_of_work.networks < fast.networks
