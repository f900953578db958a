"""Headers first, then blocks, lowest first: following each peer's chain and importing what is worth it.

Every connected peer is followed by a task of its own, so one that stalls holds up nobody else. What is
evaluated, and in which order deliveries of one id are tried, is node.importing's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from chain.chain import Chain
from chain.store import Store
from chain.view import View
from consensus.block import HEADER_BYTES, Header, Witness, decode_block, decode_header
from consensus.encoding import Hash32
from consensus.errors import BadDelivery, Code, ConsensusError, Duplicate, NotYet, RuleViolation
from consensus.params import ChainSpec
from consensus.rules import check_claimed_work
from node.clock import Clock
from node.importing import BlockImporter, Source
from node.p2p.claims import Claim, advance_claim, build_locator, extend_claim
from node.p2p.errors import PeerLied, PeerRefused
from node.p2p.limits import MAX_CLAIMED_HEADERS, MAX_HEADERS, MAX_SIDE_EVALUATIONS
from node.p2p.peers import Peer
from node.p2p.settings import PeerSettings
from node.verification import EvaluatorUnavailable

LOG = logging.getLogger("freezenet.p2p")
IDLE_SECONDS = 0.2
"""Pause after a peer had nothing new."""
MAX_ROUNDS = 2 * MAX_CLAIMED_HEADERS // MAX_HEADERS
"""Header requests to one peer in a row; it goes on at the next occasion."""

Found = TypeVar("Found")


@dataclass(slots=True)
class _Fetch:
    """A block on its way from one peer; others wait for it instead of asking too."""

    downloaded: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    def finish(self) -> None:
        """Let everybody go on, whatever came out."""
        self.downloaded.set()
        self.finished.set()


class BlockSync:
    """Turns what peers claim into verified blocks."""

    def __init__(
        self,
        settings: PeerSettings,
        spec: ChainSpec,
        chain: Chain,
        store: Store,
        importer: BlockImporter,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._spec = spec
        self._chain = chain
        self._store = store
        self._importer = importer
        self._clock = clock
        self._fetches: dict[Hash32, _Fetch] = {}

    async def follow(self, peer: Peer) -> None:
        """Keep up with one peer for as long as it is connected. Raises PeerError, StoreError."""
        while True:
            peer.news.clear()
            before = peer.claim
            await self._refresh(peer)
            await self._catch_up(peer)
            if _is_same(before, peer.claim):
                # Announcements cost nothing: whoever shouts without news is heard a few times a second.
                await asyncio.sleep(IDLE_SECONDS)
            try:
                async with asyncio.timeout(self._settings.poll_seconds):
                    await peer.news.wait()
            except TimeoutError:
                continue

    def is_worthwhile(self, claim: Claim) -> bool:
        """Whether a branch claims enough to be evaluated (§9)."""
        tip = self._chain.tip
        try:
            check_claimed_work(claim.chain_work, tip.chain_work, tip.work)
        except NotYet:
            return False
        return True

    def is_behind(self, peer: Peer) -> bool:
        """Whether a peer has, or may have, more than this node's tip."""
        if not peer.was_asked:
            return True
        claim = peer.claim
        return claim is not None and claim.pending_count > 0 and claim.chain_work > self._chain.tip.chain_work

    async def _refresh(self, peer: Peer) -> None:
        """Ask for headers until the peer has no more or enough of them wait."""
        for _ in range(MAX_ROUNDS):
            old = peer.claim
            headers = await peer.client.get_headers(await self._build_locator(old))
            peer.address.last_seen = self._clock()
            peer.claim = await self._extend(old, headers)
            peer.claim_goes_on = len(headers) == MAX_HEADERS and _ends_with(peer.claim, headers[-1])
            if peer.claim is not None:
                peer.address.height = peer.claim.height
            if not peer.claim_goes_on or self._has_enough(peer.claim) or _is_same(old, peer.claim):
                break
        peer.was_asked = True

    async def _extend(self, claim: Claim | None, headers: Sequence[Header]) -> Claim | None:
        now_seconds = int(self._clock())
        try:
            return await self._read(
                lambda view: extend_claim(
                    self._spec, view, self._chain.is_condemned, claim, headers, now_seconds
                )
            )
        except (RuleViolation, BadDelivery) as error:
            # These are headers of the peer's active chain, so of blocks that it says it verified.
            raise _blame(error) from error

    async def _build_locator(self, claim: Claim | None) -> list[Hash32]:
        return await self._read(lambda view: build_locator(view, claim))

    async def _advance(self, peer: Peer, claim: Claim) -> None:
        """Go on above what is verified by now."""
        peer.claim = await self._read(lambda view: advance_claim(view, claim))
        if peer.claim_goes_on and peer.claim.pending_count < MAX_HEADERS:
            await self._refresh(peer)

    def _has_enough(self, claim: Claim | None) -> bool:
        return claim is not None and claim.pending_count >= MAX_HEADERS and self.is_worthwhile(claim)

    async def _catch_up(self, peer: Peer) -> None:
        """Import the blocks of a peer's claim as long as that goes well."""
        while peer.claim is not None and peer.claim.pending_count:
            if not self._importer.is_ready or not self.is_worthwhile(peer.claim):
                return
            try:
                await self._obtain(peer, peer.claim)
            except NotYet as error:
                LOG.info("block of %s is not importable yet: %s", peer.url, error)
                peer.claim = None
                return
            except EvaluatorUnavailable as error:
                LOG.warning("cannot evaluate: %s", error)
                return
            except PeerRefused as error:
                if error.status in (401, 403):
                    raise
                LOG.info("%s does not serve a block of its chain: %s", peer.url, error)
                peer.claim = None
                return
            await self._advance(peer, peer.claim)

    async def _obtain(self, peer: Peer, claim: Claim) -> None:
        """Have the lowest block of a claim verified here, from this peer or another one."""
        block_id = claim.lowest.block_id
        while not await asyncio.to_thread(self._chain.is_known, block_id):
            if self._chain.is_condemned(block_id):
                raise PeerLied(str(Code.INVALID_ANCESTOR), block_id.hex())
            other = self._fetches.get(block_id)
            if other is None or not await self._wait_for(other):
                await self._fetch(peer, claim)

    async def _wait_for(self, other: _Fetch) -> bool:
        """Wait for another peer's delivery and its judgement; False where it does not even arrive in time."""
        try:
            async with asyncio.timeout(self._settings.stall_seconds):
                await other.downloaded.wait()
        except TimeoutError:
            return False
        await other.finished.wait()
        return True

    async def _fetch(self, peer: Peer, claim: Claim) -> None:
        block_id = claim.lowest.block_id
        fetch = self._fetches[block_id] = _Fetch()
        try:
            raw = await peer.client.get_block(block_id)
            fetch.downloaded.set()
            _check_is_block(raw, block_id)
            await self._import(peer, raw, claim.chain_work)
        finally:
            fetch.finish()
            if self._fetches.get(block_id) is fetch:
                del self._fetches[block_id]

    async def _import(self, peer: Peer, raw: bytes, claimed_chain_work: int) -> None:
        source = Source("peer", peer.url)
        try:
            commit = await self._importer.submit(raw, source, claimed_chain_work=claimed_chain_work)
        except Duplicate:
            return
        except (RuleViolation, BadDelivery) as error:
            raise _blame(error) from error
        peer.known.add(commit.record.block_id)
        peer.side_evaluations = peer.side_evaluations + 1 if commit.status == "side" else 0
        if peer.side_evaluations > MAX_SIDE_EVALUATIONS:
            raise PeerLied(str(Code.PUT_OFF), "its branches cost more than they came to")

    async def _read(self, query: Callable[[View], Found]) -> Found:
        def run() -> Found:
            with self._store.read() as view:
                return query(view)

        return await asyncio.to_thread(run)


