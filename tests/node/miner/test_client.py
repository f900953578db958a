"""What the answers of nodes mean for a miner, and which of its nodes is asked."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from node.miner.client import BadTemplate, NodeClient, NodeLost, NodePool
from tests.node.miner.fake_node import ADDRESS, MINER, FakeNode, build_tiny_spec, build_transport


def build_pool(**nodes: FakeNode) -> NodePool:
    return NodePool([f"http://{name}" for name in nodes], lambda: 0.0, build_transport(**nodes))


def build_odd_node() -> FakeNode:
    """Offers a header that cannot be encoded."""
    return FakeNode(change_header=lambda header: replace(header, version=70_000))


async def test_of_a_verdict_only_the_status_counts() -> None:
    answer = httpx.Response(201, json={"id": None, "height": None, "status": "side"})
    client = NodeClient("http://n1", httpx.MockTransport(lambda _: answer))
    assert await client.submit(b"", is_dry_run=False) == "side"
    await client.close()


async def test_what_serves_no_chain_judges_no_block() -> None:
    node = FakeNode()

    async def route(request: httpx.Request) -> httpx.Response:
        return await node.handle(request) if request.url.host == "n1" else httpx.Response(404)

    async with NodePool(["http://n1", "http://n2"], lambda: 0.0, httpx.MockTransport(route)) as pool:
        await pool.connect()
        node.is_down = True
        with pytest.raises(NodeLost, match="http://n1: connection refused"):
            await pool.submit(b"", is_dry_run=False)


async def test_a_node_with_bad_templates_is_passed_over() -> None:
    async with build_pool(n1=build_odd_node(), n2=FakeNode()) as pool:
        await pool.fetch_work(ADDRESS, MINER)
        assert pool.current_url == "http://n2"


async def test_a_bad_template_names_its_node() -> None:
    async with build_pool(n1=build_odd_node(), n2=FakeNode(is_down=True)) as pool:
        with pytest.raises(BadTemplate, match="http://n1: the template cannot be read"):
            await pool.fetch_work(ADDRESS, MINER)


async def test_returns_to_its_first_node() -> None:
    first, second = FakeNode(is_down=True), FakeNode()
    times = iter((100.0, 101.0, 200.0))
    transport = build_transport(n1=first, n2=second)
    async with NodePool(["http://n1", "http://n2"], lambda: next(times), transport) as pool:
        urls: list[str] = []
        for first.is_down in (True, False, False):
            await pool.fetch_work(ADDRESS, MINER)
            urls.append(pool.current_url)
    assert urls == ["http://n2", "http://n2", "http://n1"]


async def test_a_node_that_was_lost_is_checked_again() -> None:
    node = FakeNode()
    async with build_pool(n1=node) as pool:
        await pool.fetch_work(ADDRESS, MINER)
        node.is_down = True
        with pytest.raises(NodeLost, match="connection refused"):
            await pool.fetch_work(ADDRESS, MINER)
        node.is_down, node.spec = False, build_tiny_spec("other")
        with pytest.raises(NodeLost, match="another chain"):
            await pool.fetch_work(ADDRESS, MINER)


async def test_a_node_that_was_lost_in_a_long_poll_is_checked_again() -> None:
    node = FakeNode()
    async with build_pool(n1=node) as pool:
        work = await pool.fetch_work(ADDRESS, MINER)
        node.is_down = True
        with pytest.raises(NodeLost, match="connection refused"):
            await pool.wait_for_change(ADDRESS, MINER, work)
        node.is_down, node.spec = False, build_tiny_spec("other")
        with pytest.raises(NodeLost, match="another chain"):
            await pool.fetch_work(ADDRESS, MINER)
