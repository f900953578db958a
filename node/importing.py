"""How a delivered block joins the chain: pre-verify, evaluate, parent witness, commit (protocol §10).

Owns the order of deliveries of one id and who waits for whom. The rules and the store are chain's, evaluation
is the evaluator's, and what a refusal means for the sender is the caller's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, overload

from prometheus_client import CollectorRegistry, Counter

from chain.chain import Chain
from chain.mempool import Mempool
from chain.records import BlockRecord, Candidate, Commit
from consensus.block import Witness
from consensus.encoding import Hash32
from consensus.errors import BadDelivery, Code, NotYet, RuleViolation
from consensus.params import ChainSpec
from consensus.rules import check_claims
from node.clock import Clock
from node.verification import Evaluator, EvaluatorUnavailable

LOG = logging.getLogger("freezenet.importing")
MAX_DELIVERIES = 64
"""Deliveries in hand at once; what comes on top is put off."""
MAX_PROVED = 256
"""Witnesses remembered as good although their block is not committed yet."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who delivered a block."""

    kind: Literal["peer", "client"]
    """A peer it was fetched from, or a client that submitted it."""
    name: str
    """The peer's URL, or whatever tells one client from another."""


FindWitness = Callable[[Hash32, Hash32, Source], Awaitable[Witness | None]]
"""(block id, witness id, who delivered the child) → the witness of that id, or None where nobody has it."""
OnCommit = Callable[[Commit], None]
"""Told every commit in order, on the event loop."""


