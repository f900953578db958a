"""Whether a slow miner wins its share of the blocks, from a ladder's measured courses.

A miner trains several networks in one pass, and a block of somebody else ends the pass: what was trained in
it is lost. The longer a pass lasts beside the block interval, the more of a miner's work is lost so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.lab.lottery import Lottery, Random
from training.recipe import ATTEMPTS_PER_INTERVAL

SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
"""Of all power, of the miner that is looked at; one other has the rest."""
_PASSES = 20_000
_BLOCKS = 40_000
_BLOCKS_TOGETHER = 5_000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Passes:
    """Passes of so many networks, in million multiply-accumulates."""

    probability: float
    """That one of them wins."""
    lost: Floats
    won: Floats
    """Up to the moment at which the first network wins."""

    @property
    def mean(self) -> float:
        """Of a pass, whatever comes of it."""
        return float((1 - self.probability) * self.lost.mean() + self.probability * self.won.mean())

    def draw(self, blocks: int, random: Random) -> Floats:
        """float64[blocks]: what it takes to win, each time from the start."""
        failures = random.geometric(self.probability, blocks) - 1
        ends = failures.cumsum()
        spent = np.append(0.0, random.choice(self.lost, int(ends[-1])).cumsum())
        taken: Floats = spent[ends] - spent[ends - failures] + random.choice(self.won, blocks)
        return taken


def build_passes(lottery: Lottery, networks: int, random: Random) -> Passes:
    """Passes at one rung; looks come first, then all networks train side by side."""
    chance = lottery.probability / lottery.kept
    shape = _PASSES, networks
    looks = lottery.look * random.negative_binomial(networks, lottery.kept, _PASSES)
    lost = random.choice(lottery.lost, shape)
    wins = random.random(shape) < chance
    # A pass that wins: one network does for certain, and of the others, who may win too, each would have
    # been that one as often.
    wins[:, 0] = True
    costs = np.where(wins, random.choice(lottery.won, shape), lost)
    end = np.where(wins, costs, np.inf).min(axis=1, keepdims=True)
    is_drawn = random.random(_PASSES) < 1 / wins.sum(axis=1)
    won = (looks + np.minimum(costs, end).sum(axis=1))[is_drawn]
    return Passes(1 - (1 - chance) ** networks, looks + lost.sum(axis=1), won)


def count_in_pace(lottery: Lottery, most: int, budget: float, random: Random) -> int:
    """Networks in a pass that costs at most `budget`, as training.rate.Pace finds them; at least one."""
    return max(1, min(most, int(budget / build_passes(lottery, 1, random).mean)))


def compute_win_share(one: Passes, other: Passes, share: float, random: Random) -> float:
    """Share of the blocks that a miner with this share of the power wins against one with the rest."""
    wins = 0
    for _ in range(_BLOCKS // _BLOCKS_TOGETHER):
        ours = one.draw(_BLOCKS_TOGETHER, random) / share
        theirs = other.draw(_BLOCKS_TOGETHER, random) / (1 - share)
        wins += int((ours < theirs).sum())
    return wins / _BLOCKS


def render_fairness(
    power: float, interval: int, networks: int, find: Callable[[float | None], tuple[int, Lottery]]
) -> Iterator[str]:
    """A line of a table for every share, at a power in million multiply-accumulates a second.

    `find` tells samples and lottery of the course that a miner takes who has so many million for an interval,
    and of the ladder's for None.
    """
    random = np.random.default_rng(0)

    def count(lottery: Lottery, share: float) -> int:
        return count_in_pace(lottery, networks, share * power * interval / ATTEMPTS_PER_INTERVAL, random)

    for share in SHARES:
        _, others = find((1 - share) * power * interval)
        other = build_passes(others, count(others, 1 - share), random)
        samples, lottery = find(share * power * interval)
        _, ladders = find(None)
        cells = []
        width = count(lottery, share)
        ways = (lottery, width), (ladders, count(ladders, share)), (ladders, networks)
        for each, together in ways:
            won = compute_win_share(build_passes(each, together, random), other, share, random)
            error = (won * (1 - won) / _BLOCKS) ** 0.5
            cells.append(f"{won / share:.2f} ± {error / share:.2f}")
        yield f"| {power:,.0f} | {share:.0%} | {samples:,} | {width} | {' | '.join(cells)} |"


FAIRNESS_TABLE = f"""
## Does a slow miner win its share?

Share of the blocks over share of the power (1 is fair), against one miner who has the rest, ± one standard
error; {_BLOCKS:,} simulated blocks a cell. A miner trains several networks in one pass, and loses the pass
when another finds the block. Miners fit a pass into an eighth of the target interval, and where one network
would train for longer than half an interval by the ladder's course, they take a shorter one
(`training.rate.Pace`): the samples and the networks that the miner with this share trains at once, and what
it wins so; beside it what it would win by the ladder's course, and by that in passes of full width. The
chance of a shorter course at a target that fewer than 15 of its courses met is fitted. Power is what a miner
has in each case: that wider passes make a machine faster is left out, as are network delays.

| power | share of it | samples | networks | as shipped | the ladder's course | full width |
|---|---|---|---|---|---|---|"""
