"""Blocks handed in over REST: judged while the client waits, or in the background with a status to ask for.

Owns what is remembered of background verdicts. Judging is node.importing's.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from chain.errors import StoreError
from chain.records import Commit
from consensus.block import HEADER_BYTES, decode_header
from consensus.encoding import Hash32
from consensus.errors import ConsensusError
from node.importing import BlockImporter, Source
from node.metrics import Metrics
from node.verification import EvaluatorUnavailable

MAX_PENDING = 16
MAX_REMEMBERED = 256


class TooManySubmissions(Exception):
    """As many blocks wait for their verdict as the node keeps in memory."""


@dataclass(frozen=True, slots=True)
class SubmissionRecord:
    """A block whose verdict was not waited for."""

    block_id: Hash32
    height: int
    status: Literal["pending", "active", "side", "refused"]
    code: str | None = None
    detail: str | None = None


class SubmissionDesk:
    """Background submissions, on the event loop; the oldest verdicts are forgotten."""

    def __init__(
        self, importer: BlockImporter, metrics: Metrics, on_fatal: Callable[[BaseException], None]
    ) -> None:
        self._importer = importer
        self._metrics = metrics
        self._on_fatal = on_fatal
        self._records: OrderedDict[Hash32, SubmissionRecord] = OrderedDict()
        self._tasks: dict[Hash32, asyncio.Task[None]] = {}

    async def judge(self, raw: bytes, source: Source, *, dry_run: bool = False) -> Commit | None:
        """The verdict on a block, waited for; None after a dry run, which stores nothing.

        Raises ConsensusError, EvaluatorUnavailable, StoreError.
        """
        try:
            return await self._importer.submit(raw, source, dry_run=dry_run)
        except ConsensusError as error:
            self._metrics.count_rejection(error)
            raise

    def accept(self, raw: bytes, source: Source) -> SubmissionRecord:
        """Judge a block in the background; an id that is being judged already is not taken again.

        Raises BadDelivery(UNDECODABLE) where not even a header can be read, TooManySubmissions.
        """
        header = decode_header(raw[:HEADER_BYTES])
        block_id = header.block_id
        if block_id in self._tasks:
            return self._records[block_id]
        if len(self._tasks) >= MAX_PENDING:
            raise TooManySubmissions
        record = SubmissionRecord(block_id, header.height, "pending")
        self._remember(record)
        self._tasks[block_id] = asyncio.create_task(self._judge_and_remember(record, raw, source))
        return record

    def get(self, block_id: Hash32) -> SubmissionRecord | None:
        """What became of a block; None where it was never handed in or is forgotten."""
        return self._records.get(block_id)

    async def stop(self) -> None:
        """End what is still being judged."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _judge_and_remember(self, record: SubmissionRecord, raw: bytes, source: Source) -> None:
        try:
            verdict = await self._compute_verdict(record, raw, source)
            self._remember(verdict)
        finally:
            del self._tasks[record.block_id]

    async def _compute_verdict(
        self, record: SubmissionRecord, raw: bytes, source: Source
    ) -> SubmissionRecord:
        try:
            commit = await self.judge(raw, source)
        except ConsensusError as error:
            detail = error.detail or error.code.when
            return replace(record, status="refused", code=str(error.code), detail=detail)
        except EvaluatorUnavailable as error:
            return replace(record, status="refused", code="cannot-evaluate", detail=str(error))
        except StoreError as error:
            self._on_fatal(error)
            return replace(record, status="refused", code="storage-failed", detail="the database failed")
        assert commit is not None
        return replace(record, status=commit.status)

    def _remember(self, record: SubmissionRecord) -> None:
        self._records[record.block_id] = record
        self._records.move_to_end(record.block_id)
        while len(self._records) > MAX_REMEMBERED:
            self._records.popitem(last=False)
