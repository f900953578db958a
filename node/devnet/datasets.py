"""The dataset of each task that a devnet can run. Reading files and images is dataset_server's."""

from __future__ import annotations

from pathlib import Path

from consensus.errors import RuleViolation
from dataset_server.cifar10 import get_cifar10_info, import_cifar10
from dataset_server.errors import ImportRefused
from dataset_server.fashion_mnist import get_fashion_mnist_info, import_fashion_mnist
from dataset_server.importers import get_digits_info, import_digits
from dataset_server.info import DatasetInfo
from dataset_server.manifest import EncodedDataset
from node.devnet.errors import DevnetError


def read_task_dataset(task: str, source: Path | None) -> tuple[EncodedDataset, DatasetInfo]:
    """The dataset of a task and its origin, from a directory or, without one, embedded or downloaded.

    Raises DevnetError, OSError.
    """
    try:
        return _read(task, source)
    except (ImportRefused, RuleViolation) as error:
        raise DevnetError(f"the dataset of task {task}: {error}") from None


def _read(task: str, source: Path | None) -> tuple[EncodedDataset, DatasetInfo]:
    if task == "fashion-mnist":
        return import_fashion_mnist(source), get_fashion_mnist_info()
    if task == "cifar10":
        return import_cifar10(source), get_cifar10_info(source)
    if source is not None:
        raise DevnetError(f"task {task} takes no --source: its images come with scikit-learn")
    return import_digits(), get_digits_info()
