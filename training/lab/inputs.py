"""What the words of a command name: a task's dataset, a device, a number of things."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from consensus.dataset import Dataset
from training.dataset_file import read_dataset_file
from training.tasks import load_task_file

PROCESSES = min(2, os.cpu_count() or 1)
"""That measure side by side, where nothing else is said."""


def read_task_dataset(task: str, path: Path) -> Dataset:
    """The dataset of a file. Raises ValueError for images that are not the task's."""
    dataset, network = read_dataset_file(path), load_task_file(task).network
    spec = dataset.spec
    if (spec.c, spec.h, spec.w, spec.classes) != (network.c, network.h, network.w, network.classes):
        raise ValueError(f"the images are not those of {task}: name its dataset with --data")
    return dataset


def parse_device(text: str) -> str:
    """A device that torch has here. Raises argparse.ArgumentTypeError for another."""
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError):
        raise argparse.ArgumentTypeError(f"this machine has no device {text!r}") from None
    return text


def parse_count(text: str) -> int:
    """A number from 1. Raises argparse.ArgumentTypeError for another."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)
