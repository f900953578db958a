"""Does a stored ladder still hold on this machine? One rung, measured anew with fresh nonces.

The rung holds if the 99.9 % interval of the fresh attempts and the stored one, of 99 %, have a point in
common. For the fresh share itself to lie in the stored interval would be too much to ask: it scatters too.
With two intervals a correct rung fails less than once in 1,000 times (the tests compute how often).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from consensus.task import Rung, Task
from training.attempt import MiningAttempt, TrainingData
from training.lab.statistics import compute_interval, do_overlap
from training.rate import build_practice_header
from training.tasks import Measurement, TaskFile

FRESH_CONFIDENCE = 0.999


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One rung, measured anew."""

    rung: Rung
    stored: Measurement
    attempts: int
    successes: int
    multiply_accumulates: int
    """Millions an attempt, on average."""
    seconds: float
    """An attempt, on average."""

    @property
    def interval(self) -> tuple[float, float]:
        """The fresh attempts' 99.9 % interval."""
        return compute_interval(self.successes, self.attempts, FRESH_CONFIDENCE)

    @property
    def holds(self) -> bool:
        """Whether the ladder holds here."""
        return do_overlap(self.interval, (self.stored.low, self.stored.high))


def choose_rung(file: TaskFile) -> int:
    """Index of the cheapest rung whose probability, far from 0 and from 1, a few attempts can tell."""
    likely = [i for i, m in enumerate(file.measurements) if 0.1 <= m.probability <= 0.8]
    return min(likely, key=lambda index: file.measurements[index].multiply_accumulates)


def check_ladder(file: TaskFile, task: Task, data: TrainingData, attempts: int) -> CheckResult:
    """Makes fresh attempts at one rung, a network each, at the headers that a miner would look at."""
    index = choose_rung(file)
    rung = file.rungs[index]
    attempt = MiningAttempt(task, data, file.recipe, data.inputs.device)
    results = []
    for _ in range(attempts):
        nonce = random.SystemRandom().getrandbits(63)
        header = attempt.pick(build_practice_header(nonce), rung)
        candidate = attempt.build(header, rung, nonce)
        results.append(attempt.run([candidate], rung, lambda: False, lambda progress: None))
    return CheckResult(
        rung,
        file.measurements[index],
        attempts,
        sum(result.witness is not None for result in results),
        round(sum(result.multiply_accumulates for result in results) / attempts / 1e6),
        sum(result.seconds for result in results) / attempts,
    )
