"""The statistics of a ladder: intervals of probabilities and the tail of a distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

_NORMAL = NormalDist()
CONFIDENCE = 0.99


@cache
def compute_interval(successes: int, attempts: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact (Clopper–Pearson) interval of a probability seen `successes` times in `attempts`."""
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _solve(lambda p: 1 - compute_at_most(successes - 1, attempts, p) < tail)
    high = 1.0
    if successes < attempts:
        high = _solve(lambda p: compute_at_most(successes, attempts, p) > tail)
    return low, high


def compute_at_most(successes: int, attempts: int, probability: float) -> float:
    """Probability of at most that many successes."""
    return min(1.0, float(compute_binomial(attempts, probability)[: successes + 1].sum()))


def do_overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether two intervals have a point in common."""
    return first[0] <= second[1] and second[0] <= first[1]


def compute_variation(costs: Sequence[float], wins: Sequence[bool], probability: float) -> float:
    """Coefficient of variation of the cost to solution: attempts of these costs until one wins.

    1 is a lottery without memory, near 0 a race. The number of failures before the win is geometric with
    `probability`; each costs as the failures seen, the win as the wins seen or, where there is none, as the
    dearest failure.
    """
    won = np.array([cost for cost, win in zip(costs, wins, strict=True) if win] or [max(costs)], np.float64)
    lost = np.array([cost for cost, win in zip(costs, wins, strict=True) if not win] or [0], np.float64)
    failures = (1 - probability) / probability
    mean = failures * lost.mean() + won.mean()
    variance = failures * lost.var() + failures / probability * lost.mean() ** 2 + won.var()
    return float(np.sqrt(variance) / mean)


@dataclass(frozen=True, slots=True)
class Tail:
    """A normal distribution fitted to an upper tail; of what lies below it says nothing."""

    mean: float
    deviation: float

    def compute_chance(self, target: float) -> float:
        """Probability of reaching a target."""
        return _NORMAL.cdf((self.mean - target) / self.deviation)


def fit_tail(points: Sequence[tuple[int, int]], attempts: int) -> Tail:
    """The tail through (target, successes) points of one sample of `attempts`.

    Least squares of target on quantile, each point weighted by the rarer outcome's count. Raises
    ValueError for fewer than two different numbers of successes.
    """
    if len({successes for _, successes in points}) < 2:
        raise ValueError(f"of {attempts} courses too few differ for a tail: measure more, or longer ones")
    quantiles = [-_NORMAL.inv_cdf(successes / attempts) for _, successes in points]
    weights = [float(min(successes, attempts - successes)) for _, successes in points]
    total = math.fsum(weights)
    mean_q = math.fsum(w * q for w, q in zip(weights, quantiles, strict=True)) / total
    mean_t = math.fsum(w * t for w, (t, _) in zip(weights, points, strict=True)) / total
    covariance = math.fsum(
        w * (q - mean_q) * (t - mean_t) for w, q, (t, _) in zip(weights, quantiles, points, strict=True)
    )
    deviation = covariance / math.fsum(w * (q - mean_q) ** 2 for w, q in zip(weights, quantiles, strict=True))
    return Tail(mean_t - deviation * mean_q, deviation)


def compute_binomial(attempts: int, probability: float) -> npt.NDArray[np.float64]:
    """float64[attempts + 1]: probability of each number of successes."""
    successes = np.arange(attempts + 1)
    if probability <= 0 or probability >= 1:
        certain = attempts if probability >= 1 else 0
        return np.where(successes == certain, 1.0, 0.0)
    logs = successes * math.log(probability) + (attempts - successes) * math.log1p(-probability)
    shares: npt.NDArray[np.float64] = np.exp(_compute_log_choices(attempts) + logs)
    return shares


@cache
def _compute_log_choices(attempts: int) -> npt.NDArray[np.float64]:
    """float64[attempts + 1]: logarithm of the ways to choose k of all attempts."""
    factorials = np.array([math.lgamma(k + 1) for k in range(attempts + 1)])
    choices: npt.NDArray[np.float64] = factorials[-1] - factorials - factorials[::-1]
    return choices


def _solve(is_below: Callable[[float], bool]) -> float:
    """The point of [0, 1] up to which `is_below` holds."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2
