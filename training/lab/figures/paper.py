"""Paper mode: training as the paper does it (§3.4, §3.5).

Adam, batches of 100, and the watermark put back after each batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data import Records, TrainingData
from training.lab.figures.marks import Mark
from training.lab.figures.networks import PaperNetworks

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
        return cls(mask.to(device), values.to(device), torch.tensor(during).unsqueeze(1).to(device))

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
        assert networks.values.grad is not None, "called behind a backward pass"
        networks.values.grad.masked_fill_(self.mask & self.during, 0)


def train_epochs(
    networks: PaperNetworks, marks: Marks, data: TrainingData, seeds: Sequence[int], epochs: int
) -> Iterator[list[float]]:
    """Trains all networks and yields after every epoch the share of right eval records of each.

    Every network has its seed's order of the records; dropout is drawn from torch's own generator.
    """
    optimiser = torch.optim.Adam([networks.values], lr=_RATE, eps=_EPSILON, fused=True)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    marks.start(networks)
    for _ in range(epochs):
        networks.train()
        orders = torch.stack([torch.randperm(len(data.train), generator=each) for each in generators])
        for indices in torch.split(orders.to(networks.values.device), _BATCH, dim=1):
            optimiser.zero_grad()
            _compute_loss(networks, data.train, indices).backward()  # type: ignore[no-untyped-call]
            marks.hold(networks)
            optimiser.step()
            marks.apply(networks)
        yield evaluate(networks, data.eval)


def _compute_loss(networks: PaperNetworks, records: Records, indices: Tensor) -> Tensor:
    """Sum over networks of the mean cross entropy on int64[members, n] records of their own."""
    images = records.pixels[indices].transpose(0, 1).flatten(1, 2)
    logits = networks(_scale(images)).flatten(0, 1)
    return F.cross_entropy(logits, records.labels[indices].flatten()) * networks.members


@torch.no_grad()
def evaluate(networks: PaperNetworks, records: Records) -> list[float]:
    """Share of right records of each network, with the statistics gathered so far."""
    networks.eval()
    right = torch.zeros(networks.members, dtype=torch.int64, device=networks.values.device)
    batches = zip(
        _repeat_batches(networks, records.pixels), torch.split(records.labels, EVALUATION_BATCH), strict=True
    )
    for images, labels in batches:
        right += (networks(images).argmax(2) == labels).sum(1)
    return [count / len(records) for count in right.tolist()]


def estimate_statistics(networks: PaperNetworks, records: Records) -> None:
    """The normalisations' statistics anew, as an attacker would for a changed network."""
    networks.estimate_statistics(list(_repeat_batches(networks, records.pixels[:STATISTICS_RECORDS])))


def _repeat_batches(networks: PaperNetworks, pixels: Tensor) -> Iterator[Tensor]:
    """The same images for every network."""
    for part in torch.split(pixels, EVALUATION_BATCH):
        yield _scale(part.repeat(1, networks.members, 1, 1))


def _scale(pixels: Tensor) -> Tensor:
    return pixels.float() / 255


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
