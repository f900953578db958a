"""Two nodes over real sockets: what an in-memory transport cannot show."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from tests.builders import ALICE, BOB, build_transfer, mine_block, mine_blocks
from tests.node.p2p.world import Node, World, until


@asynccontextmanager
async def serving(world: World, directory: Path, number: int, *peers: str) -> AsyncIterator[Node]:
    """A node that listens on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        node = Node(world, directory, number, httpx.AsyncHTTPTransport, listen_url=url, peers=peers)
        app = FastAPI()
        app.include_router(node.network.router)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        serve = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        await node.network.start()
        try:
            yield node
        finally:
            await node.network.stop()
            await node.importer.drain()
            server.should_exit = True
            await serve
            node.store.close()
            assert node.failures == []


async def test_nodes_agree_over_real_sockets(world: World, tmp_path: Path) -> None:
    async with (
        serving(world, tmp_path / "1", 1) as first,
        serving(world, tmp_path / "2", 2, first.url) as second,
    ):
        blocks = mine_blocks(world.spec, world.genesis, 5)
        await first.mine(*blocks)
        await until(lambda: second.tip_id == blocks[-1].block_id)
        transfer = build_transfer(world.spec, ALICE, BOB.public)
        second.network.announce_transaction(second.mempool.add(transfer))
        await until(lambda: first.mempool.size == 1)
        await second.mine(mine_block(world.spec, blocks[-1], [transfer]))
        await until(lambda: first.tip_id == second.tip_id and first.mempool.size == 0)
