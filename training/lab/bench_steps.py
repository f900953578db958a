"""Training steps to be timed: the reference trainer's, and the same without watermark or grid."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from consensus.block import encode_header
from consensus.network import NetworkSpec
from consensus.watermark import Watermark, derive_watermark
from training.course import Course
from training.data import Records, TrainingData
from training.lockstep import train_together
from training.optimise import Ranks, train
from training.quantisation import LEVELS, quantise_weights
from training.rate import build_practice_header
from training.recipe import Plan
from training.tasks import load_recipe
from training.twin import Twin

PAPER = NetworkSpec(3, 32, 32, 10, 4, 32, 128)
"""The paper's network for CIFAR-10, 1,303,648 weights."""
_RECORDS = 2_048
_ENDLESS_SAMPLES = 10**9

Step = Callable[[], Tensor]


class Unmarked(Twin):
    """A twin whose weights are all free and used as they lie."""

    def compute_weights(self) -> Tensor:
        """float[N] grid weights."""
        return quantise_weights(self.free)


class Plain(Twin):
    """A CNN as everyone trains it: nothing frozen, nothing rounded, ReLU."""

    def compute_weights(self) -> Tensor:
        """float[N] weights."""
        return self.free

    def activate(self, values: Tensor) -> Tensor:
        """The positive values."""
        return F.relu(values)

    def _normalise(self, index: int, sums: Tensor, pooled: bool) -> Tensor:
        return self.normalise_apart(index, sums, pooled)


@dataclass(frozen=True, slots=True)
class Ground:
    """What steps are taken on."""

    network: NetworkSpec
    frozen: int
    """Per 10,000, where there is a watermark."""
    batch: int
    device: str

    def build_step(self, kind: type[Twin] = Twin, ranks: Ranks | None = None) -> Step:
        """A function that takes the next training step of a fresh twin on random records."""
        weights = self.network.weight_count
        count = weights * self.frozen // 10_000 if kind is Twin else 0
        generator = torch.Generator().manual_seed(0)
        recipe = replace(load_recipe("digits"), batch=self.batch)
        twin = kind(self.network, _mark(weights, count), generator, recipe.gain, recipe.shift, self.device)
        data = draw_data(self.network, self.device)
        stream = train(twin, data, recipe, _ENDLESS_SAMPLES, generator, ranks)
        return lambda: next(stream)

    def build_pass(self, networks: int) -> Callable[[], object]:
        """A function that takes the next training step of so many twins in one pass."""
        data, recipe = draw_data(self.network, self.device), replace(load_recipe("digits"), batch=self.batch)
        count = self.network.weight_count * self.frozen // 10_000
        plan = Plan(0, _ENDLESS_SAMPLES, 1, ())
        courses = [
            Course(self.network, _mark(self.network.weight_count, count, seed), data, recipe, plan, seed)
            for seed in range(networks)
        ]
        stream = train_together(lambda: courses)
        return lambda: next(stream)

    def measure_seconds(
        self, step: Callable[[], object], count: int, clock: Callable[[], float] = time.perf_counter
    ) -> float:
        """Of one step, the mean of `count`."""
        self._wait()
        started = clock()
        for _ in range(count):
            step()
        self._wait()
        return (clock() - started) / count

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def draw_data(network: NetworkSpec, device: str) -> TrainingData:
    """Random records of a network's shape; a step takes as long on them as on any."""
    generator = torch.Generator().manual_seed(0)
    shape = (_RECORDS, network.c, network.h, network.w)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)
    labels = torch.randint(0, network.classes, (_RECORDS,), generator=generator).to(device)
    records = Records(pixels, labels)
    return TrainingData(records, records, ((pixels >> 1) / LEVELS).to(memory_format=torch.channels_last))


def _mark(weights: int, count: int, nonce: int = 0) -> Watermark:
    if count == 0:
        return Watermark(weights, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int8))
    return derive_watermark(encode_header(build_practice_header(nonce)), weights, count)
