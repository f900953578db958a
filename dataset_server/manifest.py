"""The manifest of a dataset: its description and the leaf hashes of its chunks, proved by its id.

The same JSON is the answer of GET /v1/datasets/{dataset_id} and the file beside the chunks of a store.
Whoever holds a checked manifest can judge every chunk alone. Records and their labels are left to
consensus.dataset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from consensus.dataset import (
    CHUNK_BYTES,
    SPLITS,
    DatasetSpec,
    SplitName,
    cut_chunks,
    decode_dataset_spec,
    encode_dataset_spec,
)
from consensus.encoding import Hash32, compute_tagged_hash
from consensus.errors import BadDelivery, Code
from consensus.merkle import compute_leaf_hash, compute_root_of_hashes

T = TypeVar("T")

_HEX = re.compile(r"(?:[0-9a-f]{2})*")


@dataclass(frozen=True, slots=True)
class ChunkKey:
    """Which chunk of a dataset."""

    split: SplitName
    index: int


class EncodedDataset(NamedTuple):
    """A description with the records of both splits as bytes."""

    spec: DatasetSpec
    train: bytes
    eval: bytes

    def get_split(self, name: SplitName) -> bytes:
        """The records of the split of that name."""
        return self.train if name == "train" else self.eval


@dataclass(frozen=True, slots=True)
class Manifest:
    """A description and the leaf hashes that its split roots commit to."""

    spec: DatasetSpec
    train: tuple[Hash32, ...]
    """Leaf hashes of the train split's chunks, in order."""
    eval: tuple[Hash32, ...]
    """Leaf hashes of the eval split's chunks, in order."""

    @property
    def total_bytes(self) -> int:
        """Bytes of both splits."""
        return sum(self.spec.get_split_bytes(split) for split in SPLITS)

    def get_hashes(self, split: SplitName) -> tuple[Hash32, ...]:
        """Leaf hashes of a split's chunks, in order."""
        return self.train if split == "train" else self.eval

    def get_chunk_bytes(self, key: ChunkKey) -> int:
        """Bytes of a chunk: 1,048,576, or what is left for the last of its split."""
        return min(CHUNK_BYTES, self.spec.get_split_bytes(key.split) - key.index * CHUNK_BYTES)

    def get_keys(self) -> Iterator[ChunkKey]:
        """Every chunk, train before eval."""
        return (ChunkKey(split, i) for split in SPLITS for i in range(len(self.get_hashes(split))))


def build_manifest(dataset: EncodedDataset) -> Manifest:
    """The manifest of encoded splits, whose roots the caller has checked."""
    train, eval_ = (
        tuple(compute_leaf_hash(chunk) for chunk in cut_chunks(dataset.get_split(split))) for split in SPLITS
    )
    return Manifest(dataset.spec, train, eval_)


def check_manifest(manifest: Manifest, dataset_id: Hash32) -> None:
    """Raises BadDelivery(WRONG_CHUNK) unless the description is the id's and the hashes are its roots'."""
    if manifest.spec.dataset_id != dataset_id:
        raise BadDelivery(Code.WRONG_CHUNK, f"the description is not that of {dataset_id.hex()}")
    for split in SPLITS:
        hashes = manifest.get_hashes(split)
        expected_count = -(-manifest.spec.get_split_bytes(split) // CHUNK_BYTES)
        if len(hashes) != expected_count:
            raise BadDelivery(Code.WRONG_CHUNK, f"{split} has {len(hashes)} hashes, not {expected_count}")
        if compute_root_of_hashes(hashes) != manifest.spec.get_root(split):
            raise BadDelivery(Code.WRONG_CHUNK, f"the hashes of {split} differ from its root")


def check_chunk(manifest: Manifest, key: ChunkKey, data: bytes) -> None:
    """Raises BadDelivery(WRONG_CHUNK) unless `data` is that chunk."""
    if len(data) != manifest.get_chunk_bytes(key):
        raise BadDelivery(
            Code.WRONG_CHUNK,
            f"{key.split} {key.index} has {len(data)} bytes, not {manifest.get_chunk_bytes(key)}",
        )
    if compute_leaf_hash(data) != manifest.get_hashes(key.split)[key.index]:
        raise BadDelivery(Code.WRONG_CHUNK, f"{key.split} {key.index} differs from its hash")


def describe_manifest(manifest: Manifest) -> dict[str, Any]:
    """The manifest as plain values: {dataset_hex, train: {bytes, chunks: [leaf hash]}, eval: {…}}."""
    splits: dict[str, dict[str, Any]] = {
        split: {
            "bytes": manifest.spec.get_split_bytes(split),
            "chunks": [leaf_hash.hex() for leaf_hash in manifest.get_hashes(split)],
        }
        for split in SPLITS
    }
    return {"dataset_hex": encode_dataset_spec(manifest.spec).hex(), **splits}


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON."""
    return json.dumps(describe_manifest(manifest)).encode("ascii")


def decode_manifest(data: bytes, dataset_id: Hash32) -> Manifest:
    """The checked manifest of `dataset_id` in `data`. Fields beside the known ones are ignored.

    Raises BadDelivery(UNDECODABLE or WRONG_CHUNK), or RuleViolation(BAD_DATASET) where the id itself stands
    for a description that breaks protocol §1.
    """
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        raise BadDelivery(Code.UNDECODABLE, "the manifest is not JSON") from None
    description = _parse_hex(_get_field(answer, "dataset_hex", str))
    # The id first: a source that sends a broken description of another dataset is a liar, not a messenger.
    if compute_tagged_hash("FreezeNet/1/dataset", description) != dataset_id:
        raise BadDelivery(Code.WRONG_CHUNK, f"the description is not that of {dataset_id.hex()}")
    spec = decode_dataset_spec(description)
    train, eval_ = (_parse_hashes(_get_field(answer, split, dict), spec, split) for split in SPLITS)
    manifest = Manifest(spec, train, eval_)
    check_manifest(manifest, dataset_id)
    return manifest


def _parse_hashes(answer: dict[str, Any], spec: DatasetSpec, split: SplitName) -> tuple[Hash32, ...]:
    if _get_field(answer, "bytes", int) != spec.get_split_bytes(split):
        raise BadDelivery(Code.WRONG_CHUNK, f"{split} is not told with its number of bytes")
    hashes = tuple(_parse_hex(text) for text in _get_field(answer, "chunks", list))
    if any(len(leaf_hash) != 32 for leaf_hash in hashes):
        raise BadDelivery(Code.UNDECODABLE, f"a hash of {split} has not 32 bytes")
    return hashes


def _get_field(answer: Any, name: str, kind: type[T]) -> T:
    value = answer.get(name) if isinstance(answer, dict) else None
    # type() rather than isinstance(): true is no number.
    if type(value) is not kind:
        raise BadDelivery(Code.UNDECODABLE, f"{name} is missing or not of type {kind.__name__}")
    return value


def _parse_hex(text: Any) -> bytes:
    if not isinstance(text, str) or not _HEX.fullmatch(text):
        raise BadDelivery(Code.UNDECODABLE, "a field is not lower-case hex")
    return bytes.fromhex(text)