@dataclass(slots=True)
class _Turn:
    """Deliveries of one id: one is judged, the others wait, one per source."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: set[Source] = field(default_factory=set)

    async def join(self, source: Source) -> None:
        """Wait for the lock."""
        self.waiting.add(source)
        try:
            await self.lock.acquire()
        finally:
            self.waiting.discard(source)


class BlockImporter:
    """The one way of a block into the chain, for peers and clients alike."""

    def __init__(
        self,
        spec: ChainSpec,
        chain: Chain,
        mempool: Mempool,
        evaluator: Evaluator,
        clock: Clock,
        on_commit: OnCommit,
        find_witness: FindWitness,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._spec = spec
        self._chain = chain
        self._mempool = mempool
        self._evaluator = evaluator
        self._clock = clock
        self._on_commit = on_commit
        self._find_witness = find_witness
        self._turns: dict[Hash32, _Turn] = {}
        self._deliveries = 0
        self._proved: OrderedDict[tuple[Hash32, Hash32], None] = OrderedDict()
        self._commit_lock = asyncio.Lock()
        self._commits: set[asyncio.Task[Commit]] = set()
        self._evaluated = 0
        self._twins_evaluated = 0
        registry = registry if registry is not None else CollectorRegistry()
        self._evaluated_counter = Counter(
            "freezenet_blocks_evaluated", "Blocks whose witness was evaluated here", registry=registry
        )
        self._twins_counter = Counter(
            "freezenet_twins_evaluated",
            "Further witnesses of known blocks, evaluated because a child commits to them",
            registry=registry,
        )

    @property
    def is_ready(self) -> bool:
        """Whether blocks can be judged now."""
        return self._evaluator.is_ready

    @property
    def evaluated(self) -> int:
        """Blocks whose witness was evaluated here, whatever came out."""
        return self._evaluated

    @property
    def twins_evaluated(self) -> int:
        """Further witnesses of known blocks that were evaluated here."""
        return self._twins_evaluated

    @overload
    async def submit(
        self,
        raw: bytes,
        source: Source,
        *,
        claimed_chain_work: int | None = None,
        dry_run: Literal[False] = False,
    ) -> Commit: ...

    @overload
    async def submit(
        self, raw: bytes, source: Source, *, claimed_chain_work: int | None = None, dry_run: bool
    ) -> Commit | None: ...

    async def submit(
        self,
        raw: bytes,
        source: Source,
        *,
        claimed_chain_work: int | None = None,
        dry_run: bool = False,
    ) -> Commit | None:
        """Judge a delivered block and commit it; with `dry_run` store nothing and return None.

        `claimed_chain_work` is that of the heaviest header known to descend from it. Raises ConsensusError,
        EvaluatorUnavailable, StoreError.
        """
        if not self.is_ready:
            raise EvaluatorUnavailable("this node cannot evaluate blocks yet")
        candidate = await self._pre_verify(raw, claimed_chain_work)
        async with self._take_turn(candidate.block_id, source) as had_to_wait:
            if had_to_wait or await self._is_settled(candidate.block_id):
                # Another delivery of this id was judged meanwhile; it may have settled the matter.
                candidate = await self._pre_verify(raw, claimed_chain_work)
            await self._evaluate(candidate)
            parent_witness = await self._prove_parent_witness(candidate, source)
            if dry_run:
                await asyncio.to_thread(self._chain.check_commit, candidate, parent_witness)
                return None
            return await self._commit(candidate, parent_witness)

    async def drain(self) -> None:
        """Return when no commit is under way: before the store is closed."""
        await asyncio.gather(*self._commits, return_exceptions=True)

    async def _is_settled(self, block_id: Hash32) -> bool:
        """Whether the id found its verdict; also while this very delivery was on its way to its turn."""
        known = await asyncio.to_thread(self._chain.is_known, block_id)
        return known or self._chain.is_condemned(block_id)

    async def _pre_verify(self, raw: bytes, claimed_chain_work: int | None) -> Candidate:
        now_seconds = int(self._clock())
        return await asyncio.to_thread(self._chain.pre_verify, raw, now_seconds, claimed_chain_work)

    @asynccontextmanager
    async def _take_turn(self, block_id: Hash32, source: Source) -> AsyncIterator[bool]:
        """Wait until no other delivery of the id is judged; yields whether that took any waiting."""
        if self._deliveries >= MAX_DELIVERIES:
            raise NotYet(Code.PUT_OFF, "too many deliveries wait to be judged")
        turn = self._turns.setdefault(block_id, _Turn())
        if source in turn.waiting:
            raise NotYet(Code.PUT_OFF, "another delivery of this block by the same sender waits")
        self._deliveries += 1
        had_to_wait = turn.lock.locked()
        try:
            await turn.join(source)
            try:
                yield had_to_wait
            finally:
                turn.lock.release()
        finally:
            self._deliveries -= 1
            if not turn.lock.locked() and not turn.waiting:
                self._turns.pop(block_id, None)

    async def _evaluate(self, candidate: Candidate) -> None:
        """The block's own witness. A proof is remembered until the commit: a block may have to come again."""
        header, witness = candidate.block.header, candidate.block.witness
        assert witness is not None
        key = (candidate.block_id, witness.witness_id)
        if key in self._proved:
            return
        self._evaluated += 1
        self._evaluated_counter.inc()
        await self._evaluator.check(self._spec.task, candidate.rung, header, witness)
        self._proved[key] = None
        while len(self._proved) > MAX_PROVED:
            self._proved.popitem(last=False)

    async def _prove_parent_witness(self, candidate: Candidate, source: Source) -> Witness | None:
        """The witness of the parent that the block commits to, evaluated; None where it was before."""
        needed = candidate.needs_witness
        if needed is None:
            return None
        witness = await self._find_witness(candidate.parent.block_id, needed, source)
        if witness is None:
            raise NotYet(Code.MISSING_PARENT_WITNESS, needed.hex())
        try:
            await self._check_twin(candidate.parent, witness)
        except BadDelivery as error:
            # The commitment is part of the header, so no other delivery of this id can be better.
            self._chain.condemn(candidate.block_id, Code.WRONG_PARENT_WITNESS)
            raise RuleViolation(Code.WRONG_PARENT_WITNESS, f"{needed.hex()}: {error}") from error
        return witness

    async def _check_twin(self, parent: BlockRecord, witness: Witness) -> None:
        rung = self._spec.task.get_rung(parent.work)
        check_claims(self._spec.dataset, rung, witness)
        self._twins_evaluated += 1
        self._twins_counter.inc()
        LOG.info("evaluating another witness of block %s", parent.block_id.hex())
        await self._evaluator.check(self._spec.task, rung, parent.header, witness)

    async def _commit(self, candidate: Candidate, parent_witness: Witness | None) -> Commit:
        # A commit that began is seen through, whoever asked for it: a cancelled wait must not leave the
        # mempool and the listeners behind the chain.
        task = asyncio.create_task(self._commit_in_order(candidate, parent_witness))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        return await asyncio.shield(task)

    async def _commit_in_order(self, candidate: Candidate, parent_witness: Witness | None) -> Commit:
        async with self._commit_lock:
            commit = await asyncio.to_thread(self._chain.commit, candidate, parent_witness)
            await asyncio.to_thread(self._mempool.apply, commit)
            self._on_commit(commit)
        return commit
