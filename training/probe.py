"""What a watermark promises before anything is trained.

Behind convolutions as the watermark and chance left them, some networks tell the classes apart better than
others, and end better too. A look costs a hundredth of a course or two, so it is the first reason to give up.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from training.data import TrainingData
from training.twin import Twin

_RECORDS = 2_048
"""Looked at, or all where there are fewer."""
_RIDGE = 1e-2


@torch.no_grad()
def count_promised(twin: Twin, data: TrainingData) -> int:
    """Right train records of a linear classifier behind the convolutions, scaled to the split.

    It is fitted by least squares to the records that it is counted on. Nothing in the twin changes.
    """
    labels = data.train.labels[:_RECORDS]
    features = twin.extract(data.inputs[:_RECORDS]).double()
    rows = F.pad(features, (0, 1), value=1.0)
    gram = rows.T @ rows + _RIDGE * torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    answers = F.one_hot(labels, twin.spec.classes).to(rows.dtype)
    classes = (rows @ torch.linalg.solve(gram, rows.T @ answers)).argmax(1)
    return int((classes == labels).sum()) * len(data.train) // len(labels)


def compute_cost(twin: Twin, data: TrainingData) -> int:
    """Multiply-accumulates of the look: the convolutions, the normal equations, the answers."""
    records, layers = min(_RECORDS, len(data.train)), twin.spec.layers
    dense = sum(layer.outputs * layer.inputs for layer in layers[-2:])
    width = layers[-2].inputs + 1
    passes = twin.spec.multiply_accumulates - dense + width**2 + 2 * width * twin.spec.classes
    return records * passes + width**3
