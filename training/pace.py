"""How much a machine should take on at once, by how fast it is beside the block interval."""

from __future__ import annotations

import math
from collections.abc import Mapping

_NEW = 0.3
"""By so much older attempts weigh less: what else a machine does changes."""


class Pace:
    """How fast a machine trains one network, alone but for looks and polish, by all its attempts so far.

    What it cannot train in time it should not begin: a new block ends an attempt, and what it was trained for
    is lost.
    """

    def __init__(self, waiting: float) -> None:
        """`waiting`: as Recipe's, of this machine."""
        self._waiting = waiting
        self._seconds = self._steps = 0.0

    @property
    def step_seconds(self) -> float | None:
        """Of a step of one network, looks and polish included; None while nothing is known."""
        return self._seconds / self._steps if self._steps else None

    def note(self, widths: Mapping[int, int], seconds: float, interval: float) -> None:
        """An attempt took that long, with so many steps of so many networks. Older attempts fade.

        One weighs by its length, but none more than an interval: a machine that was asleep is not slow.
        """
        lone = sum(count * compute_slowdown(self._waiting, networks) for networks, count in widths.items())
        weight = min(1.0, interval / seconds)
        self._seconds = (1 - _NEW) * self._seconds + weight * seconds
        self._steps = (1 - _NEW) * self._steps + weight * lone


def compute_slowdown(waiting: float, networks: int) -> float:
    """Times as long as a step of one network a step of so many takes."""
    return waiting + (1 - waiting) * networks


def choose_width(lasting: float, burden: float, waiting: float, most: int) -> int:
    """Networks to train side by side so that most courses come to their end: a power of two, `most` at most.

    `lasting` is how long one alone takes, in mean intervals between blocks, each of which ends all courses:
    one of length x comes to its end with a probability of exp(-x). `burden` is its work over that of a block,
    which bounds the interval for who has all the power.
    """

    def count_ended(networks: int) -> float:
        slowdown = compute_slowdown(waiting, networks)
        return networks / slowdown * math.exp(-max(lasting * slowdown, burden * networks))

    return max((1 << power for power in range(most.bit_length())), key=count_ended)
