"""Datasets: description, chunks, roots, records."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from consensus.dataset import (
    CHUNK_BYTES,
    SPLITS,
    DatasetSpec,
    compute_split_root,
    cut_chunks,
    decode_dataset,
    decode_dataset_spec,
    describe_dataset,
    encode_dataset_spec,
    encode_split,
)
from consensus.encoding import compute_tagged_hash
from consensus.errors import Code, RuleViolation
from consensus.merkle import compute_merkle_root

LABELS = np.array([0, 2, 1], np.uint8)
PIXELS = np.arange(36).reshape(3, 2, 2, 3).astype(np.uint8)
TRAIN = encode_split(LABELS, PIXELS)
EVAL = encode_split(LABELS[:1], PIXELS[:1])
SPEC = describe_dataset(3, (2, 2, 3), TRAIN, EVAL)


def get_code(spec: DatasetSpec, train: bytes = TRAIN, eval_: bytes = EVAL) -> Code:
    """The code with which a dataset is refused."""
    with pytest.raises(RuleViolation) as caught:
        decode_dataset(spec, train, eval_)
    return caught.value.code


def test_the_layout_is_the_texts() -> None:
    expected = struct.pack("<4H2I", 2, 2, 3, 3, 3, 1) + compute_split_root(TRAIN) + compute_split_root(EVAL)
    assert encode_dataset_spec(SPEC) == expected
    assert len(expected) == 80
    assert decode_dataset_spec(expected) == SPEC
    assert SPEC.dataset_id == compute_tagged_hash("FreezeNet/1/dataset", expected)


def test_a_record_is_its_label_and_its_pixels_by_channel_row_and_column() -> None:
    assert bytes([0, *range(12), 2, *range(12, 24), 1, *range(24, 36)]) == TRAIN


def test_decoding_gives_back_labels_and_pixels() -> None:
    dataset = decode_dataset(SPEC, TRAIN, EVAL)
    for name, size in zip(SPLITS, (3, 1), strict=True):
        split = dataset.get_split(name)
        assert split.labels.tolist() == LABELS[:size].tolist()
        assert split.pixels.tolist() == PIXELS[:size].tolist()


def test_chunks_cut_through_records_and_the_last_may_be_shorter() -> None:
    split = bytes(CHUNK_BYTES) + b"x"
    assert [len(chunk) for chunk in cut_chunks(split)] == [CHUNK_BYTES, 1]
    assert [len(chunk) for chunk in cut_chunks(bytes(CHUNK_BYTES))] == [CHUNK_BYTES]
    assert compute_split_root(split) == compute_merkle_root([bytes(CHUNK_BYTES), b"x"])


@pytest.mark.parametrize(
    "changes",
    [
        {"c": 0},
        {"h": 0},
        {"w": 0},
        {"classes": 1},
        {"classes": 257},
        {"n_train": 0},
        {"n_eval": 0},
    ],
)
def test_rejects_a_description_that_breaks_a_rule(changes: dict[str, Any]) -> None:
    spec = replace(SPEC, **changes)
    assert get_code(spec) is Code.BAD_DATASET
    with pytest.raises(RuleViolation) as caught:
        decode_dataset_spec(encode_dataset_spec(spec))
    assert caught.value.code is Code.BAD_DATASET


@pytest.mark.parametrize("classes", [3, 256])
def test_accepts_classes_up_to_256(classes: int) -> None:
    decode_dataset(replace(SPEC, classes=classes), TRAIN, EVAL)


def test_rejects_a_label_that_is_no_class() -> None:
    assert get_code(replace(SPEC, classes=2)) is Code.BAD_DATASET


def test_rejects_splits_of_another_length() -> None:
    assert get_code(SPEC, TRAIN[:-1]) is Code.BAD_DATASET
    assert get_code(SPEC, TRAIN, EVAL + b"\0") is Code.BAD_DATASET
    assert get_code(replace(SPEC, n_train=4)) is Code.BAD_DATASET


def test_rejects_splits_that_do_not_hash_to_their_roots() -> None:
    assert get_code(SPEC, TRAIN[:-1] + b"\0") is Code.BAD_DATASET
    assert get_code(SPEC, TRAIN, EVAL[:-1] + b"\0") is Code.BAD_DATASET


def test_rejects_describing_a_split_that_ends_within_a_record() -> None:
    for train, eval_ in ((TRAIN[:-1], EVAL), (TRAIN, EVAL + b"\0")):
        with pytest.raises(RuleViolation) as caught:
            describe_dataset(3, (2, 2, 3), train, eval_)
        assert caught.value.code is Code.BAD_DATASET


def test_rejects_describing_an_empty_split() -> None:
    with pytest.raises(RuleViolation) as caught:
        describe_dataset(3, (2, 2, 3), TRAIN, b"")
    assert caught.value.code is Code.BAD_DATASET
