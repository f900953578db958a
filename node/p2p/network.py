"""All of a node's dealings with peers behind one object: routes, connections, sync, relay."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from random import Random

import httpx
from fastapi import APIRouter

from chain.chain import Chain
from chain.mempool import Mempool
from chain.store import Store
from consensus.block import Witness
from consensus.encoding import Hash32
from consensus.errors import RuleViolation
from consensus.params import ChainSpec
from consensus.transaction import SignedTransfer
from node.clock import Clock
from node.importing import BlockImporter, Source
from node.p2p.client import build_http
from node.p2p.connections import Connections, OnFatal
from node.p2p.errors import PeerCode, PeerError, PeerLied, Refusal
from node.p2p.gate import Gate, Session
from node.p2p.guard import GuardedTransport, Resolve, resolve_host
from node.p2p.limits import MAX_ADDRESSES, MAX_WITNESS_PEERS, build_limits
from node.p2p.peers import Peer, PeerInfo
from node.p2p.relay import Relay
from node.p2p.routes import PeerEvents, build_router
from node.p2p.settings import PeerSettings
from node.p2p.standing import Standing
from node.p2p.sync import BlockSync, find_witness_in
from node.p2p.urls import get_host, is_private, normalise_url
from node.p2p.wire import PROTOCOL, Hello

LOG = logging.getLogger("freezenet.p2p")

TransportFactory = Callable[[], httpx.AsyncBaseTransport]


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
        transport: TransportFactory,
        clock: Clock,
        random: Random,
        on_fatal: OnFatal | None = None,
        resolve: Resolve = resolve_host,
    ) -> None:
        self._settings = settings
        self._spec = spec
        self._chain = chain
        self._mempool = mempool
        self._on_fatal = on_fatal
        limits = build_limits(spec.limits)
        self._standing = Standing(_get_loop_time)
        self._gate = Gate(limits, self._standing, _get_loop_time)
        self._http = self._build_http(transport, resolve)
        self._connections = Connections(
            settings,
            limits,
            self._http,
            self._standing,
            self._gate,
            clock,
            _get_loop_time,
            random,
            self._build_hello,
            self._serve,
            self._fail,
        )
        self._sync = BlockSync(settings, spec, chain, store, importer, clock)
        self._relay = Relay(mempool, lambda: self._connections.peers)
        events = PeerEvents(
            self._build_hello,
            self._note_greeting,
            self._note_announcement,
            self._take_pushed,
            lambda count: mempool.list(None, count)[0],
            self._list_urls,
        )
        self._router = build_router(self._gate, limits, store, events)

    @property
    def router(self) -> APIRouter:
        """The routes below /p2p/v1."""
        return self._router

    @property
    def is_synced(self) -> bool:
        """Whether no peer is known to claim more work than the tip, all configured ones having been tried."""
        peers = self._connections.peers
        return self._connections.was_everyone_tried and not any(self._sync.is_behind(p) for p in peers)

    @property
    def connected_count(self) -> int:
        """Peers connected with."""
        return len(self._connections.peers)

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        self._connections.add(self._settings.peers, "configured")
        self._connections.start()

    async def stop(self) -> None:
        """End every connection and wait until nothing runs any more."""
        await self._connections.stop()
        await self._http.aclose()

    def list_peers(self) -> list[PeerInfo]:
        """Every peer connected with or configured, in the order of their URLs."""
        return self._connections.list_peers()

    def is_configured(self, url: httpx.URL) -> bool:
        """Whether a URL belongs to a peer that the operator named."""
        base = f"{url.scheme}://{url.netloc.decode('ascii')}"
        return self._connections.is_configured_url(normalise_url(base))

    def add_peer(self, url: str) -> None:
        """Stay connected with a URL from now on. Raises ValueError for what is no peer's URL."""
        self._connections.add([normalise_url(url)], "configured")

    def ban(self, url_or_node_id: str) -> None:
        """Refuse a peer until this node restarts, configured or not. Raises ValueError for neither form."""
        self._standing.ban(url_or_node_id)
        self._connections.end_refused()

    def set_blocked(self, blocked: Collection[str]) -> None:
        """Cut this node off, both ways, from peers with these URLs or node ids, and from no others.

        Raises ValueError for what is neither.
        """
        self._standing.set_blocked(blocked)
        self._connections.end_refused()
        self._connections.retry_all()

    def announce_block(self, block_id: Hash32) -> None:
        """Tell peers that do not have it yet of a new tip; of other blocks there is nothing to tell.

        Peers follow each other's active chains, so a block on a side branch would not be asked for.
        """
        if block_id == self._chain.tip.block_id:
            self._relay.announce_block(block_id)

    def announce_transaction(self, tx_id: Hash32) -> None:
        """Send peers that do not have it yet a transfer of the mempool."""
        self._relay.announce_transfer(tx_id)

    async def find_witness(self, block_id: Hash32, witness_id: Hash32, source: Source) -> Witness | None:
        """Ask peers for a witness, first the one that sent its block's child; another where one stalls."""
        peers = self._connections.peers
        peers.sort(key=lambda peer: source != Source("peer", peer.url))
        waiting = peers[:MAX_WITNESS_PEERS]
        asked: set[asyncio.Task[Witness | None]] = set()
        try:
            while waiting or asked:
                if waiting:
                    ask = self._ask_for_witness(waiting.pop(0), block_id, witness_id)
                    asked.add(asyncio.create_task(ask))
                seconds = self._settings.stall_seconds if waiting else None
                done, asked = await asyncio.wait(asked, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                for witness in [task.result() for task in done]:
                    if witness is not None:
                        return witness
            return None
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _ask_for_witness(self, peer: Peer, block_id: Hash32, witness_id: Hash32) -> Witness | None:
        """What one peer has; None where that is nothing, or a lie for which it is punished."""
        try:
            raw = await peer.client.get_block(block_id, witness_id)
            return find_witness_in(raw, self._spec, block_id, witness_id)
        except PeerLied as lie:
            self._connections.punish(peer, lie)
        except PeerError as error:
            LOG.debug("no witness from %s: %s", peer.url, error)
        return None

    def _build_http(self, transport: TransportFactory, resolve: Resolve) -> httpx.AsyncClient:
        return build_http(GuardedTransport(transport(), self._may_be_private, resolve))

    def _may_be_private(self, url: httpx.URL) -> bool:
        return self._settings.allow_private_peers or self.is_configured(url)

    def _build_hello(self) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            chain_id=self._spec.chain_id.hex(),
            node_id=self._settings.node_id,
            listen_url=self._settings.listen_url,
            height=self._chain.tip.height,
        )

    async def _serve(self, peer: Peer) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sync.follow(peer))
            tasks.create_task(self._relay.send(peer))
            tasks.create_task(self._get_acquainted(peer))

    async def _get_acquainted(self, peer: Peer) -> None:
        """What is asked once of a new peer: its mempool and whom it knows."""
        await self._relay.fetch_mempool(peer)
        self._connections.add(await peer.client.get_addresses(), "learnt")

    def _note_greeting(self, session: Session) -> None:
        if session.listen_url is not None:
            self._connections.add([session.listen_url], "shook-hands")

    async def _note_announcement(self, session: Session, block_id: Hash32) -> None:
        senders = self._connections.list_named(session.listen_url, session.node_id)
        for peer in _choose_proved(senders, session):
            peer.known.add(block_id)
        if not senders:
            self._note_greeting(session)
        elif not await asyncio.to_thread(self._chain.is_known, block_id):
            for peer in senders:
                peer.news.set()

    async def _take_pushed(self, session: Session, transfers: list[SignedTransfer]) -> None:
        senders = self._connections.list_named(session.listen_url, session.node_id)
        try:
            await self._relay.take(transfers, _choose_proved(senders, session))
        except RuleViolation as error:
            # Whoever sent this only calls himself by that node id, so its host alone answers for it.
            LOG.warning("%s pushed a false transfer: %s", session.host, error)
            self._gate.close_session(session)
            if not self._connections.is_configured(session.node_id):
                self._standing.bar(session.host, self._settings.bar_seconds)
            raise Refusal(PeerCode.FALSE_TRANSFER, str(error)) from error

    def _list_urls(self) -> list[str]:
        urls = [peer.url for peer in self._connections.peers]
        if not self._settings.allow_private_peers:
            urls = [url for url in urls if not is_private(get_host(url))]
        return urls[:MAX_ADDRESSES]

    def _fail(self, error: BaseException) -> None:
        LOG.critical("the peer network failed", exc_info=error)
        if self._on_fatal is not None:
            self._on_fatal(error)


def _choose_proved(named: Sequence[Peer], session: Session) -> list[Peer]:
    """Those that a session's host speaks for: under another's name anybody could keep news from it."""
    return [peer for peer in named if session.host in peer.hosts]


def _get_loop_time() -> float:
    return asyncio.get_running_loop().time()
