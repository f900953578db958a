"""The one-file form, and files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.dataset import describe_dataset
from consensus.errors import BadDelivery, Code, ConsensusError, RuleViolation
from dataset_server.files import (
    SPEC_BYTES,
    decode_dataset_file,
    encode_dataset_file,
    read_dataset_file,
    write_atomically,
    write_dataset_file,
)
from dataset_server.manifest import EncodedDataset
from tests.dataset_server.samples import build_bad_labels, build_dataset

TRAIN, EVAL = bytes([0, 5, 6, 1, 7, 8]), bytes([1, 9, 10])
TINY = EncodedDataset(describe_dataset(2, (1, 2, 1), TRAIN, EVAL), TRAIN, EVAL)
DATA = encode_dataset_file(TINY)


def test_decodes_what_was_encoded() -> None:
    dataset = decode_dataset_file(DATA)
    assert dataset.spec == TINY.spec
    assert dataset.train.labels.tolist() == [0, 1]
    assert dataset.eval.pixels.tolist() == [[[[9], [10]]]]


def test_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "dataset"
    write_dataset_file(path, build_dataset())
    dataset = read_dataset_file(path)
    assert dataset.spec == build_dataset().spec
    assert np.array_equal(dataset.train.labels, np.frombuffer(build_dataset().train, np.uint8)[::65])
    assert [entry.name for entry in path.parent.iterdir()] == ["dataset"]


@pytest.mark.parametrize("data", [b"", DATA[: SPEC_BYTES - 1], DATA[:SPEC_BYTES], DATA[:-1], DATA + b"\0"])
def test_rejects_a_wrong_length(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "dataset"
    path.write_bytes(data)
    with pytest.raises(BadDelivery) as refusal:
        decode_dataset_file(data)
    assert refusal.value.code is Code.UNDECODABLE
    with pytest.raises(BadDelivery, match=refusal.value.detail):
        read_dataset_file(path)


def test_rejects_labels_out_of_range() -> None:
    with pytest.raises(RuleViolation) as refusal:
        decode_dataset_file(encode_dataset_file(build_bad_labels()))
    assert refusal.value.code is Code.BAD_DATASET


@given(at=st.integers(0, len(DATA) - 1), change=st.integers(1, 255))
def test_rejects_a_changed_byte(at: int, change: int) -> None:
    data = bytearray(DATA)
    data[at] ^= change
    # The class count alone may be another and still fit: then it is another dataset.
    try:
        assert decode_dataset_file(bytes(data)).spec.dataset_id != TINY.spec.dataset_id
    except ConsensusError:
        return
    assert at in (0, 1, 2, 3, 4, 5, 6, 7)


@given(data=st.binary(max_size=200))
def test_decoder_never_crashes(data: bytes) -> None:
    with pytest.raises(ConsensusError):
        decode_dataset_file(data)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, 5)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
