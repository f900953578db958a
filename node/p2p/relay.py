"""Passing on what is new here, and taking what peers pass on: announcements of blocks, and transfers.

Blocks are announced and fetched; a transfer is hardly longer than an announcement, so it is sent at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from chain.errors import PoolRefusal
from chain.mempool import Mempool
from consensus.encoding import Hash32
from consensus.errors import Code, Duplicate, RuleViolation
from consensus.transaction import SignedTransfer
from node.p2p.errors import PeerLied, PeerRefused
from node.p2p.limits import MAX_PUSHED_TRANSFERS
from node.p2p.peers import Peer

LOG = logging.getLogger("freezenet.p2p")
LEDGER_CODES = frozenset({Code.WRONG_NONCE, Code.INSUFFICIENT_BALANCE})
"""A transfer refused with these may be valid on another tip, so its sender did not lie."""

GetPeers = Callable[[], Iterable[Peer]]


class Relay:
    """The outgoing side and the mempool's incoming side of gossip."""

    def __init__(self, mempool: Mempool, get_peers: GetPeers) -> None:
        self._mempool = mempool
        self._get_peers = get_peers

    def announce_block(self, block_id: Hash32) -> None:
        """Tell every peer that is not known to have the block."""
        for peer in self._get_peers():
            if block_id not in peer.known:
                peer.outbox.blocks.add(block_id)
                peer.outbox.filled.set()

    def announce_transfer(self, tx_id: Hash32) -> None:
        """Send every peer that is not known to have it a transfer of the mempool."""
        for peer in self._get_peers():
            if tx_id not in peer.known:
                peer.outbox.transfers.add(tx_id)
                peer.outbox.filled.set()

    async def send(self, peer: Peer) -> None:
        """Empty one peer's outbox for as long as it is connected. Raises PeerError."""
        outbox = peer.outbox
        while True:
            await outbox.filled.wait()
            outbox.filled.clear()
            while len(outbox.blocks) or len(outbox.transfers):
                await self._send_blocks(peer)
                await self._send_transfers(peer)

    async def fetch_mempool(self, peer: Peer) -> None:
        """Take over what waits at a peer. Raises PeerError, StoreError."""
        transfers = await peer.client.get_transfers()
        try:
            await self.take(transfers, [peer])
        except RuleViolation as error:
            raise PeerLied(str(error.code), error.detail) from error

    async def take(self, transfers: Sequence[SignedTransfer], senders: Sequence[Peer]) -> None:
        """Add transfers to the mempool and pass on those that are new.

        Raises RuleViolation at the first that can never be valid on this chain; those before it are taken.
        """
        for signed in transfers:
            for peer in senders:
                peer.known.add(signed.tx_id)
            if await asyncio.to_thread(self._add, signed):
                self.announce_transfer(signed.tx_id)

    def _add(self, signed: SignedTransfer) -> bool:
        """Whether the transfer is new and taken. Raises RuleViolation."""
        if self._mempool.get(signed.tx_id) is not None:
            return False
        try:
            self._mempool.add(signed)
        except (Duplicate, PoolRefusal):
            return False
        except RuleViolation as error:
            if error.code not in LEDGER_CODES:
                raise
            return False
        return True

    async def _send_blocks(self, peer: Peer) -> None:
        for block_id in peer.outbox.blocks.take(1):
            if block_id in peer.known:
                continue
            peer.known.add(block_id)
            try:
                await peer.client.announce_block(block_id)
            except PeerRefused as error:
                _tolerate(peer, error)

    async def _send_transfers(self, peer: Peer) -> None:
        tx_ids = [i for i in peer.outbox.transfers.take(MAX_PUSHED_TRANSFERS) if i not in peer.known]
        # What was mined or dropped meanwhile needs no sending.
        transfers = [signed for signed in map(self._mempool.get, tx_ids) if signed is not None]
        if not transfers:
            return
        for signed in transfers:
            peer.known.add(signed.tx_id)
        try:
            await peer.client.push_transfers(transfers)
        except PeerRefused as error:
            _tolerate(peer, error)


def _tolerate(peer: Peer, error: PeerRefused) -> None:
    """Raises a refusal that ends the relation; others mean that the peer does without this one message."""
    if error.status in (401, 403):
        raise error
    LOG.info("%s did not take a message: %s", peer.url, error)
