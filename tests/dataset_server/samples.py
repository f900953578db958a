"""A dataset of several chunks, small enough to move in a test."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import cache
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt

from consensus.dataset import describe_dataset, encode_split
from consensus.encoding import Hash32
from dataset_server.app import build_app
from dataset_server.cifar10 import EVAL_FILES, TRAIN_FILES
from dataset_server.manifest import ChunkKey, EncodedDataset
from dataset_server.store import DatasetStore

TRAIN_RECORDS = 40_000
EVAL_RECORDS = 1_000


@cache
def build_dataset() -> EncodedDataset:
    """Noise: 1×8×8, 4 classes, three train chunks and one of eval."""
    random = np.random.default_rng(1)
    train, eval_ = (
        encode_split(
            random.integers(0, 4, count, dtype=np.uint8),
            random.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8),
        )
        for count in (TRAIN_RECORDS, EVAL_RECORDS)
    )
    return EncodedDataset(describe_dataset(4, (1, 8, 8), train, eval_), train, eval_)


def build_bad_labels() -> EncodedDataset:
    """Hashes are right, one label is not."""
    train, eval_ = bytes([0, 9, 1, 9, 2, 9]), bytes([1, 9])
    return EncodedDataset(describe_dataset(2, (1, 1, 1), train, eval_), train, eval_)


def fill_store(root: Path) -> DatasetStore:
    """A store that holds the whole dataset."""
    dataset = build_dataset()
    store = DatasetStore(root)
    store.put(dataset.spec, dataset.train, dataset.eval)
    return store


def get_chunk_path(root: Path, dataset_id: Hash32, key: ChunkKey) -> Path:
    """Where a store below `root` keeps a chunk."""
    hashes = DatasetStore(root).get_hashes(dataset_id, key.split)
    assert hashes is not None
    return root / dataset_id.hex() / "chunks" / hashes[key.index].hex()


def build_pattern(records: int, record_bytes: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """uint8[n] labels of ten classes and uint8[n, bytes] pixels, the same bytes everywhere."""
    labels = (np.arange(records) % 10).astype(np.uint8)
    pixels = (np.arange(records * record_bytes, dtype=np.int64) * 7_919 % 251).astype(np.uint8)
    return labels, pixels.reshape(records, record_bytes)


def write_fashion_mnist(directory: Path, train_records: int, eval_records: int) -> None:
    """The four idx files with a pattern in place of clothes; those of the eval split gzipped."""
    directory.mkdir(parents=True, exist_ok=True)
    for prefix, records, suffix in (("train", train_records, ""), ("t10k", eval_records, ".gz")):
        labels, pixels = build_pattern(records, 28 * 28)
        count = records.to_bytes(4, "big")
        files = {
            f"{prefix}-labels-idx1-ubyte": bytes([0, 0, 8, 1]) + count + labels.tobytes(),
            f"{prefix}-images-idx3-ubyte": bytes([0, 0, 8, 3])
            + count
            + bytes([0, 0, 0, 28] * 2)
            + pixels.tobytes(),
        }
        for name, data in files.items():
            (directory / f"{name}{suffix}").write_bytes(gzip.compress(data, 1) if suffix else data)


def write_cifar10(directory: Path, file_records: int) -> None:
    """The six binary files with a pattern in place of pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    data = encode_split(*build_pattern(file_records, 3_072))
    for name in (*TRAIN_FILES, *EVAL_FILES):
        (directory / name).write_bytes(data)


Answer = Callable[[httpx.Request], httpx.Response]


class Sources(httpx.AsyncBaseTransport):
    """Sources by host name: what a host answers, and how often it was asked."""

    def __init__(self, **answers: httpx.AsyncBaseTransport | Answer) -> None:
        self._transports = {
            host: answer if isinstance(answer, httpx.AsyncBaseTransport) else httpx.MockTransport(answer)
            for host, answer in answers.items()
        }
        self.urls = [f"http://{host}" for host in answers]
        self.paths: dict[str, list[str]] = {host: [] for host in answers}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.paths[request.url.host].append(request.url.path)
        return await self._transports[request.url.host].handle_async_request(request)


def serve(store: DatasetStore) -> httpx.ASGITransport:
    """An honest source."""
    return httpx.ASGITransport(build_app(store))
