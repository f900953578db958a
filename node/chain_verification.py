"""Verifying a whole chain anew: every block is replayed into an empty store and its witness evaluated.

Owns where the blocks and the dataset come from. The rules are chain's and consensus', the evaluation is the
verifier's that the caller gives.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chain.chain import Chain
from chain.records import BlockRecord
from chain.signatures import verify_signature
from chain.spec_file import read_chain_spec
from chain.store import Store, open_store
from consensus.dataset import Dataset
from consensus.params import ChainSpec
from consensus.rules import WorkVerifier
from dataset_server.client import fetch_dataset
from dataset_server.store import DatasetStore
from node.api_client import ApiClient
from node.settings import NodeSettings


class PrunedBlock(Exception):
    """A block cannot be evaluated again: its witness is not kept there."""


@dataclass(frozen=True, slots=True)
class SourceTip:
    """Up to where a source says its chain goes."""

    height: int
    block_id: str


class BlockSource(Protocol):
    """Where a chain is read from."""

    spec: ChainSpec

    def get_tip(self) -> SourceTip:
        """The tip of the active chain."""

    def get_raw(self, height: int) -> bytes:
        """The canonical bytes of an active block. Raises PrunedBlock."""

    def load_dataset(self) -> Dataset:
        """The chain's dataset, checked."""


class NodeSource:
    """A running node, over REST."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.spec = client.fetch_spec()

    def get_tip(self) -> SourceTip:
        """The node's tip."""
        answer = self._client.get("/v1/chain")
        return SourceTip(int(answer["height"]), str(answer["tip"]))

    def get_raw(self, height: int) -> bytes:
        """The block as the node serves it; a pruned one is the node's problem `witness-pruned`."""
        return self._client.get_bytes(f"/v1/blocks/{height}/raw")

    def load_dataset(self) -> Dataset:
        """Fetched from the node, kept nowhere."""
        dataset_id = self.spec.task.dataset_id
        with tempfile.TemporaryDirectory(prefix="freezenet-verify-") as directory:
            store = DatasetStore(Path(directory))
            asyncio.run(fetch_dataset(dataset_id, [self._client.url], store))
            return store.load(dataset_id)


class DirectorySource:
    """The data directory of a node that does not run."""

    def __init__(self, settings: NodeSettings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self.spec = store.spec

    def get_tip(self) -> SourceTip:
        """The stored tip."""
        with self._store.read() as view:
            tip = view.get_tip()
        return SourceTip(tip.height, tip.block_id.hex())

    def get_raw(self, height: int) -> bytes:
        """The stored block."""
        with self._store.read() as view:
            record = view.get_active_block(height)
            raw = None if record is None else view.get_raw_block(record.block_id)
        if raw is None:
            raise PrunedBlock(f"the witness of block {height} is not kept")
        return raw

    def load_dataset(self) -> Dataset:
        """From the directory's own store."""
        return DatasetStore(self._settings.datasets_path).load(self.spec.task.dataset_id)


@contextmanager
def open_directory(settings: NodeSettings) -> Iterator[DirectorySource]:
    """The source in a data directory. Raises StoreError, also where a node runs in it."""
    store = open_store(settings.database_path, read_chain_spec(settings.chain_path))
    try:
        yield DirectorySource(settings, store)
    finally:
        store.close()


def verify_chain(source: BlockSource, verifier: WorkVerifier, now_seconds: int) -> Iterator[BlockRecord]:
    """Every block above genesis as soon as it is verified, lowest first, up to the source's tip.

    Raises ConsensusError for the first block that breaks a rule, PrunedBlock.
    """
    tip = source.get_tip()
    with _open_empty_store(source.spec) as store:
        chain = Chain(store, source.spec, verify_signature)
        for height in range(1, tip.height + 1):
            candidate = chain.pre_verify(source.get_raw(height), now_seconds)
            witness = candidate.block.witness
            assert witness is not None
            verifier.check(source.spec.task, candidate.rung, candidate.block.header, witness)
            yield chain.commit(candidate).record


@contextmanager
def _open_empty_store(spec: ChainSpec) -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix="freezenet-verify-") as directory:
        store = open_store(Path(directory) / "chain.sqlite3", spec)
        try:
            yield store
        finally:
            store.close()
