"""Reads a dataset in one file, `dataset_bytes ‖ train ‖ eval`, so that the lab needs no other package."""

from __future__ import annotations

from pathlib import Path

from consensus.dataset import Dataset, decode_dataset, decode_dataset_spec

_SPEC_BYTES = 80


def read_dataset_file(path: Path) -> Dataset:
    """The checked dataset in a file. Raises OSError, and ConsensusError for a file that holds none."""
    data = path.read_bytes()
    spec = decode_dataset_spec(data[:_SPEC_BYTES])
    train_end = _SPEC_BYTES + spec.get_split_bytes("train")
    return decode_dataset(spec, data[_SPEC_BYTES:train_end], data[train_end:])
