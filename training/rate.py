"""How fast a machine trains: real attempts on made-up headers. What is done with the rate is the caller's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from consensus.block import Header
from consensus.encoding import ZERO_HASH
from consensus.network import NetworkSpec
from consensus.task import Rung, Task
from training.attempt import MiningAttempt, TrainingData
from training.headers import pick_freest
from training.recipe import Recipe

HEADERS_APART = 2**20
"""More headers than an attempt looks at."""
_NEW = 0.3
"""Weight of the last attempt: some give up at once, some go the whole way."""


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


class Pace:
    """How much a machine should take on at once, by how fast its attempts so far were.

    A new block ends an attempt, and what it was trained for is lost: the slower the machine, the fewer
    networks it should train side by side, and the shorter their courses should be.
    """

    def __init__(self, network: NetworkSpec, compute_slowdown: Callable[[int], float]) -> None:
        """`compute_slowdown`: times as long as a step of one network a step of so many takes."""
        self._network, self._compute_slowdown = network, compute_slowdown
        self._rate: float | None = None

    def count(self, samples: int, interval: float, most: int) -> int:
        """Networks to train for so many samples, at most `most`, where blocks come `interval` seconds apart.

        All of them while nothing is known.
        """
        if self._rate is None:
            return most
        course = 3 * self._network.multiply_accumulates * samples / self._rate
        return choose_width(course / interval, self._compute_slowdown, most)

    def count_samples(self, seconds: float) -> int | None:
        """For which one network alone trains in so many seconds; None while nothing is known."""
        return None if self._rate is None else fit_samples(seconds * self._rate, self._network)

    def note(self, networks: int, multiply_accumulates: int, seconds: float) -> None:
        """An attempt with so many side by side took that long, and multiplied that much."""
        lone = multiply_accumulates / seconds * self._compute_slowdown(networks) / networks
        self._rate = lone if self._rate is None else (1 - _NEW) * self._rate + _NEW * lone


def choose_width(course: float, compute_slowdown: Callable[[int], float], most: int) -> int:
    """Networks to train side by side so that most courses come to their end, at most so many.

    `course` is how long one takes alone, in mean intervals between blocks, each of which ends all courses:
    one of length x comes to its end with a probability of exp(-x).
    """

    def count_ended(networks: int) -> float:
        slowdown = compute_slowdown(networks)
        return networks / slowdown * math.exp(-course * slowdown)

    return max(range(1, most + 1), key=count_ended)


def fit_samples(multiply_accumulates: float, network: NetworkSpec) -> int:
    """Samples that one network is trained for by so many."""
    return int(multiply_accumulates / (3 * network.multiply_accumulates))
