"""Datasets on disk as content-addressed chunks.

Layout, below the root: DATASET_ID/manifest.json, DATASET_ID/chunks/LEAF_HASH and, where the dataset was
imported here, DATASET_ID/info.json. Every file is written under another name and renamed, and every chunk is
compared with its hash before it is written and after it is read: neither a crash, nor two writers at once,
nor a failing disk lets wrong bytes out. Fetching is dataset_server.client's. Standard library and consensus
alone, so that a verification worker loads its dataset without a web framework.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from consensus.dataset import SPLITS, Dataset, DatasetSpec, SplitName, cut_chunks, decode_dataset
from consensus.encoding import Hash32
from consensus.errors import ConsensusError
from dataset_server.errors import DatasetMissing
from dataset_server.files import write_atomically
from dataset_server.info import DatasetInfo, decode_info, encode_info
from dataset_server.manifest import (
    ChunkKey,
    EncodedDataset,
    Manifest,
    build_manifest,
    check_chunk,
    check_manifest,
    decode_manifest,
    encode_manifest,
)

_STALE_PART_SECONDS = 3600.0


class DatasetStore:
    """The datasets below `root`; safe for several threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        """The directory that the datasets lie in."""
        # A manifest never changes once it is proved by the id it stands under.
        self._manifests: dict[Hash32, Manifest] = {}

    def list_ids(self) -> list[Hash32]:
        """The datasets with a manifest, complete or not, in the order of their ids."""
        names = (path.parent.name for path in self.root.glob("*/manifest.json"))
        return [bytes.fromhex(name) for name in sorted(names) if _is_hash_name(name)]

    def put(self, spec: DatasetSpec, train: bytes, eval_: bytes, info: DatasetInfo | None = None) -> Hash32:
        """Store a whole dataset and return its id. Raises RuleViolation(BAD_DATASET), OSError."""
        decode_dataset(spec, train, eval_)
        dataset = EncodedDataset(spec, train, eval_)
        dataset_id = spec.dataset_id
        self.put_manifest(dataset_id, build_manifest(dataset))
        if info is not None:
            write_atomically(self._get_directory(dataset_id) / "info.json", encode_info(info))
        for split in SPLITS:
            for index, chunk in enumerate(cut_chunks(dataset.get_split(split))):
                self.put_chunk(dataset_id, ChunkKey(split, index), chunk)
        return dataset_id

    def put_manifest(self, dataset_id: Hash32, manifest: Manifest) -> None:
        """Begin, or go on with, a dataset whose chunks follow. Raises BadDelivery(WRONG_CHUNK), OSError."""
        check_manifest(manifest, dataset_id)
        directory = self._get_directory(dataset_id)
        (directory / "chunks").mkdir(parents=True, exist_ok=True)
        _remove_stale_parts(directory)
        write_atomically(directory / "manifest.json", encode_manifest(manifest))

    def put_chunk(self, dataset_id: Hash32, key: ChunkKey, data: bytes) -> None:
        """Store a chunk of a dataset that was begun.

        Raises BadDelivery(WRONG_CHUNK), DatasetMissing without a manifest, OSError.
        """
        manifest = self._require_manifest(dataset_id)
        check_chunk(manifest, key, data)
        write_atomically(self._get_chunk_path(manifest, dataset_id, key), data)

    def get_manifest(self, dataset_id: Hash32) -> Manifest | None:
        """The proved manifest, or None where there is none or it is damaged."""
        if dataset_id not in self._manifests:
            try:
                data = (self._get_directory(dataset_id) / "manifest.json").read_bytes()
                self._manifests[dataset_id] = decode_manifest(data, dataset_id)
            except (FileNotFoundError, ConsensusError):
                return None
        return self._manifests[dataset_id]

    def get_spec(self, dataset_id: Hash32) -> DatasetSpec | None:
        """The description, or None where the manifest is missing."""
        manifest = self.get_manifest(dataset_id)
        return None if manifest is None else manifest.spec

    def get_hashes(self, dataset_id: Hash32, split: SplitName) -> tuple[Hash32, ...] | None:
        """The leaf hashes of a split's chunks, or None where the manifest is missing."""
        manifest = self.get_manifest(dataset_id)
        return None if manifest is None else manifest.get_hashes(split)

    def get_info(self, dataset_id: Hash32) -> DatasetInfo | None:
        """Where the dataset came from, or None where it was not imported here."""
        try:
            return decode_info((self._get_directory(dataset_id) / "info.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def read_chunk(self, dataset_id: Hash32, split: SplitName, index: int) -> bytes | None:
        """The proved bytes of a chunk, or None where it is missing, damaged or out of range."""
        manifest = self.get_manifest(dataset_id)
        if manifest is None or not 0 <= index < len(manifest.get_hashes(split)):
            return None
        key = ChunkKey(split, index)
        try:
            data = self._get_chunk_path(manifest, dataset_id, key).read_bytes()
            check_chunk(manifest, key, data)
        except (FileNotFoundError, ConsensusError):
            return None
        return data

    def has(self, dataset_id: Hash32) -> bool:
        """Whether every chunk lies there; their bytes are not read (see list_missing)."""
        manifest = self.get_manifest(dataset_id)
        return manifest is not None and all(
            self._get_chunk_path(manifest, dataset_id, key).is_file() for key in manifest.get_keys()
        )

    def list_missing(self, dataset_id: Hash32) -> list[ChunkKey]:
        """The chunks that are missing or damaged; reads every byte.

        Raises DatasetMissing without a manifest.
        """
        keys = self._require_manifest(dataset_id).get_keys()
        return [key for key in keys if self.read_chunk(dataset_id, key.split, key.index) is None]

    def load(self, dataset_id: Hash32) -> Dataset:
        """The whole dataset, checked. Raises DatasetMissing, RuleViolation(BAD_DATASET), OSError."""
        manifest = self._require_manifest(dataset_id)
        train, eval_ = (self._read_split(manifest, dataset_id, split) for split in SPLITS)
        return decode_dataset(manifest.spec, train, eval_)

    def _read_split(self, manifest: Manifest, dataset_id: Hash32, split: SplitName) -> bytes:
        chunks: list[bytes] = []
        for index in range(len(manifest.get_hashes(split))):
            chunk = self.read_chunk(dataset_id, split, index)
            if chunk is None:
                raise DatasetMissing(f"chunk {index} of {split} of dataset {dataset_id.hex()} is not here")
            chunks.append(chunk)
        return b"".join(chunks)

    def _require_manifest(self, dataset_id: Hash32) -> Manifest:
        manifest = self.get_manifest(dataset_id)
        if manifest is None:
            raise DatasetMissing(f"dataset {dataset_id.hex()} is not in {self.root}")
        return manifest

    def _get_directory(self, dataset_id: Hash32) -> Path:
        return self.root / dataset_id.hex()

    def _get_chunk_path(self, manifest: Manifest, dataset_id: Hash32, key: ChunkKey) -> Path:
        leaf_hash = manifest.get_hashes(key.split)[key.index]
        return self._get_directory(dataset_id) / "chunks" / leaf_hash.hex()


def _is_hash_name(name: str) -> bool:
    return len(name) == 64 and set(name) <= set("0123456789abcdef")


def _remove_stale_parts(directory: Path) -> None:
    # A writer that was killed leaves a part behind. Young ones may belong to a writer at work.
    oldest_seconds = time.time() - _STALE_PART_SECONDS
    for part in directory.rglob("*.part"):
        with suppress(FileNotFoundError):
            if part.stat().st_mtime < oldest_seconds:
                part.unlink()
