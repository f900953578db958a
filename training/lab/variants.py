"""Variants of the reference trainer for the search of recipes: what is tried, not what is shipped.

Owns the loop with everything that a variant may change. The reference loop is training.optimise; what helps
moves there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data import TrainingData
from training.lab.muon import Muon
from training.optimise import draw_batches, set_rates
from training.twin import Twin


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to train. The defaults are the baseline of the search."""

    optimiser: str = "adam"
    """adam, muon (the free weights; the rest by Adam) or sgd (with Nesterov momentum)."""
    batch: int = 64
    weight_rate: float = 0.02
    """Peak rate of the free weights. Muon's update is scaled to a root mean square of 1, as Adam's is."""
    normalisation_rate: float = 0.02
    """Peak rate of gains, shifts and the last bias."""
    beta1: float = 0.9
    """Adam's first, or the momentum."""
    beta2: float = 0.99
    warm_up: float = 0.3
    """Share of the steps in which the rates rise to their peak."""
    schedule: str = "linear"
    """How they fall: linear, cosine, or flat (no fall)."""
    label_smoothing: float = 0.1
    gain: float = 0.15
    """First gain of every normalisation, and its first shift:"""
    shift: float = 0.0
    logit_scale: float = 2.0
    initial_scale: float = 1.0
    """Of the first free weights, uniform on ± this."""
    flip: bool = False
    reach: int = 0
    """Pixels by which a record is moved at most, each way."""
    averaging: float = 0.0
    """Decay of a running average of all parameters that is tested instead of them; 0 for none."""
    re_estimate: bool = False
    """Whether the statistics of the batches are measured anew at the end, on 10,000 records."""


def train_variant(
    twin: Twin, data: TrainingData, variant: Variant, samples: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Trains for `samples` samples and yields int64[] right answers after every step; the twin ends ready."""
    steps = samples // variant.batch
    optimisers = _build_optimisers(twin, variant)
    batches = draw_batches(len(data.train), variant.batch, generator)
    average = [parameter.detach().clone() for parameter in twin.parameters()]
    with torch.no_grad():
        twin.free.mul_(variant.initial_scale)
    twin.train()
    for step in range(steps):
        share = compute_share((step + 0.5) / steps, variant)
        indices = next(batches).to(data.inputs.device)
        labels = data.train.labels[indices]
        with _bfloat16(data.inputs.device):
            logits = twin(_augment(data.inputs[indices], variant, generator))
        loss = F.cross_entropy(
            logits.float() * variant.logit_scale, labels, label_smoothing=variant.label_smoothing
        )
        twin.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in optimisers:
            set_rates(optimiser, share)
            optimiser.step()
        twin.apply_bounds()
        _follow(average, twin, variant.averaging)
        yield (logits.detach().argmax(1) == labels).sum()
    _finish(twin, data, average, variant, generator)


def compute_share(progress: float, variant: Variant) -> float:
    """Share of the peak rate after `progress` of all steps."""
    if progress < variant.warm_up:
        return progress / variant.warm_up
    rest = (progress - variant.warm_up) / (1 - variant.warm_up)
    falls = {"linear": 1 - rest, "cosine": 0.5 + 0.5 * math.cos(math.pi * rest), "flat": 1.0}
    return falls[variant.schedule]


def _build_optimisers(twin: Twin, variant: Variant) -> list[torch.optim.Optimizer]:
    weights = {"params": [twin.free], "peak": variant.weight_rate}
    rest = {"params": [twin.bias, *twin.gains, *twin.shifts], "peak": variant.normalisation_rate}
    betas = (variant.beta1, variant.beta2)
    if variant.optimiser == "muon":
        return [Muon(twin, [weights, rest], betas)]
    if variant.optimiser == "sgd":
        sgd = torch.optim.SGD([weights], lr=0.0, momentum=variant.beta1, nesterov=True)
        return [sgd, torch.optim.Adam([rest], lr=0.0, betas=betas, fused=True)]
    return [torch.optim.Adam([weights, rest], lr=0.0, betas=betas, fused=True)]


def _augment(inputs: Tensor, variant: Variant, generator: torch.Generator) -> Tensor:
    """float[n, c, h, w] flipped with probability ½ and moved, records on their own, zeros moving in."""
    count, _, height, width = inputs.shape
    if variant.flip:
        is_flipped = (torch.rand(count, generator=generator) < 0.5).to(inputs.device)
        inputs = torch.where(is_flipped[:, None, None, None], inputs.flip(3), inputs)
    if variant.reach:
        reach = variant.reach
        moves = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=generator).to(inputs.device)
        padded = F.pad(inputs, (reach,) * 4).permute(0, 2, 3, 1)
        rows = torch.arange(height, device=inputs.device) + moves[0]
        columns = torch.arange(width, device=inputs.device) + moves[1]
        records = torch.arange(count, device=inputs.device)
        moved = padded[records[:, None, None], rows[:, :, None], columns[:, None, :]]
        inputs = moved.permute(0, 3, 1, 2)
    return inputs


@torch.no_grad()
def _follow(average: list[Tensor], twin: Twin, decay: float) -> None:
    if decay:
        torch._foreach_lerp_(average, list(twin.parameters()), 1 - decay)


@torch.no_grad()
def _finish(
    twin: Twin, data: TrainingData, average: list[Tensor], variant: Variant, generator: torch.Generator
) -> None:
    if variant.averaging:
        for parameter, mean in zip(twin.parameters(), average, strict=True):
            parameter.copy_(mean)
    if variant.averaging or variant.re_estimate:
        chosen = torch.randperm(len(data.train), generator=generator)[:10_000]
        for part in torch.split(chosen, 100):
            twin(data.inputs[part.to(data.inputs.device)])
    twin.eval()


def _bfloat16(device: torch.device) -> torch.autocast:
    """The search multiplies in bfloat16 everywhere; what it reports is counted on the integers."""
    return torch.autocast(device.type, dtype=torch.bfloat16)
