"""How fast a machine trains: real attempts on made-up headers. What is done with the rate is the caller's."""

from __future__ import annotations

import time

from consensus.block import Header
from consensus.encoding import ZERO_HASH
from consensus.task import Rung, Task
from training.attempt import MiningAttempt, TrainingData
from training.recipe import Recipe


def build_practice_header(nonce: int) -> Header:
    """A header that no chain has: only its nonce differs from others."""
    return Header(1, 1, ZERO_HASH, ZERO_HASH, 0, ZERO_HASH, ZERO_HASH, 0, ZERO_HASH, nonce)


def measure_rate(task: Task, dataset: TrainingData, recipe: Recipe, rung: Rung, seconds: float) -> float:
    """Million training multiply-accumulates per second of attempts at `rung`, about `seconds` of them.

    A first attempt warms up and is not measured; the last one is cancelled in time and counts as far as it
    went.
    """
    attempt = MiningAttempt(task, dataset, recipe, dataset.inputs.device)
    _spend(attempt, rung, 0, time.monotonic() + seconds / 10)
    spent, started = 0, time.monotonic()
    deadline, nonce = started + seconds, 1
    while time.monotonic() < deadline:
        spent += _spend(attempt, rung, nonce, deadline)
        nonce += 1
    return spent / 1e6 / (time.monotonic() - started)


def _spend(attempt: MiningAttempt, rung: Rung, nonce: int, deadline: float) -> int:
    """Multiply-accumulates of one attempt that ends at the deadline at the latest."""
    header = build_practice_header(nonce)
    result = attempt.run(header, rung, nonce, lambda: time.monotonic() >= deadline, lambda progress: None)
    return result.multiply_accumulates
