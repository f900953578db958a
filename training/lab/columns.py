"""What attempts would do on measured courses: many traces at once, as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from training.lab.traces import Goal, Trace

Integers = npt.NDArray[np.int64]


class Columns:
    """Traces of as many checkpoints each, as int64[traces, checkpoints]."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        self.shown = np.array([trace.shown for trace in traces], np.int64)
        self.train_correct = np.array([trace.train_correct for trace in traces], np.int64)
        self.eval_correct = np.array([trace.eval_correct for trace in traces], np.int64)
        self.multiply_accumulates = np.array([trace.multiply_accumulates for trace in traces], np.int64)

    def __len__(self) -> int:
        return len(self.shown)

    def replay(
        self, goal: Goal, allowances: Sequence[float] | npt.NDArray[np.float64], recount_cost: int
    ) -> tuple[npt.NDArray[np.bool_], Integers]:
        """bool[traces] successes and int64[traces] multiply-accumulates of training.attempt on each trace.

        `allowances` are in records, one for each checkpoint or float64[checkpoints, traces];
        training.course.judge says what each checkpoint leads to.
        """
        wins, recounts, last = self.follow(goal, allowances)
        costs: Integers = self.multiply_accumulates[np.arange(len(self)), last] + recounts * recount_cost
        return wins, costs

    def follow(
        self, goal: Goal, allowances: Sequence[float] | npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.bool_], Integers, Integers]:
        """bool[traces] successes, int64[traces] exact counts made and int64[traces] last checkpoints."""
        count, checkpoints = self.shown.shape
        goes_on, wins = np.ones(count, np.bool_), np.zeros(count, np.bool_)
        recounts, last = np.zeros(count, np.int64), np.zeros(count, np.int64)
        for index in range(checkpoints):
            shown = self.shown[:, index]
            if index == 0:
                ends = goes_on & (shown < allowances[0])
            else:
                is_counted = goes_on & (shown >= goal.train)
                recounts += is_counted
                is_met = self.train_correct[:, index] >= goal.train
                won = is_counted & is_met & (self.eval_correct[:, index] >= goal.eval)
                wins |= won
                ends = won | (goes_on & ~is_counted & (shown < goal.train - allowances[index]))
            if index == checkpoints - 1:
                ends = goes_on
            last[ends] = index
            goes_on &= ~ends
        return wins, recounts, last

    def get_first_evals(self, train: int) -> Integers:
        """Right eval records at the first checkpoint with so many right train records, where there is one."""
        is_met = self.train_correct >= train
        rows = np.flatnonzero(is_met.any(axis=1))
        first: Integers = self.eval_correct[rows, is_met[rows].argmax(axis=1)]
        return first
