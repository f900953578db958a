"""Paper mode: training as the paper does it (§3.4, §3.5).

Adam, batches of 100, and the watermark put back after each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data import Records, TrainingData
from training.graphs import RepeatedStep
from training.lab.figures.beside import SideBySide
from training.lab.figures.marks import Mark
from training.lab.figures.networks import PaperNetworks
from training.optimise import compute_gradients
from training.precision import mix_precision

State = dict[str, npt.NDArray[np.float32]]
"""A trained network: array by name."""

EVALUATION_BATCH = 500
"""Records counted at once."""
STATISTICS_RECORDS = 2_000
"""Of the train split, whose order is random, on which statistics are estimated anew."""

_BATCH = 100
_RATE = 1e-3
_EPSILON = 1e-7


@dataclass(frozen=True, slots=True)
class Marks:
    """The watermarks of networks side by side."""

    mask: Tensor
    """bool[members, size]."""
    values: Tensor
    """float[members, size], 0 where nothing is frozen."""
    during: Tensor
    """bool[members, 1]: whether it acts during back-propagation instead of after each batch."""
    holds: bool
    """Whether any of them does."""

    @classmethod
    def load(cls, marks: Sequence[Mark], during: Sequence[bool], networks: PaperNetworks) -> Marks:
        """On the networks' device."""
        device = networks.values.device
        mask = torch.zeros(len(marks), networks.size, dtype=torch.bool)
        values = torch.zeros(len(marks), networks.size)
        for row, mark in enumerate(marks):
            indices = torch.from_numpy(mark.indices)
            mask[row, indices] = True
            values[row, indices] = torch.from_numpy(mark.values).float()
        is_during = torch.tensor(during).unsqueeze(1).to(device)
        return cls(mask.to(device), values.to(device), is_during, any(during))

    @torch.no_grad()
    def apply(self, networks: PaperNetworks) -> None:
        """Puts every watermark into its network."""
        networks.values.copy_(torch.where(self.mask, self.values, networks.values))

    @torch.no_grad()
    def start(self, networks: PaperNetworks) -> None:
        """The watermarks that act during back-propagation are there from the first batch on."""
        networks.values.copy_(torch.where(self.mask & self.during, self.values, networks.values))

    @torch.no_grad()
    def hold(self, networks: PaperNetworks) -> None:
        """Takes the gradient from what is frozen during back-propagation."""
        if not self.holds:
            return
        assert networks.values.grad is not None, "called behind a backward pass"
        networks.values.grad.masked_fill_(self.mask & self.during, 0)


@dataclass(frozen=True, slots=True)
class Side:
    """Networks that one operation computes, beside others."""

    networks: PaperNetworks
    marks: Marks
    seeds: Sequence[int]
    """Of the order of the records, a network each."""


def train_epochs(sides: Sequence[Side], data: TrainingData, epochs: int) -> Iterator[list[float]]:
    """Trains all networks and yields after every epoch the share of right eval records of each.

    Dropout is drawn from torch's own generator. Sides do not wait for each other on a GPU.
    """
    device = data.inputs.device
    steps = [_build_step(side, data.train) for side in sides]
    generators = [[torch.Generator().manual_seed(seed) for seed in side.seeds] for side in sides]
    beside = SideBySide(len(sides), device)

    def act(*indices: Tensor) -> Tensor:
        return torch.stack(beside([partial(step, own) for step, own in zip(steps, indices, strict=True)]))

    def count(pixels: Tensor, labels: Tensor) -> Tensor:
        counts = [partial(_count_right, side.networks, pixels, labels) for side in sides]
        return torch.cat(beside(counts))

    take, count_again = RepeatedStep(act, device), RepeatedStep(count, device)
    for side in sides:
        side.marks.start(side.networks)
    for _ in range(epochs):
        for side in sides:
            side.networks.train()
        orders = [
            torch.stack([torch.randperm(len(data.train), generator=each) for each in own]).to(device)
            for own in generators
        ]
        for indices in zip(*(torch.split(order, _BATCH, dim=1) for order in orders), strict=True):
            # The last batch of an epoch may be a smaller one, which is not what was recorded.
            (take if indices[0].shape[1] == _BATCH else act)(*indices)
        for side in sides:
            side.networks.eval()
        batches = list(_cut(data.eval))
        right = sum((count_again if len(own[1]) == EVALUATION_BATCH else count)(*own) for own in batches)
        assert isinstance(right, Tensor), "there are records"
        yield [number / len(data.eval) for number in right.tolist()]


