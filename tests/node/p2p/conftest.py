"""A world for each test, and nodes in it that are stopped at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from tests.node.p2p.world import Node, World


class StartNode(Protocol):
    """Start the node of a number, connecting to these peers."""

    async def __call__(self, number: int, *peers: str, **settings: Any) -> Node: ...


@pytest.fixture
def world() -> World:
    return World()


@pytest_asyncio.fixture
async def start_node(world: World, tmp_path: Path) -> AsyncIterator[StartNode]:
    nodes: list[Node] = []

    async def start(number: int, *peers: str, **settings: Any) -> Node:
        node = Node(world, tmp_path / str(number), number, peers=peers, **settings)
        nodes.append(node)
        await node.start()
        return node

    yield start
    for node in nodes:
        await node.stop()
        node.store.close()
    assert [failure for node in nodes for failure in node.failures] == []
