"""Claims to be verified by the bench: networks nobody trained, on records that nobody drew.

An evaluation takes as long on them as on any other. How many records a network gets right is settled by the
labels: they are its own predictions, but for as many as it shall get wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from consensus.block import Header, Witness, encode_header
from consensus.dataset import Dataset, Split, describe_dataset, encode_split
from consensus.network import MULTIPLIER_LIMIT, IntegerNetwork, NetworkSpec
from consensus.solution import Solution, assemble_network, encode_solution
from consensus.task import Rung, Task
from consensus.watermark import derive_watermark
from training.evaluator import ComputeLogits
from training.rate import build_practice_header

FROZEN = 7_000
"""Per 10,000, as in the paper's CIFAR-10 runs."""
_CLASSES = 10


@dataclass(frozen=True, slots=True)
class Claim:
    """A witness with everything that its verifier needs."""

    dataset: Dataset
    task: Task
    rung: Rung
    header: Header
    witness: Witness
    network: IntegerNetwork

    def claim_train(self, train_correct: int) -> Claim:
        """The same network with another claim about the train split."""
        return replace(self, witness=replace(self.witness, train_correct=train_correct))


def draw_network(spec: NetworkSpec, frozen_count: int) -> tuple[Header, Solution, IntegerNetwork]:
    """A header, and a random solution under its watermark whose activations are alive."""
    random = np.random.default_rng(0)
    header = build_practice_header(0)
    watermark = derive_watermark(encode_header(header), spec.weight_count, frozen_count)
    # A sum of random weights and activations deviates by about 73·73·√terms: here 40 levels.
    scales = [round(40 * MULTIPLIER_LIMIT / (5_400 * layer.fan_in**0.5)) for layer in spec.layers[:-1]]
    solution = Solution(
        random.integers(-127, 128, spec.weight_count - frozen_count).astype(np.int8),
        tuple(np.full(n, scale, np.uint32) for n, scale in zip(spec.normalised_outputs, scales, strict=True)),
        tuple(np.full(n, 20 * MULTIPLIER_LIMIT, np.int64) for n in spec.normalised_outputs),
        np.zeros(spec.classes, np.int32),
    )
    return header, solution, assemble_network(spec, watermark, solution)


def draw_pixels(spec: NetworkSpec, count: int) -> npt.NDArray[np.uint8]:
    """uint8[n, c, h, w] random images."""
    return np.random.default_rng(1).integers(0, 256, (count, spec.c, spec.h, spec.w), dtype=np.uint8)


def build_claim(
    spec: NetworkSpec, records: int, right: int, compute_logits: ComputeLogits, device: str
) -> Claim:
    """A true claim about `records` train records, of which `right` are right, and one right eval record."""
    header, solution, network = draw_network(spec, spec.weight_count * FROZEN // 10_000)
    pixels = draw_pixels(spec, records)
    labels = _predict(spec, records, compute_logits, device).copy()
    labels[right:] = (labels[right:] + 1) % _CLASSES
    train, one = Split(labels, pixels), Split(labels[:1], pixels[:1])
    described = describe_dataset(
        _CLASSES, (spec.c, spec.h, spec.w), encode_split(labels, pixels), encode_split(one.labels, one.pixels)
    )
    rung = Rung(FROZEN, right, 1, 1_000)
    return Claim(
        Dataset(described, train, one),
        Task(described.dataset_id, spec, (rung,)),
        rung,
        header,
        Witness(right, 1, encode_solution(solution)),
        network,
    )


@cache
def _predict(
    spec: NetworkSpec, records: int, compute_logits: ComputeLogits, device: str
) -> npt.NDArray[np.uint8]:
    """uint8[records] classes that the network of `build_claim` finds, once for all claims about them."""
    _, _, network = draw_network(spec, spec.weight_count * FROZEN // 10_000)
    logits = compute_logits(network, torch.from_numpy(draw_pixels(spec, records)).to(device))
    return logits.argmax(1).cpu().numpy().astype(np.uint8)
