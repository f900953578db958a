"""Nodes in one process: real chains and networks behind an in-memory transport, and hostile peers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from chain.mempool import Mempool
from chain.records import Commit
from chain.signatures import verify_signature
from consensus.block import Header, Witness
from consensus.encoding import Hash32
from consensus.errors import Code
from consensus.params import ChainSpec
from node.importing import BlockImporter, Source
from node.p2p.guard import resolve_host
from node.p2p.network import PeerNetwork
from node.p2p.peers import PeerInfo
from node.p2p.settings import PeerSettings
from node.p2p.wire import NODE_HEADER, OCTETS, PREFIX, encode_headers
from node.verification import DirectEvaluator
from tests.builders import BuiltBlock, build_genesis, build_spec, build_witness, open_chain
from tests.fakes import DummyWorkVerifier, FakeClock, build_refusal_mark

FALSE_MARK = build_refusal_mark(Code.WRONG_EVAL_COUNT)
NOW_SECONDS = 2_000_000_000
DEADLINE_SECONDS = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as a condition holds; fail at a deadline that no healthy run comes near."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass
class World:
    """The internet of a test: applications by host."""

    spec: ChainSpec = field(default_factory=build_spec)
    apps: dict[str, ASGIApp] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """(from, method, URL) of every request, in order."""
    names: dict[str, str] = field(default_factory=dict)
    """Addresses by name."""

    async def resolve(self, host: str) -> list[str]:
        """The addresses of a name, or an address itself."""
        return [self.names[host]] if host in self.names else await resolve_host(host)

    @property
    def genesis(self) -> BuiltBlock:
        """The block of height 0."""
        return build_genesis(self.spec)


class WorldTransport(httpx.AsyncBaseTransport):
    """Requests of one host to applications in the same process."""

    def __init__(self, world: World, own_host: str) -> None:
        self._world = world
        self._own_host = own_host

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._world.requests.append((self._own_host, request.method, str(request.url)))
        # The URL holds the address that the name led to.
        app = self._world.apps.get(request.headers["Host"])
        if app is None:
            raise httpx.ConnectError("nobody listens there", request=request)
        inner = httpx.ASGITransport(app, client=(self._own_host, 40_000))
        response = await inner.handle_async_request(request)
        response.extensions["network_stream"] = WorldStream((request.url.host, 80))
        return response


@dataclass(frozen=True)
class WorldStream:
    """What httpcore tells of a connection."""

    server_addr: tuple[str, int]

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        """The address at the other end."""
        return self.server_addr if name == "server_addr" else None


class Node:
    """A node as the runtime wires it, with a dummy work verifier."""

    def __init__(
        self,
        world: World,
        directory: Path,
        number: int,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
        **settings: Any,
    ) -> None:
        self.world = world
        self.host = f"10.0.0.{number}"
        self.url = settings.get("listen_url", f"http://{self.host}")
        self.verifier = DummyWorkVerifier()
        self.clock = FakeClock(NOW_SECONDS)
        self.failures: list[BaseException] = []
        self.is_up = False
        directory.mkdir(exist_ok=True)
        self.store, self.chain = open_chain(directory, world.spec)
        self.mempool = Mempool(self.store, self.chain, verify_signature)
        self.evaluator = DirectEvaluator(self.verifier)
        self.importer = BlockImporter(
            world.spec,
            self.chain,
            self.mempool,
            self.evaluator,
            self.clock,
            self._on_commit,
            self._find_witness,
        )
        quick: dict[str, Any] = {
            "node_id": f"{number:032x}",
            "listen_url": self.url,
            "allow_private_peers": True,
            "poll_seconds": 5.0,
            "redial_seconds": 0.05,
            "stall_seconds": 0.2,
        }
        self.settings = PeerSettings(**{**quick, **settings})
        self.network = PeerNetwork(
            self.settings,
            world.spec,
            self.chain,
            self.store,
            self.mempool,
            self.importer,
            transport or (lambda: WorldTransport(world, self.host)),
            self.clock,
            Random(number),
            self.failures.append,
            world.resolve,
        )

    @property
    def height(self) -> int:
        """Height of the tip."""
        return self.chain.tip.height

    @property
    def tip_id(self) -> Hash32:
        """Id of the tip."""
        return self.chain.tip.block_id

    @property
    def peer_urls(self) -> set[str]:
        """Peers connected with."""
        return {peer.url for peer in self.network.list_peers() if peer.state == "connected"}

    def get_peer(self, url: str) -> PeerInfo:
        """What the node shows of a peer."""
        return next(peer for peer in self.network.list_peers() if peer.url == url)

    async def start(self) -> None:
        """Listen, and begin to connect."""
        app = FastAPI()
        app.include_router(self.network.router)
        self.world.apps[self.host] = app
        self.is_up = True
        await self.network.start()

    async def stop(self) -> None:
        """Disappear."""
        self.world.apps.pop(self.host, None)
        if self.is_up:
            self.is_up = False
            await self.network.stop()
        await self.importer.drain()

    async def mine(self, *blocks: BuiltBlock) -> None:
        """Take blocks as a client submits them."""
        for block in blocks:
            await self.importer.submit(block.raw, Source("client", "miner"), claimed_chain_work=2**80)

    def _on_commit(self, commit: Commit) -> None:
        self.network.announce_block(commit.record.block_id)

    async def _find_witness(self, block_id: Hash32, witness_id: Hash32, source: Source) -> Witness | None:
        return await self.network.find_witness(block_id, witness_id, source)


class FakePeer:
    """A peer that serves what a test tells it to, true or not."""

    def __init__(self, world: World, number: int, *, host: str | None = None) -> None:
        self.world = world
        self.host = host or f"10.0.0.{number}"
        self.url = f"http://{self.host}"
        self.node_id = f"{number:032x}"
        self.chain_id = world.spec.chain_id.hex()
        self.protocol = 1
        self.listen_url: str | None = self.url
        self.headers: Callable[[list[str]], Sequence[Header]] = lambda _locator: []
        self.blocks: dict[str, bytes] = {}
        """Bytes by block id, or by "block id/witness id"."""
        self.stall: set[str] = set()
        """Block ids that never arrive."""
        self.asked: list[str] = []
        """Paths below the prefix, in the order asked."""
        self.addresses: list[str] = []
        self.transfers = b""
        """What it says waits in its mempool."""
        world.apps[self.host] = Starlette(routes=list(self._list_routes()))

    def claim(self, blocks: Sequence[BuiltBlock], *, serve: bool = True) -> None:
        """Say that these are the active chain above genesis, the lowest first."""
        ids = {block.block_id.hex(): index for index, block in enumerate(blocks)}
        headers = [block.header for block in blocks]

        def answer(locator: list[str]) -> Sequence[Header]:
            common = max((ids[text] for text in locator if text in ids), default=-1)
            return headers[common + 1 :][:2_000]

        self.headers = answer
        if serve:
            self.blocks |= {block.block_id.hex(): block.raw for block in blocks}

    async def ask(self, node: Node, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to a node."""
        transport = WorldTransport(self.world, self.host)
        headers = {NODE_HEADER: self.node_id}
        async with httpx.AsyncClient(transport=transport, base_url=node.url + PREFIX) as client:
            return await client.request(method, path, headers=headers, **options)

    async def greet(self, node: Node) -> httpx.Response:
        """Shake hands."""
        return await self.ask(node, "POST", "/handshake", json=self.build_hello())

    async def announce(self, node: Node, block: BuiltBlock) -> httpx.Response:
        """Say that there is a block."""
        body = {"kind": "block", "id": block.block_id.hex()}
        return await self.ask(node, "POST", "/announce", json=body)

    def build_hello(self) -> dict[str, Any]:
        """Its side of the handshake."""
        return {
            "protocol": self.protocol,
            "chain_id": self.chain_id,
            "node_id": self.node_id,
            "listen_url": self.listen_url,
            "height": 0,
        }

    def _list_routes(self) -> Iterator[Route]:
        yield Route(PREFIX + "/handshake", self._answer_handshake, methods=["POST"])
        yield Route(PREFIX + "/headers", self._answer_headers, methods=["POST"])
        yield Route(PREFIX + "/blocks/{block_id}", self._answer_block)
        yield Route(PREFIX + "/announce", self._answer_nothing, methods=["POST"])
        yield Route(PREFIX + "/transactions", self._answer_transactions)
        yield Route(PREFIX + "/transactions", self._answer_nothing, methods=["POST"])
        yield Route(PREFIX + "/addresses", self._answer_addresses)

    async def _answer_handshake(self, request: Request) -> Response:
        self._note(request)
        return JSONResponse(self.build_hello())

    async def _answer_headers(self, request: Request) -> Response:
        self._note(request)
        headers = self.headers(json.loads(await request.body())["locator"])
        return Response(encode_headers(headers), media_type=OCTETS)

    async def _answer_block(self, request: Request) -> Response:
        self._note(request)
        name = request.path_params["block_id"]
        if name in self.stall:
            await asyncio.Event().wait()
        if "witness" in request.query_params:
            name += "/" + request.query_params["witness"]
        raw = self.blocks.get(name)
        return Response(status_code=404) if raw is None else Response(raw, media_type=OCTETS)

    async def _answer_addresses(self, request: Request) -> Response:
        self._note(request)
        return JSONResponse({"addresses": self.addresses})

    async def _answer_transactions(self, request: Request) -> Response:
        self._note(request)
        return Response(self.transfers, media_type=OCTETS)

    async def _answer_nothing(self, request: Request) -> Response:
        self._note(request)
        return Response()

    def _note(self, request: Request) -> None:
        self.asked.append(request.url.path.removeprefix(PREFIX))


def make_twin(world: World, block: BuiltBlock, mark: bytes = b"ok twin") -> BuiltBlock:
    """The same header under another witness."""
    rung = world.spec.task.get_rung(block.header.difficulty)
    return block.with_witness(build_witness(world.spec, rung, mark))


def has_judged(node: Node, liar: FakePeer) -> bool:
    return node.importer.evaluated == 1 and liar.url not in node.peer_urls