def _build_step(side: Side, records: Records) -> Callable[[Tensor], Tensor]:
    networks, marks = side.networks, side.marks
    is_cuda = networks.values.is_cuda
    optimiser = torch.optim.Adam([networks.values], lr=_RATE, eps=_EPSILON, fused=True, capturable=is_cuda)

    def act(indices: Tensor) -> Tensor:
        loss = _compute_loss(networks, records, indices)
        compute_gradients(optimiser, loss)
        marks.hold(networks)
        optimiser.step()
        marks.apply(networks)
        return loss.detach()

    return act


def _compute_loss(networks: PaperNetworks, records: Records, indices: Tensor) -> Tensor:
    """Sum over networks of the mean cross entropy on int64[members, n] records of their own."""
    images = records.pixels[indices].transpose(0, 1).flatten(1, 2)
    logits = _compute_logits(networks, images).flatten(0, 1)
    return F.cross_entropy(logits, records.labels[indices].flatten()) * networks.members


def _compute_logits(networks: PaperNetworks, pixels: Tensor) -> Tensor:
    """float32[members, n, classes] of uint8[n, members·c, h, w], by products as training takes them."""
    images = (pixels.float() / 255).contiguous(memory_format=torch.channels_last)
    with mix_precision(images.device):
        logits: Tensor = networks(images)
    return logits.float()


def evaluate(networks: PaperNetworks, records: Records) -> list[float]:
    """Share of right records of each network, with the statistics gathered so far."""
    networks.eval()
    counts = torch.stack([_count_right(networks, *own) for own in _cut(records)])
    return [number / len(records) for number in counts.sum(0).tolist()]


@torch.no_grad()
def _count_right(networks: PaperNetworks, pixels: Tensor, labels: Tensor) -> Tensor:
    """int64[members] right ones of the same records for every network."""
    logits = _compute_logits(networks, pixels.repeat(1, networks.members, 1, 1))
    return (logits.argmax(2) == labels).sum(1)


def _cut(records: Records) -> Iterator[tuple[Tensor, Tensor]]:
    parts = torch.split(records.pixels, EVALUATION_BATCH), torch.split(records.labels, EVALUATION_BATCH)
    return zip(*parts, strict=True)


def estimate_statistics(networks: PaperNetworks, records: Records) -> None:
    """The normalisations' statistics anew, as an attacker would for a changed network."""
    parts = torch.split(records.pixels[:STATISTICS_RECORDS], EVALUATION_BATCH)
    networks.estimate_statistics([part.repeat(1, networks.members, 1, 1).float() / 255 for part in parts])


def export_state(networks: PaperNetworks, member: int) -> State:
    """One of the networks."""
    rows = {"values": networks.values.detach()[member]}
    for index in range(len(networks.means)):
        for name, tensors in (("mean", networks.means), ("variance", networks.variances)):
            rows[f"{name}{index}"] = tensors[index].view(networks.members, -1)[member]
    return {name: tensor.cpu().numpy().copy() for name, tensor in rows.items()}


@torch.no_grad()
def load_state(networks: PaperNetworks, member: int, state: State) -> None:
    """Makes one of the networks the trained one."""
    networks.values[member] = torch.from_numpy(state["values"])
    for index in range(len(networks.means)):
        for name, tensors in (("mean", networks.means), ("variance", networks.variances)):
            tensors[index].view(networks.members, -1)[member] = torch.from_numpy(state[f"{name}{index}"])
