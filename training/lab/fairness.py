"""Whether a slow miner wins its share of the blocks, from a ladder's measured courses.

A miner trains several networks side by side, and a block of somebody else ends them all: what was trained is
lost. The longer a course lasts beside the block interval, the more of a miner's work is lost so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from consensus.network import NetworkSpec
from training.lab.lottery import Lottery, Random
from training.pace import choose_width, compute_slowdown
from training.recipe import Recipe

SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
"""Of all power, of the miner that is looked at; one other has the rest."""
_BLOCKS = 20_000
_FAILURES_TOGETHER = 10**7

Floats = npt.NDArray[np.float64]


def draw_lanes(lottery: Lottery, count: int, random: Random) -> Floats:
    """float64[count]: what one network after the other takes in one place, looks included, until one wins."""
    chance = lottery.probability / lottery.kept
    failures = random.geometric(chance, count) - 1
    looks = lottery.look * random.negative_binomial(failures + 1, lottery.kept)
    ends = failures.cumsum()
    spent = np.append(0.0, random.choice(lottery.lost, int(ends[-1])).cumsum())
    lanes: Floats = spent[ends] - spent[ends - failures] + looks + random.choice(lottery.won, count)
    return lanes


def draw_work(lottery: Lottery, networks: int, blocks: int, random: Random) -> Floats:
    """float64[blocks]: what a miner spends until the first of its networks wins, each time from the start.

    All that are trained side by side get as much of its work.
    """
    each = networks * lottery.kept / lottery.probability
    together = max(1, min(blocks, int(_FAILURES_TOGETHER / each)))
    parts: list[Floats] = []
    while len(parts) * together < blocks:
        lanes = draw_lanes(lottery, together * networks, random)
        parts.append(networks * lanes.reshape(together, networks).min(axis=1))
    return np.concatenate(parts)[:blocks]


@dataclass(frozen=True, slots=True)
class Miner:
    """What a miner takes on, and how fast it is."""

    lottery: Lottery
    samples: int
    """Of a whole course."""
    networks: int
    """Trained side by side."""
    power: float
    """Million multiply-accumulates a second, so many side by side."""

    def draw_seconds(self, blocks: int, random: Random) -> Floats:
        """float64[blocks]: until it has a block that nobody else's ends."""
        seconds: Floats = draw_work(self.lottery, self.networks, blocks, random) / self.power
        return seconds


def compute_win_share(one: Miner, other: Miner, random: Random) -> float:
    """Share of the blocks that the one wins against the other."""
    ours, theirs = (miner.draw_seconds(_BLOCKS, random) for miner in (one, other))
    return float((ours < theirs).mean() + (ours == theirs).mean() / 2)


@dataclass(frozen=True, slots=True)
class Field:
    """Where miners compete."""

    network: NetworkSpec
    recipe: Recipe
    work: int
    """Of the rung, in million multiply-accumulates."""
    interval: int
    """Seconds aimed at between blocks."""
    find: Callable[[int | None], tuple[int, Lottery]]
    """Samples and lottery of the course of who has time for so many samples, and of the ladder's for None."""

    def settle(self, power: float) -> Miner:
        """Who has this power by the recipe's full number of networks, as a miner settles (training.pace)."""
        lone = self._slow(power, 1)
        sample = 3 * self.network.multiply_accumulates / 1e6
        samples, lottery = self.find(int(lone * self.interval / sample))
        course = samples * sample
        lasting, burden = course / lone / self.interval, course / self.work
        count = choose_width(lasting, burden, self.recipe.waiting, self.recipe.networks)
        return Miner(lottery, samples, count, self._slow(power, count))

    def settle_at(self, power: float, networks: int) -> Miner:
        """Who takes the ladder's course, so many side by side."""
        samples, lottery = self.find(None)
        return Miner(lottery, samples, networks, self._slow(power, networks))

    def _slow(self, power: float, networks: int) -> float:
        """What is left of a power by the full number of networks, with so many."""
        most, waiting = self.recipe.networks, self.recipe.waiting
        full = most / compute_slowdown(waiting, most)
        return power * networks / compute_slowdown(waiting, networks) / full


def render_fairness(power: float, field: Field) -> Iterator[str]:
    """A line of a table for every share, at a power in million multiply-accumulates a second."""
    random = np.random.default_rng(0)
    for share in SHARES:
        other, own = field.settle((1 - share) * power), field.settle(share * power)
        cells = []
        ladders = partial(field.settle_at, share * power)
        for miner in (own, ladders(own.networks), ladders(field.recipe.networks)):
            won = compute_win_share(miner, other, random)
            error = (won * (1 - won) / _BLOCKS) ** 0.5
            cells.append(f"{won / share:.2f} ± {error / share:.2f}")
        yield f"| {power:,.0f} | {share:.0%} | {own.samples:,} | {own.networks} | {' | '.join(cells)} |"


FAIRNESS_TABLE = f"""
## Does a slow miner win its share?

Share of the blocks over share of the power (1 is fair), against one machine that has the rest, ± one standard
error; {_BLOCKS:,} simulated blocks a cell. A miner trains several networks side by side, another as soon as
one ends, and loses them all when somebody else finds a block. More of them make it faster and its courses
longer: it takes as many as end most courses by a simple rule, and a shorter course where one network alone
would train for longer than an interval by the ladder's (`training/pace.py`). What is lost is lost to a
machine that trains one network so much faster: of ten equal ones each gets a tenth. The columns tell samples
and networks of the miner with this share and what it wins so; beside it what it would win by the ladder's
course, with as many networks and with all that a core takes: where these are the same, the cells are draws of
one number. The chance of a shorter course at a target that fewer than 15 of its courses met is fitted. Power
is what a miner does with all networks that a core takes; with fewer it does less, by the recipe's `waiting`.
Left out are network delays, and that a miner ends its networks without others in their place when half an
interval is over, to begin with a fresh template.

| power | share of it | samples | networks | as shipped | the ladder's course | full width |
|---|---|---|---|---|---|---|"""
