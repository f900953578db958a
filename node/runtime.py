"""The composition root: everything that makes up a running node, wired once, started and stopped in order.

Owns who gets what and when it begins and ends. Clock, evaluator, transport and random source are arguments,
so that tests and simulations run this very code.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from chain.chain import Chain
from chain.mempool import Mempool
from chain.records import BlockRecord, Commit
from chain.signatures import verify_signature
from chain.store import open_store
from consensus.difficulty import compute_difficulty
from consensus.encoding import Hash32
from consensus.params import ChainSpec
from consensus.transaction import SignedTransfer
from dataset_server.store import DatasetStore
from node.clock import Clock
from node.data_directory import load_admin_token, load_node_id
from node.dataset_keeper import DatasetKeeper
from node.events import EventBus
from node.importing import BlockImporter
from node.metrics import Gauges, Metrics
from node.mining import WorkSource
from node.p2p.guard import GuardedTransport, resolve_host
from node.p2p.network import PeerNetwork
from node.p2p.settings import PeerSettings
from node.settings import NodeSettings
from node.submissions import SubmissionDesk
from node.verification import Evaluator, VerificationPool

LOG = logging.getLogger("freezenet.node")

MakeTransport = Callable[[], httpx.AsyncBaseTransport]


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What the peer network said at one moment, for use on other threads."""

    connected_count: int
    is_synced: bool


class AnnouncedMempool(Mempool):
    """The mempool that tells the event feed of every transfer it takes, whoever brought it."""

    events: EventBus

    def add(self, signed: SignedTransfer) -> Hash32:
        """As `Mempool.add`."""
        tx_id = super().add(signed)
        self.events.publish("transaction", {"id": tx_id.hex()})
        return tx_id


