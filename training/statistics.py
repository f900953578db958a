"""The statistics of a ladder: intervals of probabilities and the tail of a distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

_NORMAL = NormalDist()
CONFIDENCE = 0.99


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
    if probability <= 0:
        return 1.0
    if probability >= 1:
        return float(successes >= attempts)
    return math.fsum(math.exp(_log_binomial(k, attempts, probability)) for k in range(successes + 1))


def do_overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether two intervals have a point in common."""
    return first[0] <= second[1] and second[0] <= first[1]


def compute_false_alarm(probability: float, stored: int, fresh: int) -> float:
    """How often two samples of one probability have intervals that do not overlap."""
    total = 0.0
    fresh_intervals = [compute_interval(k, fresh) for k in range(fresh + 1)]
    for successes in range(stored + 1):
        weight = math.exp(_log_binomial(successes, stored, probability))
        if weight > 1e-12:
            interval = compute_interval(successes, stored)
            total += weight * math.fsum(
                math.exp(_log_binomial(k, fresh, probability))
                for k, other in enumerate(fresh_intervals)
                if not do_overlap(interval, other)
            )
    return total


def fit_tail(points: Sequence[tuple[int, int]], attempts: int) -> tuple[float, float]:
    """(mean, deviation) of the normal tail through (target, successes) points of one sample of `attempts`.

    Least squares of target on normal quantile, each point weighted by the rarer outcome's count.
    """
    quantiles = [-_NORMAL.inv_cdf(successes / attempts) for _, successes in points]
    weights = [float(min(successes, attempts - successes)) for _, successes in points]
    total = math.fsum(weights)
    mean_q = math.fsum(w * q for w, q in zip(weights, quantiles, strict=True)) / total
    mean_t = math.fsum(w * t for w, (t, _) in zip(weights, points, strict=True)) / total
    covariance = math.fsum(
        w * (q - mean_q) * (t - mean_t) for w, q, (t, _) in zip(weights, quantiles, points, strict=True)
    )
    deviation = covariance / math.fsum(w * (q - mean_q) ** 2 for w, q in zip(weights, quantiles, strict=True))
    return mean_t - deviation * mean_q, deviation


def compute_tail(target: int, mean: float, deviation: float) -> float:
    """Probability of reaching a target under a fitted tail."""
    return 1 - NormalDist(mean, deviation).cdf(target)


def _log_binomial(successes: int, attempts: int, probability: float) -> float:
    choose = math.lgamma(attempts + 1) - math.lgamma(successes + 1) - math.lgamma(attempts - successes + 1)
    return choose + successes * math.log(probability) + (attempts - successes) * math.log1p(-probability)


def _solve(is_below: Callable[[float], bool]) -> float:
    """The point of [0, 1] up to which `is_below` holds."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2
