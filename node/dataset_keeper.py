"""Getting the chain's dataset, and waking the evaluator once it is here.

Owns when and from whom to fetch; fetching and checking is dataset_server.client's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import httpx

from consensus.encoding import Hash32
from consensus.errors import ConsensusError
from dataset_server.client import FetchProgress, fetch_dataset
from dataset_server.errors import DatasetError
from dataset_server.store import DatasetStore
from node.verification import EvaluatorUnavailable, VerificationPool

LOG = logging.getLogger("freezenet.dataset")
RETRY_SECONDS = 2.0
MAX_RETRY_SECONDS = 60.0


class DatasetKeeper:
    """The one dataset that this node's chain needs."""

    def __init__(
        self,
        store: DatasetStore,
        dataset_id: Hash32,
        list_sources: Callable[[], Sequence[str]],
        pool: VerificationPool | None,
        transport: Callable[[], httpx.AsyncBaseTransport],
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """`pool` is started as soon as the dataset is whole; None where nothing waits for it."""
        self.store = store
        self.dataset_id = dataset_id
        self._list_sources = list_sources
        self._pool = pool
        self._transport = transport
        self._retry_seconds = retry_seconds
        self._is_complete = False

    @property
    def is_complete(self) -> bool:
        """Whether the whole dataset is on disk."""
        return self._is_complete

    async def run(self) -> None:
        """Return once the dataset is whole and the pool runs; until then try again, ever more slowly."""
        delay = self._retry_seconds
        while not await self._try():
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_RETRY_SECONDS)

    async def _try(self) -> bool:
        try:
            await self._complete()
            if self._pool is not None:
                await self._pool.start()
        except (DatasetError, EvaluatorUnavailable, ConsensusError, OSError) as error:
            LOG.warning("blocks cannot be evaluated yet: %s", error)
            return False
        LOG.info("dataset %s is here", self.dataset_id.hex())
        return True

    async def _complete(self) -> None:
        # Every time and not only where files are missing: it compares what is there with its hashes and mends
        # it, and asks nobody where the dataset is whole.
        sources = self._list_sources()
        await fetch_dataset(self.dataset_id, sources, self.store, self._transport(), _log_progress)
        self._is_complete = True


def _log_progress(progress: FetchProgress) -> None:
    LOG.debug("dataset: %d of %d bytes", progress.done_bytes, progress.total_bytes)
