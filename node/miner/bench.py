"""How fast this machine trains: real attempts for some seconds, nothing submitted. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from consensus.dataset import Dataset, decode_dataset
from dataset_server.files import read_dataset_file
from dataset_server.importers import import_digits
from node.miner.trainer import choose_device
from training.attempt import TrainingData
from training.rate import measure_rate
from training.tasks import load_recipe, load_task


@dataclass(frozen=True, slots=True)
class Rate:
    """One measurement."""

    task: str
    device: str
    threads: int
    difficulty: int
    """Work of the rung which the attempts were for."""
    seconds: float
    rate: float
    """Million training multiply-accumulates a second."""


def measure_training_rate(
    task_name: str,
    dataset: Dataset,
    device_name: str,
    threads: int,
    seconds: float,
    block_seconds: float,
) -> Rate:
    """The rate at the rung that such a machine needs `block_seconds` for.

    The rate depends a little on the rung, so that a short measurement at the middle one finds it first.
    """
    torch.set_num_threads(threads)
    device = choose_device(device_name)
    task = load_task(task_name, dataset.spec)
    data, recipe = TrainingData.load(dataset, device), load_recipe(task.network)
    first = measure_rate(task, data, recipe, task.rungs[len(task.rungs) // 2], seconds / 3)
    rung = task.get_rung(max(int(first * block_seconds), task.rungs[0].work))
    return Rate(
        task_name, device, threads, rung.work, seconds, measure_rate(task, data, recipe, rung, seconds)
    )


def load_bench_dataset(path: Path | None) -> Dataset:
    """The dataset in a file; the embedded digits where none is named.

    Raises ConsensusError or OSError for a file that is no dataset.
    """
    if path is not None:
        return read_dataset_file(path)
    digits = import_digits()
    return decode_dataset(digits.spec, digits.train, digits.eval)
