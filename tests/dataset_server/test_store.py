"""The store: complete datasets, partial ones, and damage on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from consensus.dataset import CHUNK_BYTES
from consensus.errors import BadDelivery, Code, RuleViolation
from dataset_server.errors import DatasetMissing
from dataset_server.info import DatasetInfo
from dataset_server.manifest import ChunkKey, build_manifest
from dataset_server.store import DatasetStore
from tests.dataset_server.samples import build_bad_labels, build_dataset, fill_store, get_chunk_path

DATASET = build_dataset()
DATASET_ID = DATASET.spec.dataset_id
MANIFEST = build_manifest(DATASET)
LAST = ChunkKey("train", 2)


def test_loads_what_was_put(tmp_path: Path) -> None:
    assert fill_store(tmp_path).has(DATASET_ID)
    store = DatasetStore(tmp_path)
    assert store.list_ids() == [DATASET_ID]
    assert store.get_spec(DATASET_ID) == DATASET.spec
    assert store.get_hashes(DATASET_ID, "train") == MANIFEST.train
    assert store.read_chunk(DATASET_ID, "train", 1) == DATASET.train[CHUNK_BYTES : 2 * CHUNK_BYTES]
    assert store.list_missing(DATASET_ID) == []
    assert store.load(DATASET_ID).spec == DATASET.spec


def test_keeps_where_a_dataset_came_from(tmp_path: Path) -> None:
    info = DatasetInfo("photographs", ("cat", "dög"), "decoder 1")
    store = DatasetStore(tmp_path)
    store.put(DATASET.spec, DATASET.train, DATASET.eval, info)
    assert store.get_info(DATASET_ID) == info


@pytest.mark.parametrize("data", [b"", b"[]", b'{"source": 1}', b'{"class_names": 5}', b"\xff"])
def test_a_damaged_info_is_none(tmp_path: Path, data: bytes) -> None:
    store = fill_store(tmp_path)
    assert store.get_info(DATASET_ID) is None
    (tmp_path / DATASET_ID.hex() / "info.json").write_bytes(data)
    assert store.get_info(DATASET_ID) is None


def test_knows_nothing_of_another_dataset(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path / "not-there")
    assert store.list_ids() == []
    assert not store.has(DATASET_ID)
    assert store.get_spec(DATASET_ID) is None
    assert store.get_hashes(DATASET_ID, "eval") is None
    assert store.read_chunk(DATASET_ID, "eval", 0) is None
    with pytest.raises(DatasetMissing):
        store.load(DATASET_ID)
    with pytest.raises(DatasetMissing):
        store.put_chunk(DATASET_ID, LAST, b"")


def test_a_dataset_grows_chunk_by_chunk(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    store.put_manifest(DATASET_ID, MANIFEST)
    store.put_chunk(DATASET_ID, LAST, DATASET.train[2 * CHUNK_BYTES :])
    assert not store.has(DATASET_ID)
    assert LAST not in store.list_missing(DATASET_ID)
    with pytest.raises(DatasetMissing, match="chunk 0 of train"):
        store.load(DATASET_ID)


@pytest.mark.parametrize("index", [-1, 3])
def test_has_no_chunk_out_of_range(tmp_path: Path, index: int) -> None:
    assert fill_store(tmp_path).read_chunk(DATASET_ID, "train", index) is None


def test_rejects_a_wrong_chunk(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    store.put_manifest(DATASET_ID, MANIFEST)
    with pytest.raises(BadDelivery) as refusal:
        store.put_chunk(DATASET_ID, LAST, DATASET.train[:CHUNK_BYTES])
    assert refusal.value.code is Code.WRONG_CHUNK
    assert list((tmp_path / DATASET_ID.hex() / "chunks").iterdir()) == []


def test_rejects_a_manifest_of_another_dataset(tmp_path: Path) -> None:
    with pytest.raises(BadDelivery) as refusal:
        DatasetStore(tmp_path).put_manifest(bytes(32), MANIFEST)
    assert refusal.value.code is Code.WRONG_CHUNK


def test_rejects_labels_out_of_range(tmp_path: Path) -> None:
    bad = build_bad_labels()
    with pytest.raises(RuleViolation) as refusal:
        DatasetStore(tmp_path).put(bad.spec, bad.train, bad.eval)
    assert refusal.value.code is Code.BAD_DATASET
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"x", bytes(DATASET.spec.get_split_bytes("train") % CHUNK_BYTES)])
def test_a_damaged_chunk_is_missing(tmp_path: Path, damage: bytes) -> None:
    store = fill_store(tmp_path)
    get_chunk_path(tmp_path, DATASET_ID, LAST).write_bytes(damage)
    assert store.read_chunk(DATASET_ID, LAST.split, LAST.index) is None
    assert store.list_missing(DATASET_ID) == [LAST]
    with pytest.raises(DatasetMissing):
        store.load(DATASET_ID)


def test_a_damaged_manifest_is_missing(tmp_path: Path) -> None:
    fill_store(tmp_path)
    (tmp_path / DATASET_ID.hex() / "manifest.json").write_bytes(b"{}")
    assert not DatasetStore(tmp_path).has(DATASET_ID)
    assert fill_store(tmp_path).has(DATASET_ID)


def test_passes_over_what_is_no_dataset(tmp_path: Path) -> None:
    for name in ("notes", "Z" * 64):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    assert DatasetStore(tmp_path).list_ids() == []


def test_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    chunks = tmp_path / DATASET_ID.hex() / "chunks"
    chunks.mkdir(parents=True)
    for name, time_seconds in (("old.part", 1.0), ("new.part", 2.0**33)):
        (chunks / name).touch()
        os.utime(chunks / name, (time_seconds, time_seconds))
    DatasetStore(tmp_path).put_manifest(DATASET_ID, MANIFEST)
    assert [path.name for path in chunks.iterdir()] == ["new.part"]
