"""Short courses for the tests: the recipe of digits with plans that take a second or less."""

from __future__ import annotations

import random
from dataclasses import replace

from consensus.dataset import Dataset, DatasetSpec
from consensus.network import NetworkSpec
from consensus.task import Rung, Task
from consensus.watermark import Watermark, derive_watermark
from dataset_server.importers import import_digits
from training.attempt import MiningAttempt
from training.data import TrainingData
from training.lab.traces import Trace, digest_recipe, name_dataset
from training.rate import build_practice_header
from training.recipe import Plan, Recipe
from training.tasks import load_recipe
from training.tasks.default import DEFAULT_RECIPE
from training.twin import Twin

NETWORK = NetworkSpec(c=1, h=8, w=8, classes=10, blocks=2, filters=8, hidden=64)
NEVER = (0.0, *(1.0,) * 13)
EASY = Rung(9_500, 1_000, 330, 10_000)
FAR = Rung(9_900, 1_284, 0, 10_000)
DEAR = replace(FAR, work=1_000_000)
"""Worth many courses."""
HEADER = build_practice_header(7)


def build_recipe(samples: int, allowances: tuple[float, ...] = NEVER, parts: int = 8) -> Recipe:
    """The recipe of digits with one plan, at the first header it meets, and the default polish."""
    plans, polish = (Plan(0, samples, parts, allowances),), DEFAULT_RECIPE.polish
    return replace(load_recipe("digits"), headers=1, plans=plans, polish=polish)


def build_task(dataset: DatasetSpec, *rungs: Rung) -> Task:
    """A task on digits with a ladder of its own."""
    return Task(dataset.dataset_id, NETWORK, rungs)


def build_attempt(dataset: Dataset, data: TrainingData, recipe: Recipe) -> tuple[MiningAttempt, Task]:
    """Attempts at a task with one easy rung, on the CPU."""
    task = build_task(dataset.spec, EASY)
    return MiningAttempt(task, data, recipe, "cpu"), task


def build_watermark(frozen: int, nonce: int = 0) -> Watermark:
    """A watermark on the tests' network; `frozen` per 10,000."""
    header = bytes([nonce]) + bytes(189)
    return derive_watermark(header, NETWORK.weight_count, NETWORK.weight_count * frozen // 10_000)


def widen(twin: Twin) -> Twin:
    """In float64, where sums in another order move no activation over an edge of its grid."""
    twin.double()
    twin.means = [mean.double() for mean in twin.means]
    twin.variances = [variance.double() for variance in twin.variances]
    return twin


DIGITS = name_dataset(import_digits().spec)
DIGITS_RECIPE = digest_recipe(load_recipe("digits"))


def make_trace(frozen: int, seed: int, mean: float, deviation: float) -> Trace:
    """A course whose end is normally distributed and whose checkpoints show it better and better."""
    source = random.Random(frozen * 100_003 + seed)
    end = min(1_297, round(source.gauss(mean, deviation)))
    gaps = [800, 700, 400, 250, 180, 130, 90, 60, 35, 30, 12, 6, 2, 0]
    shown = [max(0, round(end - gap - source.gauss(0, gap / 5))) for gap in gaps[:-1]] + [end]
    shown = [min(value, end) for value in shown]
    right = [round(value * 0.36 + source.gauss(0, 5)) for value in shown]
    spent = [6_879_000_000 * (index + 1) // 14 for index in range(14)]
    counts = tuple(shown), tuple(shown), tuple(right), tuple(spent)
    kind = frozen, 20_752, seed, DIGITS_RECIPE, DIGITS
    return Trace(*kind, *counts, 1.0, "a machine", "2", "2026-01-01")
