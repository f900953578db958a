"""What the words of a command name: a task's dataset, a device, a number of things, a share, a quantity."""

from __future__ import annotations

import argparse
import math
import os
from functools import partial
from pathlib import Path

import torch

from consensus.dataset import Dataset
from training.dataset_file import read_dataset_file
from training.tasks import load_task_file

PROCESSES = min(2, os.cpu_count() or 1)
"""That measure side by side, where nothing else is said."""
_MOST = 10**12
"""Of anything that is counted here."""


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


def parse_count(text: str, least: int = 1, most: int = _MOST) -> int:
    """A whole number in a range. Raises argparse.ArgumentTypeError for another."""
    if not text.isdecimal() or len(text) > len(str(_MOST)) or not least <= int(text) <= most:
        end = f" to {most:,}" if most < _MOST else ""
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {least}{end}")
    return int(text)


parse_seed = partial(parse_count, least=0, most=2**32 - 1)
"""A generator of torch looks at the 32 low bits of a seed alone."""
parse_share = partial(parse_count, least=0, most=10_000)
"""Per 10,000."""


def parse_positive(text: str) -> float:
    """A finite number above 0. Raises argparse.ArgumentTypeError for another."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number above 0")
    return value


def check_samples(samples: int, batch: int) -> None:
    """Raises ValueError for a course that would train nothing: it takes whole batches."""
    if samples < batch:
        raise ValueError(f"{samples} samples are less than a batch: {batch} are needed")
