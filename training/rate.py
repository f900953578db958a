"""How fast a machine trains: real attempts on made-up headers. What is done with the rate is the caller's."""

from __future__ import annotations

import time

from consensus.block import Header
from consensus.encoding import ZERO_HASH
from consensus.network import NetworkSpec
from consensus.task import Rung, Task
from training.attempt import MiningAttempt, TrainingData
from training.headers import pick_freest
from training.recipe import Recipe

HEADERS_APART = 2**20
"""More headers than an attempt looks at."""


def build_practice_header(nonce: int) -> Header:
    """A header that no chain has: only its nonce differs from others."""
    return Header(1, 1, ZERO_HASH, ZERO_HASH, 0, ZERO_HASH, ZERO_HASH, 0, ZERO_HASH, nonce)


def pick_practice_header(seed: int, recipe: Recipe, network: NetworkSpec, frozen_count: int) -> Header:
    """The practice header that an attempt of this seed looks at: no two seeds have any in common."""
    first = build_practice_header(seed * recipe.headers)
    return pick_freest(first, recipe.headers, network, frozen_count)


def measure_rate(task: Task, dataset: TrainingData, recipe: Recipe, rung: Rung, seconds: float) -> float:
    """Million training multiply-accumulates per second of attempts at `rung`, about `seconds` of them.

    A first attempt warms up and is not measured; one ends with a block, and the last is cancelled in time and
    counts as far as it went.
    """
    attempt = MiningAttempt(task, dataset, recipe, dataset.inputs.device)
    _spend(attempt, rung, 0, time.monotonic() + seconds / 10)
    spent, started = 0, time.monotonic()
    deadline, turn = started + seconds, 1
    while time.monotonic() < deadline:
        spent += _spend(attempt, rung, turn, deadline)
        turn += 1
    return spent / 1e6 / (time.monotonic() - started)


def _spend(attempt: MiningAttempt, rung: Rung, turn: int, deadline: float) -> int:
    """Multiply-accumulates of one attempt that ends at the deadline at the latest."""

    def is_over() -> bool:
        return time.monotonic() >= deadline

    header, seed = build_practice_header(turn * HEADERS_APART), turn * HEADERS_APART
    search = attempt.search(header, rung, seed, is_over)
    candidates = search.take(attempt.count_networks(rung))
    result = attempt.run(candidates, rung, is_over, lambda progress: None, search.take_one)
    return search.spent + result.multiply_accumulates
