"""Datasets: their description, records, chunks and split roots (protocol §1).

Where the bytes come from is dataset_server's; what they must be is decided here.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from consensus.encoding import Hash32, Reader, compute_tagged_hash, pack
from consensus.errors import Code, RuleViolation
from consensus.merkle import compute_merkle_root

CHUNK_BYTES = 1_048_576
_LAYOUT = struct.Struct("<HHHHII32s32s")

SplitName = Literal["train", "eval"]
SPLITS: tuple[SplitName, SplitName] = ("train", "eval")


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """What `dataset_bytes` say: enough to check every record, without a single one."""

    c: int
    """Channels of an image, at least 1."""
    h: int
    """Height of an image in pixels, at least 1."""
    w: int
    """Width of an image in pixels, at least 1."""
    classes: int
    """Number of labels, 2 to 256."""
    n_train: int
    """Records of the train split, at least 1."""
    n_eval: int
    """Records of the eval split, at least 1."""
    train_root: Hash32
    """Merkle root of the train split's chunks."""
    eval_root: Hash32
    """Merkle root of the eval split's chunks."""

    @property
    def record_bytes(self) -> int:
        """Bytes of one record: a label and c·h·w pixels."""
        return 1 + self.c * self.h * self.w

    @property
    def dataset_id(self) -> Hash32:
        """H("FreezeNet/1/dataset", dataset_bytes)."""
        return compute_tagged_hash("FreezeNet/1/dataset", encode_dataset_spec(self))

    def get_record_count(self, split: SplitName) -> int:
        """Records of a split."""
        return self.n_train if split == "train" else self.n_eval

    def get_root(self, split: SplitName) -> Hash32:
        """Merkle root of a split's chunks."""
        return self.train_root if split == "train" else self.eval_root

    def get_split_bytes(self, split: SplitName) -> int:
        """Bytes of a whole split."""
        return self.get_record_count(split) * self.record_bytes


@dataclass(frozen=True, slots=True)
class Split:
    """The records of one split, decoded."""

    labels: npt.NDArray[np.uint8]
    """uint8[n]."""
    pixels: npt.NDArray[np.uint8]
    """uint8[n, c, h, w]."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A description with both splits, checked against each other."""

    spec: DatasetSpec
    train: Split
    eval: Split

    def get_split(self, name: SplitName) -> Split:
        """The split of that name."""
        return self.train if name == "train" else self.eval


def encode_dataset_spec(spec: DatasetSpec) -> bytes:
    """`dataset_bytes`, 80 bytes."""
    return pack(
        _LAYOUT,
        spec.c,
        spec.h,
        spec.w,
        spec.classes,
        spec.n_train,
        spec.n_eval,
        spec.train_root,
        spec.eval_root,
    )


def decode_dataset_spec(data: bytes) -> DatasetSpec:
    """The description in `dataset_bytes`. Raises BadDelivery(UNDECODABLE), RuleViolation(BAD_DATASET)."""
    reader = Reader(data)
    spec = DatasetSpec(*reader.unpack(_LAYOUT))
    reader.finish()
    check_dataset_spec(spec)
    return spec


def check_dataset_spec(spec: DatasetSpec) -> None:
    """Raises RuleViolation(BAD_DATASET) unless c ≥ 1, 2 ≤ classes ≤ 256 and nothing is empty (§1)."""
    if min(spec.c, spec.h, spec.w) < 1:
        raise RuleViolation(Code.BAD_DATASET, f"images of {spec.c}x{spec.h}x{spec.w}")
    if not 2 <= spec.classes <= 256:
        raise RuleViolation(Code.BAD_DATASET, f"{spec.classes} classes, not 2 to 256")
    if min(spec.n_train, spec.n_eval) < 1:
        raise RuleViolation(Code.BAD_DATASET, f"an empty split: {spec.n_train} train, {spec.n_eval} eval")


def cut_chunks(split: bytes) -> list[bytes]:
    """The chunks of a split's bytes, each of 1,048,576 bytes but the last."""
    return [split[start : start + CHUNK_BYTES] for start in range(0, len(split), CHUNK_BYTES)]


def compute_split_root(split: bytes) -> Hash32:
    """RFC 6962 root of the chunks of a split's bytes."""
    return compute_merkle_root(cut_chunks(split))


def encode_split(labels: npt.NDArray[np.uint8], pixels: npt.NDArray[np.uint8]) -> bytes:
    """The records of uint8[n] labels and uint8[n, c, h, w] pixels, concatenated."""
    rows = np.concatenate([labels.reshape(-1, 1), pixels.reshape(len(labels), -1)], axis=1)
    return rows.astype(np.uint8, copy=False).tobytes()


def describe_dataset(classes: int, shape: tuple[int, int, int], train: bytes, eval_: bytes) -> DatasetSpec:
    """The checked description of two encoded splits of images of `shape` (c, h, w).

    Raises RuleViolation(BAD_DATASET), also for a split that ends within a record.
    """
    record_bytes = 1 + math.prod(shape)
    if len(train) % record_bytes or len(eval_) % record_bytes:
        raise RuleViolation(Code.BAD_DATASET, f"a split ends within a record of {record_bytes} bytes")
    spec = DatasetSpec(
        *shape,
        classes=classes,
        n_train=len(train) // record_bytes,
        n_eval=len(eval_) // record_bytes,
        train_root=compute_split_root(train),
        eval_root=compute_split_root(eval_),
    )
    check_dataset_spec(spec)
    return spec


def decode_dataset(spec: DatasetSpec, train: bytes, eval_: bytes) -> Dataset:
    """Both splits as arrays, each checked against its root, its size and the labels' range.

    Raises RuleViolation(BAD_DATASET).
    """
    check_dataset_spec(spec)
    return Dataset(spec, _decode_split(spec, "train", train), _decode_split(spec, "eval", eval_))


def _decode_split(spec: DatasetSpec, name: SplitName, data: bytes) -> Split:
    if len(data) != spec.get_split_bytes(name):
        raise RuleViolation(
            Code.BAD_DATASET, f"{name} has {len(data)} bytes, not {spec.get_split_bytes(name)}"
        )
    if compute_split_root(data) != spec.get_root(name):
        raise RuleViolation(Code.BAD_DATASET, f"{name} does not hash to its root")
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, spec.record_bytes)
    labels = rows[:, 0].copy()
    if int(labels.max()) >= spec.classes:
        raise RuleViolation(Code.BAD_DATASET, f"{name} has label {labels.max()} of {spec.classes} classes")
    return Split(labels, rows[:, 1:].reshape(-1, spec.c, spec.h, spec.w).copy())
