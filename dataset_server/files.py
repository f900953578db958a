"""Files that appear whole or not at all, and the one-file form of a dataset: dataset_bytes ‖ train ‖ eval."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from consensus.dataset import Dataset, DatasetSpec, decode_dataset, decode_dataset_spec, encode_dataset_spec
from consensus.errors import BadDelivery, Code
from dataset_server.manifest import EncodedDataset

SPEC_BYTES = 80


def write_atomically(path: Path, data: bytes) -> None:
    """Write `path` so that a reader, also after a kill of this process, sees all of it or the old file."""
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        # mkstemp's 0600 is for secrets; a dataset is public and may be served by another user.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def encode_dataset_file(dataset: EncodedDataset) -> bytes:
    """dataset_bytes ‖ train ‖ eval."""
    return encode_dataset_spec(dataset.spec) + dataset.train + dataset.eval


def decode_dataset_file(data: bytes) -> Dataset:
    """The checked dataset in one file's bytes.

    Raises BadDelivery(UNDECODABLE) for a wrong length, RuleViolation(BAD_DATASET) for wrong contents.
    """
    spec = decode_dataset_spec(data[:SPEC_BYTES])
    _check_file_bytes(spec, len(data))
    train_end = SPEC_BYTES + spec.get_split_bytes("train")
    return decode_dataset(spec, data[SPEC_BYTES:train_end], data[train_end:])


def write_dataset_file(path: Path, dataset: EncodedDataset) -> None:
    """Write the one-file form, atomically, and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, encode_dataset_file(dataset))


def read_dataset_file(path: Path) -> Dataset:
    """The checked dataset in a file; errors as decode_dataset_file, and OSError."""
    with path.open("rb") as file:
        head = file.read(SPEC_BYTES)
        # Before the rest is read into memory: the file may be anything.
        _check_file_bytes(decode_dataset_spec(head), os.fstat(file.fileno()).st_size)
        return decode_dataset_file(head + file.read())


def _check_file_bytes(spec: DatasetSpec, actual_bytes: int) -> None:
    expected_bytes = SPEC_BYTES + spec.get_split_bytes("train") + spec.get_split_bytes("eval")
    if actual_bytes != expected_bytes:
        raise BadDelivery(
            Code.UNDECODABLE, f"the dataset file has {actual_bytes} bytes, not {expected_bytes}"
        )
