"""Looking at nodes and miners: states, new blocks, replaced ones, and nodes that are silent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from node.devnet.files import DevnetFiles
from node.devnet.plan import ServiceSpec
from node.devnet.service import Service, ServiceState
from node.devnet.watch import News, Watch
from node.miner.journal import Journal
from tests.node.devnet.fake_network import SPEC, FakeNetwork, build_blocks
from tests.node.miner.fake_node import ADDRESS

ATTEMPT = {"attempt": 1, "parent": "ab", "height": 3, "frozen": 9_000, "train_target": 4, "eval_target": 3}


def build_services(tmp_path: Path) -> list[Service]:
    specs = [
        ServiceSpec("n1", "node", (), "http://n1", None),
        ServiceSpec("n2", "node", (), "http://n2", None),
        ServiceSpec("m1", "miner", (), None, ADDRESS),
    ]
    return [Service(spec, tmp_path / "log", "token", lambda _: None) for spec in specs]


@asynccontextmanager
async def watching(tmp_path: Path, network: FakeNetwork) -> AsyncIterator[tuple[Watch, list[Service]]]:
    services = build_services(tmp_path)
    watch = Watch(SPEC, DevnetFiles(tmp_path), services, network.transport)
    for service in services:
        service.state = ServiceState.STARTING
    try:
        yield watch, services
    finally:
        await watch.close()


async def test_nodes_tell_their_state(tmp_path: Path) -> None:
    network = FakeNetwork({"n1": build_blocks(2)})
    async with watching(tmp_path, network) as (watch, services):
        first, second = (await watch.look()).nodes
    assert (first.name, first.height, first.peers, first.mempool) == ("n1", 2, 2, 1)
    assert (first.is_answering, first.is_synced, first.has_dataset) == (True, True, True)
    assert (second.is_answering, second.state) == (False, ServiceState.STARTING)
    assert [service.state for service in services[:2]] == [ServiceState.RUNNING, ServiceState.STARTING]


async def test_a_node_that_is_not_started_is_not_asked(tmp_path: Path) -> None:
    network = FakeNetwork({"n1": []})
    async with watching(tmp_path, network) as (watch, services):
        services[0].state = ServiceState.RESTARTING
        services[1].state = ServiceState.FAILED
        await watch.look()
    assert network.requests == []


async def test_new_blocks_are_news_once(tmp_path: Path) -> None:
    network = FakeNetwork({"n1": [], "n2": []})
    branch = build_blocks(3)
    async with watching(tmp_path, network) as (watch, _):
        assert (await watch.look()).news == News(resumed_height=0)
        network.branches["n2"] = branch[:2]
        first = await watch.look()
        assert [block.height for block in first.news.blocks] == [1, 2]
        assert [block.seconds for block in first.news.blocks] == [20, 20]
        assert (await watch.look()).news == News()
        network.branches["n1"] = branch
        last = await watch.look()
        assert [block.height for block in last.news.blocks] == [3]
        assert last.tip == last.news.blocks[-1]


async def test_the_blocks_of_a_resumed_chain_are_no_news(tmp_path: Path) -> None:
    network = FakeNetwork({"n1": build_blocks(4)})
    async with watching(tmp_path, network) as (watch, _):
        snapshot = await watch.look()
    assert snapshot.news == News(resumed_height=4)
    assert snapshot.tip is not None
    assert snapshot.tip.height == 4


async def test_a_branch_that_wins_replaces_blocks(tmp_path: Path) -> None:
    old = build_blocks(3)
    new = build_blocks(3, miner=bytes(31) + b"\1", parent=old[0].header)
    network = FakeNetwork({"n1": [], "n2": []})
    async with watching(tmp_path, network) as (watch, _):
        await watch.look()
        network.branches["n1"] = old
        await watch.look()
        network.branches["n2"] = old[:1] + new
        news = (await watch.look()).news
    assert news.replaced_height == 2
    assert [block.height for block in news.blocks] == [2, 3, 4]


async def test_miners_tell_their_attempts(tmp_path: Path) -> None:
    network = FakeNetwork({})
    with Journal(tmp_path / "m1" / "status.jsonl", lambda: 1.0) as journal:
        journal.record("attempt", **ATTEMPT)
        async with watching(tmp_path, network) as (watch, services):
            miner = services[2]
            snapshot = await watch.look()
            assert miner.state is ServiceState.STARTING
            assert snapshot.attempts_by_parent == {"ab": 1}
            journal.record("attempt", **{**ATTEMPT, "attempt": 2})
            snapshot = await watch.look()
    assert miner.state.value == "running"
    assert snapshot.miners["m1"].attempt == 2
    assert watch.count_miner_attempts() == {"m1": {"ab": 2}}
