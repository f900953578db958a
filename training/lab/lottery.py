"""Attempts at a rung as a lottery: chances and costs from the measured courses of a ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from consensus.dataset import DatasetSpec
from consensus.task import Rung
from training.lab.columns import Columns
from training.lab.ladder import MIN_SUCCESSES, Chances, Sizes, Stretch, choose_crosswise, fit_chances
from training.lab.traces import Goal, Trace, check_traces
from training.recipe import Plan
from training.tasks import TaskFile

Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class Lottery:
    """Attempts at one rung, as measured; costs in million multiply-accumulates.

    An attempt is one header: most are passed over for what they promise, at the cost of a look.
    """

    probability: float
    """Of success of an attempt."""
    kept: float
    """Share of the headers that promise enough."""
    look: float
    """Cost of one that does not."""
    lost: npt.NDArray[np.float64]
    """Of every course that promised enough and failed."""
    won: npt.NDArray[np.float64]
    """Of every course that won; where none did, of the dearest."""

    def draw(self, random: Random) -> npt.NDArray[np.float64]:
        """float64[attempts]: cost of one miner's attempts, the last of which wins."""
        failures = int(random.geometric(self.probability)) - 1
        is_kept = random.random(failures) * (1 - self.probability) < self.kept - self.probability
        lost = np.where(is_kept, random.choice(self.lost, failures), self.look)
        return np.append(lost, random.choice(self.won))


class GetLottery(Protocol):
    """The lotteries of a ladder."""

    def __call__(self, rung: Rung, samples: int | None = None) -> Lottery:
        """The lottery at a rung: by the ladder's plan, or for a miner too slow for more samples."""


def build_lotteries(file: TaskFile, traces: Sequence[Trace], dataset: DatasetSpec) -> GetLottery:
    """The lotteries of a ladder.

    Raises ValueError for courses of another task, and where a lottery's rung has none.
    """
    check_traces(traces, file.network, dataset, file.recipe)
    sizes = Sizes.build(dataset.n_train, dataset.n_eval, file.network)
    measured = dict(zip(file.rungs, file.measurements, strict=True))

    @cache
    def get_stretch(frozen: int, plan: Plan) -> Stretch:
        mine = tuple(trace for trace in traces if (trace.frozen, trace.samples) == (frozen, plan.samples))
        if not mine:
            raise ValueError(f"no course of {plan.samples} samples at {frozen} per 10,000 was measured")
        return Stretch(frozen, plan, mine)

    @cache
    def get_columns(stretch: Stretch) -> tuple[Columns, npt.NDArray[np.float64]]:
        """The courses, and what the ladder gave each of them up by."""
        return Columns(stretch.traces), choose_crosswise(stretch, sizes)

    @cache
    def get_chances(stretch: Stretch) -> Chances:
        return fit_chances(stretch, sizes)

    @cache
    def get_lottery(rung: Rung, samples: int | None = None) -> Lottery:
        own = file.recipe.get_plan(rung)
        stretch = get_stretch(rung.frozen, file.recipe.get_plan(rung, samples))
        columns, allowances = get_columns(stretch)
        is_kept = columns.shown[:, 0] >= allowances[0]
        goal = Goal(rung.min_train_correct, rung.min_eval_correct)
        wins, costs = columns.replay(goal, allowances, sizes.recount_cost)
        won, lost = costs[wins] / 1e6, costs[is_kept & ~wins] / 1e6
        probability = measured[rung].probability
        if stretch.plan.samples != own.samples:
            successes = int(wins.sum())
            is_counted = successes >= MIN_SUCCESSES
            chance = successes / len(wins) if is_counted else get_chances(stretch).compute(goal.train)
            # Longer courses end higher; where few tell, a shorter one's tail may be fitted above theirs.
            probability = min(chance, probability)
        return Lottery(
            probability,
            float(is_kept.mean()),
            float(columns.multiply_accumulates[0, 0]) / 1e6,
            lost if lost.size else won,
            won if won.size else lost.max(keepdims=True),
        )

    return get_lottery
