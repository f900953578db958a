"""Freezing little by little: the watermark closes over a network that began free."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from consensus.watermark import Watermark
from training.lab.attacks.frame import (
    Attack,
    Ground,
    StandInCourse,
    build_open_twin,
    copy_normalisation,
)
from training.quantisation import LEVELS, quantise_weights
from training.twin import Twin

_CLOSED_AFTER = 0.5
"""Share of the training after which the whole watermark is on."""


class ClosingTwin(Twin):
    """A network over which a watermark closes, its places in an order drawn at random."""

    order: Tensor
    """float[N] in [0, 1): when a place freezes; beyond 1 for free places."""
    marks: Tensor
    """float[N]: the watermark's grid values."""
    closed: float

    def compute_weights(self) -> Tensor:
        return torch.where(self.order < self.closed, self.marks, quantise_weights(self.free))


class ClosingCourse(StandInCourse):
    """Trains all weights first; the watermark is complete half-way."""

    def __init__(self, ground: Ground, seed: int) -> None:
        twin = build_closing_twin(ground, ground.derive_watermark(seed), seed)
        super().__init__(ground, seed, stand_in=twin)
        self._closing = twin

    def stream(self) -> Iterator[Tensor]:
        steps = self.plan.samples // self.recipe.batch
        for step, right in enumerate(super().stream(), 1):
            self._closing.closed = min(1.0, step / (steps * _CLOSED_AFTER))
            yield right

    @torch.no_grad()
    def settle(self) -> None:
        self.twin.free.copy_(self._closing.free[self.twin.free_indices])
        copy_normalisation(self._closing, self.twin)


def build_closing_twin(ground: Ground, watermark: Watermark, seed: int) -> ClosingTwin:
    """All of it still open."""
    generator = ground.build_generator(seed)
    plain = build_open_twin(ground, seed)
    twin = ClosingTwin(plain.spec, plain.watermark, generator, ground.recipe.gain, ground.recipe.shift)
    indices = torch.from_numpy(watermark.indices)
    twin.order = torch.full((watermark.weight_count,), 2.0)
    twin.order[indices] = torch.rand(len(indices), generator=generator)
    twin.marks = torch.zeros(watermark.weight_count)
    twin.marks[indices] = torch.from_numpy(watermark.values) / LEVELS
    twin.closed = 0.0
    return twin


ATTACKS = (
    Attack("progressive freezing", "lets the watermark close over the network until half-way", ClosingCourse),
)
