"""All of a node's dealings with peers behind one object: routes, connections, sync, relay."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import httpx
from fastapi import APIRouter

from chain.chain import Chain
from chain.mempool import Mempool
from chain.store import Store
from consensus.block import Witness
from consensus.encoding import Hash32
from consensus.params import ChainSpec
from node.clock import Clock
from node.importing import BlockImporter, Source
from node.p2p.settings import PeerSettings

PeerState = Literal["connected", "idle", "barred", "partitioned"]
OnFatal = Callable[[BaseException], None]
"""Told of a failure that no peer is to blame for: a broken database, an impossible state."""


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """One peer, as shown to an operator."""

    url: str
    """Where it is reached."""
    node_id: str | None
    """Its id, None before the first handshake."""
    state: PeerState
    """Connected, or why not."""
    configured: bool
    """Whether the operator named it."""
    height: int | None
    """Height of its tip as far as it said, None before the first handshake."""
    last_seen: float | None
    """Unix seconds of its last answer."""
    problem: str | None
    """What last ended the relation."""


class PeerNetwork:
    """The peers of one node; every method belongs on the event loop."""

    def __init__(
        self,
        settings: PeerSettings,
        spec: ChainSpec,
        chain: Chain,
        store: Store,
        mempool: Mempool,
        importer: BlockImporter,
        transport: Callable[[], httpx.AsyncBaseTransport],
        clock: Clock,
        random: random.Random,
        on_fatal: OnFatal | None = None,
    ) -> None:
        raise NotImplementedError

    @property
    def router(self) -> APIRouter:
        """The routes below /p2p/v1."""
        raise NotImplementedError

    @property
    def is_synced(self) -> bool:
        """Whether no peer is known to claim more work than the tip has, and every configured one was tried."""
        raise NotImplementedError

    @property
    def connected_count(self) -> int:
        """Peers connected with."""
        raise NotImplementedError

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End every connection and wait until nothing runs any more."""
        raise NotImplementedError

    def list_peers(self) -> list[PeerInfo]:
        """Every peer connected with or configured, in the order of their URLs."""
        raise NotImplementedError

    def add_peer(self, url: str) -> None:
        """Stay connected with a URL from now on. Raises ValueError for what is no peer's URL."""
        raise NotImplementedError

    def ban(self, url_or_node_id: str) -> None:
        """Refuse a peer until this node restarts, configured or not. Raises ValueError for neither form."""
        raise NotImplementedError

    def set_blocked(self, blocked: Collection[str]) -> None:
        """Cut this node off from peers with these URLs or node ids, both ways; all others are let in again."""
        raise NotImplementedError

    def announce_block(self, block_id: Hash32) -> None:
        """Tell peers that do not have it yet of a block verified here."""
        raise NotImplementedError

    def announce_transaction(self, tx_id: Hash32) -> None:
        """Send peers that do not have it yet a transfer of the mempool."""
        raise NotImplementedError

    async def find_witness(self, block_id: Hash32, witness_id: Hash32, source: Source) -> Witness | None:
        """Ask peers for a witness, first the one that sent its block's child."""
        raise NotImplementedError
