"""Attempts at a rung as a lottery: chances and costs from the measured courses of a ladder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from consensus.dataset import DatasetSpec
from consensus.task import Rung
from training.lab.columns import Columns
from training.lab.ladder import Sizes, Stretch, choose_crosswise
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


GetLottery = Callable[[Rung], Lottery]


def build_lotteries(file: TaskFile, traces: Sequence[Trace], dataset: DatasetSpec) -> GetLottery:
    """The lotteries of a ladder.

    Raises ValueError for courses of another task, and where a lottery's rung has none.
    """
    check_traces(traces, file.network, dataset, file.recipe)
    recount_cost = (dataset.n_train + dataset.n_eval) * file.network.multiply_accumulates
    measured = dict(zip(file.rungs, file.measurements, strict=True))

    @cache
    def get_columns(frozen: int, plan: Plan) -> tuple[Columns, npt.NDArray[np.float64]]:
        """The courses at this share and plan, and what the ladder gave each of them up by."""
        mine = tuple(trace for trace in traces if (trace.frozen, trace.samples) == (frozen, plan.samples))
        if not mine:
            raise ValueError(f"no course of {plan.samples} samples at {frozen} per 10,000 was measured")
        sizes = Sizes(dataset.n_train, recount_cost)
        return Columns(mine), choose_crosswise(Stretch(frozen, plan, mine), sizes)

    @cache
    def get_lottery(rung: Rung) -> Lottery:
        plan = file.recipe.get_plan(rung)
        columns, allowances = get_columns(rung.frozen, plan)
        is_kept = columns.shown[:, 0] >= allowances[0]
        goal = Goal(rung.min_train_correct, rung.min_eval_correct)
        wins, costs = columns.replay(goal, allowances, recount_cost)
        won, lost = costs[wins] / 1e6, costs[is_kept & ~wins] / 1e6
        return Lottery(
            measured[rung].probability,
            float(is_kept.mean()),
            float(columns.multiply_accumulates[0, 0]) / 1e6,
            lost if lost.size else won,
            won if won.size else lost.max(keepdims=True),
        )

    return get_lottery