class NodeRuntime:
    """One node. The constructor opens the store; `start` and `stop` belong on the event loop."""

    def __init__(
        self,
        settings: NodeSettings,
        spec: ChainSpec,
        *,
        clock: Clock,
        random: random_module.Random,
        evaluator: Evaluator | None = None,
        transport: MakeTransport | None = None,
    ) -> None:
        """Without `evaluator`, spawned workers evaluate; without `transport`, the real network is used.

        Raises StoreError, DataDirectoryError.
        """
        self.settings = settings
        self.spec = spec
        self.clock = clock
        self.admin_token = load_admin_token(settings)
        self.metrics = Metrics()
        self.events = EventBus(secrets.token_hex(4))
        self.failure: BaseException | None = None
        self.request_stop: Callable[[], None] = lambda: None
        self._tasks: list[asyncio.Task[None]] = []
        make_transport = transport or httpx.AsyncHTTPTransport
        node_id = load_node_id(settings)
        self.store = open_store(settings.database_path, spec)
        self._make_transport = make_transport
        self._wire_chain()
        self._wire_evaluation(evaluator)
        self._wire_network(node_id, random)

    async def start(self) -> None:
        """Begin to talk to peers and to fetch what is missing; returns at once."""
        await self.network.start()
        if self._pool is not None:
            self._tasks.append(asyncio.create_task(self._keep_dataset()))

    def begin_stop(self) -> None:
        """Send every stream and long-poll home: the server waits for them before it stops."""
        self.events.close()

    async def stop(self) -> None:
        """End everything in an order in which nobody misses what another still needs; the store last."""
        self.begin_stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.network.stop()
        await self.submissions.stop()
        if self._pool is not None:
            await self._pool.stop()
        await self.importer.drain()
        await asyncio.to_thread(self.store.close)

    @property
    def can_evaluate(self) -> bool:
        """Whether blocks can be judged now."""
        return self.importer.is_ready

    def get_network_facts(self) -> NetworkFacts:
        """What the network says of itself; belongs on the event loop."""
        return NetworkFacts(self.network.connected_count, self.network.is_synced)

    def render_metrics(self, network: NetworkFacts) -> bytes:
        """The exposition text of all metrics; blocks while it reads."""
        return self.metrics.render(self._read_gauges(network))

    def make_dataset_transport(self) -> httpx.AsyncBaseTransport:
        """The way to the dataset's sources: a peer's name may lead elsewhere than when it was dialled."""
        return GuardedTransport(self._make_transport(), self._may_be_private, resolve_host)

    def fail(self, error: BaseException) -> None:
        """Stop loudly: a database that fails or an impossible state is nothing to go on from."""
        if self.failure is None:
            LOG.critical("the node stops: %s", error, exc_info=error)
            self.failure = error
            self.request_stop()

    async def _keep_dataset(self) -> None:
        try:
            await self.dataset.run()
        except Exception as error:
            self.fail(error)

    def _wire_chain(self) -> None:
        self.chain = Chain(self.store, self.spec, verify_signature)
        self.mempool = AnnouncedMempool(self.store, self.chain, verify_signature)
        self.mempool.events = self.events
        self.work_source = WorkSource(self.store, self.chain, self.mempool)

    def _wire_evaluation(self, evaluator: Evaluator | None) -> None:
        settings, dataset_id = self.settings, self.spec.task.dataset_id
        self._pool = None
        if evaluator is None:
            self._pool = VerificationPool(settings.datasets_path, dataset_id, settings.verification_workers)
        self.dataset = DatasetKeeper(
            DatasetStore(settings.datasets_path),
            dataset_id,
            self._list_sources,
            self._pool,
            self.make_dataset_transport,
        )
        self.importer = BlockImporter(
            self.spec,
            self.chain,
            self.mempool,
            evaluator or self._require_pool(),
            self.clock,
            self._on_commit,
            lambda *question: self.network.find_witness(*question),
            self.metrics.registry,
        )
        self.submissions = SubmissionDesk(self.importer, self.metrics, self.fail)

    def _wire_network(self, node_id: str, random: random_module.Random) -> None:
        settings = self.settings
        peer_settings = PeerSettings(
            node_id=node_id,
            listen_url=settings.own_url,
            peers=settings.peers,
            allow_private_peers=settings.allow_private_peers,
        )
        self.network = PeerNetwork(
            peer_settings,
            self.spec,
            self.chain,
            self.store,
            self.mempool,
            self.importer,
            self._make_transport,
            self.clock,
            random,
            self.fail,
        )

    def _require_pool(self) -> VerificationPool:
        assert self._pool is not None
        return self._pool

    def _may_be_private(self, url: httpx.URL) -> bool:
        """Whether the operator named the source or the peer that a URL belongs to, or lets all be private."""
        named = map(httpx.URL, self.settings.dataset_sources)
        is_source = any((url.scheme, url.netloc) == (source.scheme, source.netloc) for source in named)
        return self.settings.allow_private_peers or is_source or self.network.is_configured(url)

    def _list_sources(self) -> list[str]:
        """Who may have the dataset: what the operator named, then every peer connected with."""
        connected = [peer.url for peer in self.network.list_peers() if peer.state == "connected"]
        return list(dict.fromkeys([*self.settings.dataset_sources, *self.settings.peers, *connected]))

    def _on_commit(self, commit: Commit) -> None:
        record = commit.record
        LOG.info("block %d %s is verified: %s", record.height, record.block_id.hex(), commit.status)
        if commit.disconnected:
            LOG.info("%d blocks left the active chain", len(commit.disconnected))
            self.metrics.count_reorganisation()
            self.events.publish("reorganisation", describe_reorganisation(commit))
        if commit.status == "active":
            self.events.publish("tip", describe_tip(record))
        self.network.announce_block(record.block_id)

    def _read_gauges(self, network: NetworkFacts) -> Gauges:
        tip = self.chain.tip
        with self.store.read() as view:
            grandparent = view.get_block(tip.header.parent)
        timestamp = None if grandparent is None else grandparent.header.timestamp
        difficulty = compute_difficulty(self.spec.params, tip.header, timestamp)
        return Gauges(
            height=tip.height,
            chain_work=tip.chain_work,
            difficulty=difficulty,
            peers=network.connected_count,
            mempool_transactions=self.mempool.size,
            is_synced=network.is_synced,
            is_evaluating=self.can_evaluate,
            is_at_last_rung=self.spec.task.get_rung(difficulty) == self.spec.task.rungs[-1],
        )


def describe_tip(record: BlockRecord) -> dict[str, object]:
    """The body of a tip event."""
    return {
        "id": record.block_id.hex(),
        "height": record.height,
        "chain_work": str(record.chain_work),
        "timestamp": str(record.header.timestamp),
    }


def describe_reorganisation(commit: Commit) -> dict[str, object]:
    """The body of a reorganisation event: who left, the old tip first, and who came, the lowest first."""
    return {
        "fork_height": commit.connected[0].height - 1,
        "disconnected": [record.block_id.hex() for record in commit.disconnected],
        "connected": [record.block_id.hex() for record in commit.connected],
    }
