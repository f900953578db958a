"""A dataset on the device that trains on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from consensus.dataset import Dataset, Split
from training.quantisation import LEVELS


@dataclass(frozen=True, slots=True)
class Records:
    """One split on a device."""

    pixels: Tensor
    """uint8[n, c, h, w]."""
    labels: Tensor
    """int64[n]."""

    @classmethod
    def load(cls, split: Split, device: str | torch.device) -> Records:
        """The split's arrays on the device."""
        pixels, labels = torch.from_numpy(split.pixels), torch.from_numpy(split.labels)
        return cls(pixels.to(device), labels.to(device, torch.int64))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Both splits, and the train split as the twin's input."""

    train: Records
    eval: Records
    inputs: Tensor
    """float32[n_train, c, h, w], (pixel >> 1)/127, channels last."""

    @classmethod
    def load(cls, dataset: Dataset, device: str | torch.device) -> TrainingData:
        """The whole dataset on the device; attempts read nothing else."""
        train = Records.load(dataset.train, device)
        inputs = ((train.pixels >> 1) / LEVELS).to(memory_format=torch.channels_last)
        return cls(train, Records.load(dataset.eval, device), inputs)

    def take(self, count: int | None) -> TrainingData:
        """The same with the first `count` train records alone; itself for None."""
        if count is None:
            return self
        train = Records(self.train.pixels[:count], self.train.labels[:count])
        return replace(self, train=train, inputs=self.inputs[:count])
