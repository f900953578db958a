"""Blocks handed in over REST: judged while the client waits, or in the background with a status to ask for.

Owns what is remembered of background verdicts. Judging is node.importing's.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

from chain.errors import StoreError
from chain.records import Commit
from consensus.block import HEADER_BYTES, decode_header
from consensus.encoding import Hash32
from consensus.errors import ConsensusError
from node.allowance import ClientAllowance
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


_Delivery = tuple[Hash32, bytes]
"""A block's id and the digest of its bytes: another witness of the same id is another delivery."""


class SubmissionDesk:
    """Background submissions, on the event loop; the oldest verdicts are forgotten, none that is to come."""

    def __init__(
        self, importer: BlockImporter, metrics: Metrics, on_fatal: Callable[[BaseException], None]
    ) -> None:
        self._importer = importer
        self._metrics = metrics
        self._on_fatal = on_fatal
        self._allowance = ClientAllowance()
        self._records: OrderedDict[Hash32, SubmissionRecord] = OrderedDict()
        self._tasks: dict[_Delivery, asyncio.Task[None]] = {}

    async def judge(self, raw: bytes, source: Source, *, dry_run: bool = False) -> Commit | None:
        """The verdict on a block, waited for; None after a dry run, which stores nothing.

        Raises ConsensusError, EvaluatorUnavailable, AllowanceSpent, StoreError.
        """
        with self._allowance.hold(source.name):
            return await self._judge(raw, source, dry_run)

    def accept(self, raw: bytes, source: Source) -> SubmissionRecord:
        """Judge a block in the background; bytes that are being judged already are not taken again.

        Raises BadDelivery(UNDECODABLE) where not even a header can be read, TooManySubmissions,
        AllowanceSpent.
        """
        header = decode_header(raw[:HEADER_BYTES])
        delivery = (header.block_id, hashlib.sha256(raw).digest())
        if delivery in self._tasks:
            return self._records[header.block_id]
        if len(self._tasks) >= MAX_PENDING:
            raise TooManySubmissions
        held = ExitStack()
        held.enter_context(self._allowance.hold(source.name))
        record = SubmissionRecord(header.block_id, header.height, "pending")
        self._remember(record)
        self._tasks[delivery] = asyncio.create_task(self._settle(delivery, record, raw, source, held))
        return self._records[header.block_id]

    @property
    def pending_count(self) -> int:
        """Blocks that are being judged in the background."""
        return len(self._tasks)

    def get(self, block_id: Hash32) -> SubmissionRecord | None:
        """What became of a block; None where it was never handed in or is forgotten."""
        return self._records.get(block_id)

    async def stop(self) -> None:
        """End what is still being judged."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _judge(self, raw: bytes, source: Source, dry_run: bool = False) -> Commit | None:
        try:
            return await self._importer.submit(raw, source, dry_run=dry_run)
        except ConsensusError as error:
            self._metrics.count_rejection(error)
            raise

    async def _settle(
        self, delivery: _Delivery, record: SubmissionRecord, raw: bytes, source: Source, held: ExitStack
    ) -> None:
        try:
            verdict = await self._compute_verdict(record, raw, source, held)
        finally:
            del self._tasks[delivery]
        is_last = all(block_id != record.block_id for block_id, _ in self._tasks)
        # While another delivery of the id is judged, a false one settles nothing.
        if verdict.status != "refused" or is_last:
            self._remember(verdict)

    async def _compute_verdict(
        self, record: SubmissionRecord, raw: bytes, source: Source, held: ExitStack
    ) -> SubmissionRecord:
        try:
            with held:
                commit = await self._judge(raw, source)
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
        known = self._records.get(record.block_id)
        if known is not None and known.status in ("active", "side"):
            # It is in the chain, whatever else comes under its id.
            return
        self._records[record.block_id] = record
        self._records.move_to_end(record.block_id)
        while len(self._records) > MAX_REMEMBERED:
            judged = {block_id for block_id, _ in self._tasks}
            del self._records[next(block_id for block_id in self._records if block_id not in judged)]
