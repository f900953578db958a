"""The verifying client: brings a dataset from sources that may lie, stall, vanish or hold only a part of it.

Nothing is believed but what hashes to the wanted id: the manifest first, then each chunk, which lands in the
store at once, so that an interrupted fetch goes on where it stopped. How a source is asked and barred is
dataset_server.source's; coming back later, when none is left, is the caller's decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from consensus.encoding import Hash32
from dataset_server.errors import DatasetUnavailable
from dataset_server.manifest import ChunkKey, Manifest
from dataset_server.source import Source, open_http
from dataset_server.store import DatasetStore

REQUESTS_PER_SOURCE = 2


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How much of a dataset is in the store."""

    done_bytes: int
    total_bytes: int


async def fetch_dataset(
    dataset_id: Hash32,
    sources: Sequence[str],
    store: DatasetStore,
    transport: httpx.AsyncBaseTransport | None = None,
    on_progress: Callable[[FetchProgress], None] | None = None,
) -> None:
    """Complete `dataset_id` in `store` from the base URLs in `sources`, asking all of them at once.

    What lies in the store already is compared with its hashes first, so this also mends. Returns once the
    whole dataset was read back. Raises DatasetUnavailable when no source is left, RuleViolation(BAD_DATASET)
    where the id stands for a dataset that breaks protocol §1, and OSError of the store.
    """
    async with open_http(transport) as http:
        fetch = _Fetch(dataset_id, [Source(url, http) for url in sources], store, on_progress)
        await fetch.run()
    # Labels are what no hash speaks of.
    await asyncio.to_thread(store.load, dataset_id)


class _Fetch:
    """One call of fetch_dataset."""

    def __init__(
        self,
        dataset_id: Hash32,
        sources: list[Source],
        store: DatasetStore,
        on_progress: Callable[[FetchProgress], None] | None,
    ) -> None:
        self._dataset_id = dataset_id
        self._sources = sources
        self._store = store
        self._on_progress = on_progress
        self._done_bytes = 0

    async def run(self) -> None:
        manifest = await asyncio.to_thread(self._store.get_manifest, self._dataset_id)
        if manifest is None:
            manifest = await self._get_manifest()
            await asyncio.to_thread(self._store.put_manifest, self._dataset_id, manifest)
        missing = await asyncio.to_thread(self._store.list_missing, self._dataset_id)
        missing_bytes = sum(manifest.get_chunk_bytes(key) for key in missing)
        self._advance(manifest, manifest.total_bytes - missing_bytes)
        while missing:
            missing = await self._run_round(manifest, missing)

    async def _get_manifest(self) -> Manifest:
        while True:
            for source in self._list_open_sources():
                manifest = await source.get_manifest(self._dataset_id)
                if manifest is not None:
                    return manifest

    async def _run_round(self, manifest: Manifest, missing: list[ChunkKey]) -> list[ChunkKey]:
        """Let every source take chunks until it fails or none are left; returns what is still missing."""
        queue, failed = missing[::-1], list[ChunkKey]()
        try:
            async with asyncio.TaskGroup() as group:
                for source in self._list_open_sources():
                    for _ in range(REQUESTS_PER_SOURCE):
                        group.create_task(self._work(source, manifest, queue, failed))
        except ExceptionGroup as errors:
            # Sources cannot raise: it is the store, most likely a full disk, and one line says it.
            raise errors.exceptions[0] from None
        # What was not tried comes first: a source that lacks one chunk may have the others.
        return queue[::-1] + failed

    async def _work(
        self, source: Source, manifest: Manifest, queue: list[ChunkKey], failed: list[ChunkKey]
    ) -> None:
        while queue and not source.is_barred:
            key = queue.pop()
            data = await source.get_chunk(self._dataset_id, manifest, key)
            if data is None:
                failed.append(key)
                return
            await asyncio.to_thread(self._store.put_chunk, self._dataset_id, key, data)
            self._advance(manifest, len(data))

    def _list_open_sources(self) -> list[Source]:
        open_sources = [source for source in self._sources if not source.is_barred]
        if not open_sources:
            reasons = "; ".join(str(source) for source in self._sources) or "none is known"
            raise DatasetUnavailable(f"no source has dataset {self._dataset_id.hex()}: {reasons}")
        return open_sources

    def _advance(self, manifest: Manifest, done_bytes: int) -> None:
        self._done_bytes += done_bytes
        if self._on_progress:
            self._on_progress(FetchProgress(self._done_bytes, manifest.total_bytes))
