"""Work for miners: what the next block may hold, and the ids that tell old work from dead work.

Owns templates and the long-poll. What becomes of a found block is submissions'.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from chain.chain import Chain
from chain.mempool import Mempool
from chain.records import BlockRecord
from chain.store import Store
from consensus.block import HEADER_VERSION, Header
from consensus.difficulty import compute_difficulty, compute_earliest_timestamp, get_required_rung
from consensus.encoding import ZERO_HASH, Hash32
from consensus.params import ChainSpec
from consensus.task import Rung
from consensus.transaction import SignedTransfer, compute_transactions_root
from node.events import EventBus

REFRESH_SECONDS = 3.0
"""New transactions make new work at most this often."""
_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Work:
    """What a template is made of, but for the miner and the time."""

    parent: BlockRecord
    """The tip it builds on."""
    grandparent_timestamp: int | None
    """u64, Unix seconds; None where the parent is genesis."""
    transfers: tuple[SignedTransfer, ...]
    """Valid in this order after the parent."""
    transactions_root: Hash32
    """Their root."""

    @property
    def work_id(self) -> str:
        """Names the tip and the transfers, so that it means the same after a restart."""
        return _format_parent(self.parent.block_id) + self.transactions_root[:_ID_BYTES].hex()

    def is_newer_tip(self, work_id: str) -> bool:
        """Whether work of that id builds on another block than this one, and so can no longer win."""
        return is_stale(work_id, self.parent.block_id)


@dataclass(frozen=True, slots=True)
class Template:
    """A header to mine, complete but for the nonce, which is 0."""

    work: Work
    """Where it comes from."""
    header: Header
    """Its timestamp and difficulty belong together: a miner changes the nonce alone."""
    rung: Rung
    """What a witness must meet at this timestamp."""


def build_template(spec: ChainSpec, work: Work, miner: bytes, now_seconds: int) -> Template:
    """The template for a key[32] at a time: the timestamp is now, or the earliest that the chain allows."""
    parent = work.parent.header
    header = Header(
        version=HEADER_VERSION,
        height=parent.height + 1,
        parent=work.parent.block_id,
        parent_witness=work.parent.witness_id or ZERO_HASH,
        timestamp=max(now_seconds, compute_earliest_timestamp(spec.params, parent.timestamp)),
        transactions_root=work.transactions_root,
        miner=miner,
        difficulty=compute_difficulty(spec.params, parent, work.grandparent_timestamp),
        task_id=spec.task_id,
        nonce=0,
    )
    return Template(work, header, get_required_rung(spec.params, header, parent.timestamp))


def is_stale(work_id: str, tip_id: Hash32) -> bool:
    """Whether work of that id builds on another block than the tip."""
    return not work_id.startswith(_format_parent(tip_id))


class WorkSource:
    """The newest work, shared by all who ask; blocks while it reads, so it runs on threads."""

    def __init__(
        self, store: Store, chain: Chain, mempool: Mempool, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._chain = chain
        self._mempool = mempool
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._work: Work | None = None
        self._selected_at = 0.0

    def get_work(self) -> Work:
        """The work on the present tip; its transfers are at most REFRESH_SECONDS old. Raises StoreError."""
        with self._lock:
            now = self._monotonic()
            is_due = now - self._selected_at >= REFRESH_SECONDS
            if self._work is None or is_due or self._work.parent.block_id != self._chain.tip.block_id:
                self._work, self._selected_at = self._select(), now
            return self._work

    def is_tip_changed(self, work_id: str) -> bool:
        """Whether the tip moved away from that work; reads memory alone."""
        return is_stale(work_id, self._chain.tip.block_id)

    def _select(self) -> Work:
        with self._store.read() as view:
            tip = view.get_tip()
            grandparent = view.get_block(tip.header.parent)
            transfers = self._mempool.select(self._store.spec.params.max_transactions, view)
        timestamp = None if grandparent is None else grandparent.header.timestamp
        return Work(tip, timestamp, transfers, compute_transactions_root(transfers))


async def wait_for_work(
    source: WorkSource, events: EventBus, work_id: str | None, timeout_seconds: float
) -> Work:
    """Newer work than that of `work_id` as soon as there is some, or the present one when the time is over.

    Without a `work_id` it is the present one. Returns early where the node stops.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        serial = events.serial
        work = await asyncio.to_thread(source.get_work)
        if work_id is None or work.work_id != work_id or time.monotonic() >= deadline or events.is_closed:
            return work
        await _wait_for_change(source, events, work_id, serial, deadline)


async def _wait_for_change(
    source: WorkSource, events: EventBus, work_id: str, serial: int, deadline: float
) -> None:
    """Return when the tip moved, or when it is time to look for new transactions."""
    end = min(deadline, time.monotonic() + REFRESH_SECONDS)
    while not source.is_tip_changed(work_id) and not events.is_closed:
        left = end - time.monotonic()
        if left <= 0:
            return
        await events.wait(serial, left)
        serial = events.serial


def _format_parent(block_id: Hash32) -> str:
    return block_id[:_ID_BYTES].hex()
