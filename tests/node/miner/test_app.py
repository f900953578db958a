"""A whole miner against a node in process: chain, dataset over REST, a spawned trainer, a block."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import httpx
from rich.console import Console

from dataset_server.app import build_app
from dataset_server.store import DatasetStore
from node.miner.app import MinerOptions, run_miner
from node.miner.journal import JournalTail
from node.miner.mining import MiningOrder
from tests.node.miner.fake_node import MINER, TINY_RECORDS, FakeNode
from tests.node.miner.fake_trainer import build_instant


class NodeWithDataset(httpx.AsyncBaseTransport):
    """Routes as a node does, to a dataset server and the fake node; the first request for data fails."""

    def __init__(self, node: FakeNode, root: Path) -> None:
        self._node = node
        store = DatasetStore(root)
        store.put(node.spec.dataset, TINY_RECORDS, TINY_RECORDS)
        self._datasets = httpx.ASGITransport(build_app(store))
        self.refusals_left = 1

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.startswith("/v1/datasets/"):
            return await self._node.handle(request)
        if self.refusals_left:
            self.refusals_left -= 1
            return httpx.Response(503, json={"code": "dataset-missing"})
        return await self._datasets.handle_async_request(request)


async def test_a_miner_fetches_everything_and_mines(tmp_path: Path) -> None:
    node = FakeNode()
    transport = NodeWithDataset(node, tmp_path / "server")
    directory = tmp_path / "miner"
    order = MiningOrder(MINER, attempts=1)
    options = MinerOptions(order, ("http://n1",), directory, directory / "datasets", "cpu", 1)
    console = Console(file=io.StringIO(), width=200)
    async with asyncio.timeout(60):
        await run_miner(options, console, transport, build_instant)
    assert [block.header.miner for block in node.blocks] == [MINER]
    assert DatasetStore(directory / "datasets").has(node.spec.dataset.dataset_id)
    names = [event["event"] for event in JournalTail(directory / "status.jsonl").read_new()]
    assert names == ["started", "attempt", "progress", "found", "accepted", "stopped"]
    assert isinstance(console.file, io.StringIO)
    assert "accepted by http://n1 (active)" in console.file.getvalue()
