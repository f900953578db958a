"""Which peers to be connected with: dialling, losing, barring and redialling them.

What is done with a connected peer is the caller's `serve`; who may ask this node is node.p2p.gate's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from random import Random
from typing import Any

import httpx

from node.clock import Clock
from node.p2p.client import PeerClient
from node.p2p.errors import PeerError, PeerLied
from node.p2p.gate import Gate
from node.p2p.limits import MAX_DIALS, MAX_PEERS_PER_HOST, LimitTable
from node.p2p.peers import Address, AddressBook, Origin, Peer, PeerInfo, PeerState
from node.p2p.settings import PeerSettings
from node.p2p.standing import MonotonicTime, Standing
from node.p2p.urls import get_host, get_subnet, is_loopback, is_private, normalise_url
from node.p2p.wire import Hello

LOG = logging.getLogger("freezenet.p2p")
MAX_FAILURES = 5
"""An address that nobody configured is forgotten after so many failures in a row."""

Serve = Callable[[Peer], Awaitable[None]]
"""Does everything there is to do with a connected peer; returns never, or raises PeerError."""
OnFatal = Callable[[BaseException], None]
"""Told of a failure that no peer is to blame for: a broken database, an impossible state."""


class Connections:
    """The peers connected with and the addresses of others."""

    def __init__(
        self,
        settings: PeerSettings,
        limits: LimitTable,
        http: httpx.AsyncClient,
        standing: Standing,
        gate: Gate,
        clock: Clock,
        time: MonotonicTime,
        random: Random,
        build_hello: Callable[[], Hello],
        serve: Serve,
        on_fatal: OnFatal,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._http = http
        self._standing = standing
        self._gate = gate
        self._clock = clock
        self._time = time
        self._random = random
        self._build_hello = build_hello
        self._serve = serve
        self._on_fatal = on_fatal
        self._addresses = AddressBook(random)
        self._peers: dict[str, Peer] = {}
        self._dialling: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    @property
    def peers(self) -> list[Peer]:
        """Those connected with."""
        return list(self._peers.values())

    @property
    def was_everyone_tried(self) -> bool:
        """Whether every configured address was dialled once."""
        configured = (address for address in self._addresses if address.origin == "configured")
        return all(address.was_tried or self._get_refusal(address) is not None for address in configured)

    def start(self) -> None:
        """Begin to dial."""
        self._spawn(self._keep_dialling())

    async def stop(self) -> None:
        """End every connection; returns when nothing runs any more."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def get_peer(self, url: str) -> Peer | None:
        """The connected peer at a URL."""
        return self._peers.get(url)

    def list_named(self, *names: str | None) -> list[Peer]:
        """The connected peers that go by any of these URLs and node ids; nobody proves that a name is his."""
        wanted = set(names) - {None}
        return [peer for peer in self.peers if wanted & set(peer.address.names)]

    def add(self, urls: Iterable[str], origin: Origin) -> None:
        """Learn addresses; what is no peer's URL, private without permission or refused is passed over."""
        for text in urls:
            try:
                url = normalise_url(text)
            except ValueError:
                continue
            if origin != "configured" and not self._may_contact(url):
                continue
            self._addresses.add(url, origin)
        self._wake.set()

    def retry_all(self) -> None:
        """Dial every address again without waiting."""
        for address in self._addresses:
            address.due_at, address.failures = 0.0, 0
        self._wake.set()

    def end_refused(self) -> None:
        """End the relation with every peer that is barred, banned or cut off by now."""
        for peer in self.peers:
            if self._get_refusal(peer.address) is not None:
                self.end(peer, "refused by the operator")

    def end(self, peer: Peer, problem: str) -> None:
        """End the relation with a peer."""
        peer.address.problem = problem
        peer.ended.set()

    def punish(self, peer: Peer, lie: PeerLied) -> None:
        """End the relation with a liar, and bar it unless it is configured or on this machine."""
        peer.address.lies += 1
        exempt = peer.address.origin == "configured" or any(map(is_loopback, peer.hosts))
        LOG.warning("peer %s lied (%s)%s", peer.url, lie, "; it is retried later" if exempt else "; barred")
        if not exempt:
            # Names cost nothing, addresses do.
            for host in peer.hosts:
                self._standing.bar(host, self._settings.bar_seconds)
        self.end(peer, str(lie))

    def is_configured(self, node_id: str) -> bool:
        """Whether a node id is that of a configured address."""
        return any(a.origin == "configured" and a.node_id == node_id for a in self._addresses)

    def is_configured_url(self, url: str) -> bool:
        """Whether the operator named a normalised URL."""
        return any(a.origin == "configured" and a.url == url for a in self._addresses)

    def list_peers(self) -> list[PeerInfo]:
        """Every address connected with or configured, in the order of their URLs."""
        shown = [a for a in self._addresses if a.is_connected or a.origin == "configured"]
        return [self._describe(address) for address in sorted(shown, key=lambda a: a.url)]

    def _describe(self, address: Address) -> PeerInfo:
        refusal = self._get_refusal(address)
        state: PeerState = refusal or ("connected" if address.is_connected else "idle")
        return PeerInfo(
            url=address.url,
            node_id=address.node_id,
            state=state,
            configured=address.origin == "configured",
            height=address.height,
            last_seen=address.last_seen,
            problem=None if state == "connected" else address.problem,
        )

    async def _keep_dialling(self) -> None:
        while True:
            self._wake.clear()
            for address in self._choose_addresses():
                self._dialling.add(address.url)
                self._spawn(self._connect(address))
            try:
                async with asyncio.timeout(self._settings.redial_seconds):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _choose_addresses(self) -> list[Address]:
        """Configured ones first, then those that came by themselves, then others up to the target."""
        due = [a for a in self._addresses if self._is_due(a)]
        self._random.shuffle(due)
        chosen = [a for a in due if a.origin == "configured"]
        room = self._settings.max_peers - len(self._peers) - len(self._dialling) - len(chosen)
        chosen += [a for a in due if a.origin == "shook-hands"][: max(0, room)]
        sought = self._settings.outbound_target - len(self._peers) - len(self._dialling) - len(chosen)
        chosen += [a for a in due if a.origin == "learnt"][: max(0, sought)]
        return chosen[: max(0, MAX_DIALS - len(self._dialling))]

    def _is_due(self, address: Address) -> bool:
        if address.due_at > self._time() or address.url in self._dialling:
            return False
        if address.url in self._peers or address.listen_url in self._peers:
            return False
        return self._get_refusal(address) is None

    def _get_refusal(self, address: Address) -> PeerState | None:
        if self._standing.is_blocked(address.names):
            return "partitioned"
        return "barred" if self._standing.is_barred(get_host(address.url), address.names) else None

    def _may_contact(self, url: str) -> bool:
        """Whether a URL that somebody else named may be dialled."""
        host = get_host(url)
        if url == self._settings.listen_url or self._standing.is_barred(host, (url,)):
            return False
        return self._settings.allow_private_peers or not is_private(host)

    async def _connect(self, address: Address) -> None:
        """Dial an address and serve the peer until the relation ends."""
        peer: Peer | None = None
        try:
            peer = await self._dial(address)
            if peer is not None:
                await self._attend(peer)
        except PeerLied as lie:
            if peer is not None:
                self.punish(peer, lie)
            self._note_failure(address, str(lie))
        except PeerError as error:
            self._note_failure(address, str(error))
        finally:
            self._dialling.discard(address.url)
            if peer is not None:
                self._peers.pop(address.url, None)
                address.is_connected = False
            self._wake.set()

    async def _dial(self, address: Address) -> Peer | None:
        """The peer at an address; None where it is this node, connected already, or refused."""
        is_configured = address.origin == "configured"
        client = PeerClient(self._http, address.url, self._limits, self._build_hello, not is_configured)
        try:
            hello = await client.shake_hands()
        finally:
            address.was_tried = True
        address.node_id, address.listen_url = hello.node_id, _normalise_listen_url(hello)
        address.height, address.last_seen = hello.height, self._clock()
        if hello.node_id == self._settings.node_id:
            address.problem = "this node itself"
        elif address.listen_url in self._peers:
            address.problem = f"connected as {address.listen_url}"
        elif not is_configured and (problem := self._find_host_problem(Peer(address, client))) is not None:
            address.problem = problem
        elif self._get_refusal(address) is None:
            LOG.info("connected with %s at height %d", address.url, hello.height)
            return self._admit(address, client)
        address.due_at = self._time() + self._settings.max_redial_seconds
        return None

    def _find_host_problem(self, peer: Peer) -> str | None:
        """Why the address that a stranger's name leads to is not connected with; None where it is."""
        if any(self._standing.is_barred(host, ()) for host in peer.hosts):
            return "its address is barred"
        strangers = [other for other in self.peers if other.address.origin != "configured"]
        subnets = set(map(get_subnet, peer.hosts))
        neighbours = [other for other in strangers if subnets & set(map(get_subnet, other.hosts))]
        if len(neighbours) >= MAX_PEERS_PER_HOST and not any(map(is_loopback, peer.hosts)):
            return f"{len(neighbours)} peers are connected with at its address"
        return None

    def _admit(self, address: Address, client: PeerClient) -> Peer:
        for other in self.peers:
            # The same node under another URL. Its own one wins, or a stranger could stand in for it.
            if other.address.listen_url == address.url:
                self.end(other, f"connected as {address.url}")
        peer = self._peers[address.url] = Peer(address, client)
        address.is_connected, address.problem = True, None
        self._dialling.discard(address.url)
        return peer

    async def _attend(self, peer: Peer) -> None:
        """Serve a peer until that fails or the relation is ended from outside. Raises PeerError."""
        serving = asyncio.ensure_future(self._serve(peer))
        ended = asyncio.ensure_future(peer.ended.wait())
        try:
            await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            serving.cancel()
            outcome = (await asyncio.gather(serving, return_exceptions=True))[0]
        problem = _get_first(outcome)
        if isinstance(problem, PeerError):
            raise problem
        if isinstance(problem, Exception):
            self._on_fatal(problem)
        raise PeerError(peer.address.problem or "the connection ended")

    def _note_failure(self, address: Address, problem: str) -> None:
        """Wait ever longer for an address that fails, and longer still for one that lied."""
        if address.is_connected:
            address.failures = 0
        address.problem = problem
        address.failures += 1
        LOG.info("no connection with %s: %s", address.url, problem)
        if address.origin != "configured" and address.failures > MAX_FAILURES:
            self._addresses.remove(address)
        doublings = min(address.failures - 1 + 2 * address.lies, 30)
        longest = self._settings.max_redial_seconds
        wait = min(self._settings.redial_seconds * 2.0**doublings, longest)
        # Two nodes that lost each other at one instant should not dial each other at one instant.
        address.due_at = self._time() + wait * self._random.uniform(0.75, 1.0)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_fatal(error)


def _normalise_listen_url(hello: Hello) -> str | None:
    try:
        return None if hello.listen_url is None else normalise_url(hello.listen_url)
    except ValueError:
        return None


def _get_first(outcome: BaseException | None) -> BaseException | None:
    """The first failure of a group of tasks; a lie before all others, for it has consequences."""
    if not isinstance(outcome, BaseExceptionGroup):
        return outcome
    leaves = [_get_first(error) for error in outcome.exceptions]
    return next((error for error in leaves if isinstance(error, PeerLied)), leaves[0])
