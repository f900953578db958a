"""What a watermark promises before anything is trained.

Behind convolutions as the watermark and chance left them, some networks tell the classes apart better than
others, and end better too. A look costs a hundredth of a course or two, so it is the first reason to give up.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from consensus.network import NetworkSpec
from training.data import TrainingData
from training.stack import TwinStack
from training.twin import Twin

_RECORDS = 2_048
"""Looked at, spread evenly over the split, which may be sorted by class; all where there are fewer."""
_RIDGE = 1e-2


@torch.no_grad()
def count_promised(twins: Sequence[Twin], data: TrainingData) -> list[int]:
    """Right train records of a linear classifier behind each twin's convolutions, scaled to the split.

    It is fitted by least squares to the records that it is counted on. No value in the twins changes.
    """
    count = min(_RECORDS, len(data.train))
    places = torch.arange(count, device=data.inputs.device) * len(data.train) // count
    labels = data.train.labels[places]
    features = TwinStack(twins).extract(data.inputs[places]).double()
    rows = F.pad(features, (0, 1), value=1.0)
    ridge = _RIDGE * torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device)
    answers = F.one_hot(labels, twins[0].spec.classes).to(rows.dtype)
    turned = rows.transpose(1, 2)
    classes = (rows @ torch.linalg.solve(turned @ rows + ridge, turned @ answers)).argmax(-1)
    return [int(right) * len(data.train) // len(labels) for right in (classes == labels).sum(-1)]


def compute_cost(network: NetworkSpec, n_train: int) -> int:
    """Multiply-accumulates of the look: the convolutions, the normal equations, the answers."""
    records, layers = min(_RECORDS, n_train), network.layers
    dense = sum(layer.outputs * layer.inputs for layer in layers[-2:])
    width = layers[-2].inputs + 1
    passes = network.multiply_accumulates - dense + width**2 + 2 * width * network.classes
    return records * passes + width**3