def find_witness_in(raw: bytes, spec: ChainSpec, block_id: Hash32, witness_id: Hash32) -> Witness:
    """The witness in a delivered block that was asked for with that very witness. Raises PeerLied."""
    _check_is_block(raw, block_id)
    try:
        witness = decode_block(raw, spec.limits).witness
    except BadDelivery as error:
        raise _blame(error) from error
    if witness is None or witness.witness_id != witness_id:
        raise PeerLied("wrong-witness", f"asked for witness {witness_id.hex()}")
    return witness


def _check_is_block(raw: bytes, block_id: Hash32) -> None:
    """Raises PeerLied where the bytes do not begin with the header of the block asked for."""
    if len(raw) < HEADER_BYTES or decode_header(raw[:HEADER_BYTES]).block_id != block_id:
        raise PeerLied("wrong-block", f"asked for block {block_id.hex()}")


def _ends_with(claim: Claim | None, header: Header) -> bool:
    """Whether nothing was left out at the end, for lack of room or as from the future."""
    if claim is None:
        return False
    last_id = claim.headers[-1].block_id if claim.pending_count else claim.base.block_id
    return last_id == header.block_id


def _is_same(old: Claim | None, new: Claim | None) -> bool:
    if old is None or new is None:
        return old is new
    return (old.base.block_id, old.height, old.chain_work) == (new.base.block_id, new.height, new.chain_work)


def _blame(error: ConsensusError) -> PeerLied:
    return PeerLied(str(error.code), error.detail)
