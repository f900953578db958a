"""Many traces at once are each of them alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from training.course import Checkpoint, Judgement, judge
from training.lab.columns import Columns
from training.lab.traces import NOT_COUNTED, Goal, Trace


def _draw(source: random.Random, checkpoints: int) -> Trace:
    """What no course does: counts that fall, estimates far off, recounts left out."""
    shown = tuple(source.randrange(90, 111) for _ in range(checkpoints))
    is_counted = [source.random() < 0.7 for _ in range(checkpoints)]
    train = tuple(source.randrange(90, 111) if counted else NOT_COUNTED for counted in is_counted)
    right = tuple(source.randrange(20, 31) if counted else NOT_COUNTED for counted in is_counted)
    spent = sorted(source.randrange(10**9) for _ in range(checkpoints))
    return Trace(9_500, 640, 0, "", "", shown, train, right, tuple(spent), 0.0, "", "", "")


def _replay(trace: Trace, goal: Goal, allowances: Sequence[float], recount_cost: int) -> tuple[bool, int]:
    """(whether an attempt succeeds, its multiply-accumulates), the obvious way."""
    last, recounts = len(trace.shown) - 1, 0
    for index, shown in enumerate(trace.shown):
        judgement = judge(Checkpoint(index, shown, index == last), goal.train, allowances[index])
        if judgement is Judgement.RECOUNT:
            recounts += 1
            if trace.train_correct[index] >= goal.train and trace.eval_correct[index] >= goal.eval:
                return True, trace.multiply_accumulates[index] + recounts * recount_cost
        elif judgement is Judgement.GIVE_UP:
            return False, trace.multiply_accumulates[index] + recounts * recount_cost
    return False, trace.multiply_accumulates[last] + recounts * recount_cost


@pytest.mark.parametrize("checkpoints", [1, 2, 7])
@pytest.mark.parametrize("seed", range(5))
def test_columns_replay_as_traces_do(seed: int, checkpoints: int) -> None:
    source = random.Random(seed)
    traces = [_draw(source, checkpoints) for _ in range(200)]
    columns = Columns(traces)
    assert len(columns) == 200
    for _ in range(20):
        goal = Goal(source.randrange(88, 113), source.randrange(18, 33))
        allowances = [
            source.choice([0.0, 95.5, 100.0]),
            *(source.uniform(-1, 12) for _ in range(checkpoints)),
        ]
        wins, costs = columns.replay(goal, allowances, 10**6)
        wanted = [_replay(trace, goal, allowances, 10**6) for trace in traces]
        assert list(zip(wins.tolist(), costs.tolist(), strict=True)) == wanted


def test_first_evals_are_those_of_the_first_checkpoint_that_meets() -> None:
    source = random.Random(6)
    traces = [_draw(source, 4) for _ in range(100)]
    for target in range(88, 113):
        wanted = []
        for trace in traces:
            met = [index for index, right in enumerate(trace.train_correct) if right >= target]
            wanted += [trace.eval_correct[met[0]]] if met else []
        assert Columns(traces).get_first_evals(target).tolist() == wanted
