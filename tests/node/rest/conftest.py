"""A whole node behind its application, with the dummy verifier, a fake clock and a network without peers."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from chain.spec_file import write_chain_spec
from consensus.dataset import encode_split
from consensus.params import ChainSpec
from consensus.transaction import SignedTransfer
from dataset_server.store import DatasetStore
from node.app import build_app
from node.runtime import NodeRuntime
from node.server import NodeServer
from node.settings import NodeSettings
from node.verification import DirectEvaluator, Evaluator
from tests.builders import BuiltBlock, build_dataset, build_genesis, build_spec, mine_block
from tests.fakes import DummyWorkVerifier, FakeClock

OCTETS = {"content-type": "application/octet-stream"}


def refuse_connection(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no network in this test", request=request)


@dataclass(slots=True)
class TestNode:
    """A running node and a client of it."""

    __test__ = False

    spec: ChainSpec
    runtime: NodeRuntime
    app: FastAPI
    client: httpx.AsyncClient
    clock: FakeClock
    verifier: DummyWorkVerifier
    tip: BuiltBlock

    async def submit(self, block: BuiltBlock, **query: str) -> httpx.Response:
        """POST a block at the time that it states."""
        self.clock.now_seconds = max(self.clock.now_seconds, block.header.timestamp)
        return await self.client.post("/v1/mining/blocks", content=block.raw, headers=OCTETS, params=query)

    async def mine(
        self, count: int = 1, transfers: Sequence[SignedTransfer] = (), **options: Any
    ) -> list[BuiltBlock]:
        """Blocks on the tip, the first with the transfers; each is accepted."""
        mined = []
        for number in range(count):
            block = mine_block(self.spec, self.tip, transfers if number == 0 else (), **options)
            response = await self.submit(block)
            assert response.status_code == 201, response.text
            self.tip = block
            mined.append(block)
        return mined

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON at a path that answers 200."""
        response = await self.client.get(path, params=query)
        assert response.status_code == 200, response.text
        return response.json()


StartNode = Callable[..., AbstractAsyncContextManager[TestNode]]


@pytest.fixture
def start_node(tmp_path: Path) -> StartNode:
    """Starts nodes: `async with start_node() as node`."""

    @asynccontextmanager
    async def start(
        name: str = "node",
        evaluator: Evaluator | None = None,
        with_workers: bool = False,
        transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
        changes: dict[str, Any] | None = None,
        **settings: Any,
    ) -> AsyncIterator[TestNode]:
        spec = build_spec(**(changes or {}))
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        write_chain_spec(directory / "chain.json", spec)
        clock = FakeClock(spec.params.genesis_timestamp + 20.0)
        verifier = DummyWorkVerifier()
        runtime = NodeRuntime(
            NodeSettings(dir=directory, **settings),
            spec,
            clock=clock,
            random=random.Random(0),
            evaluator=None if with_workers else evaluator or DirectEvaluator(verifier),
            transport=transport or (lambda: httpx.MockTransport(refuse_connection)),
        )
        app = build_app(runtime)
        transport_in = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport_in, base_url="http://node") as client,
        ):
            yield TestNode(spec, runtime, app, client, clock, verifier, build_genesis(spec))

    return start


@pytest.fixture
async def node(start_node: StartNode) -> AsyncIterator[TestNode]:
    """A node at genesis."""
    async with start_node() as started:
        yield started


def put_dataset(store: DatasetStore) -> None:
    """The tiny chain's dataset, whole."""
    dataset = build_dataset()
    train, eval_ = (encode_split(split.labels, split.pixels) for split in (dataset.train, dataset.eval))
    store.put(dataset.spec, train, eval_)


@asynccontextmanager
async def serve(node: TestNode) -> AsyncIterator[httpx.AsyncClient]:
    """The node on a real socket; the runtime's lifespan stays the fixture's. Leaving stops the server."""
    server = NodeServer(node.runtime, node.app, lifespan="off")
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve([listener]))
    await wait_until(lambda: server.started or task.done())
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            yield client
    finally:
        server.stop()
        await asyncio.wait_for(task, 20)


async def wait_until(condition: Callable[[], bool]) -> None:
    """Let others run until something is so, for at most 20 seconds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a problem of that status and code."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"], body["status"]) == (status, code, status), body
    return body
