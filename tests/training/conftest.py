"""The digits, once a process, and one thread: the suite runs on two workers."""

from __future__ import annotations

import pytest
import torch

from consensus.dataset import Dataset, decode_dataset
from dataset_server.importers import import_digits
from training.data import TrainingData

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    encoded = import_digits()
    return decode_dataset(encoded.spec, encoded.train, encoded.eval)


@pytest.fixture(scope="session")
def digits_data(digits: Dataset) -> TrainingData:
    return TrainingData.load(digits, "cpu")
