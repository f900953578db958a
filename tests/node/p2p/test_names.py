"""Names that others go by: what node ids, URLs and hosts are worth, and what a liar gains by many."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from consensus.transaction import encode_signed
from node.p2p.limits import MAX_PEERS_PER_HOST
from tests.builders import (
    ALICE,
    BOB,
    build_transfer,
    mine_block,
    mine_blocks,
)
from tests.node.p2p.conftest import StartNode
from tests.node.p2p.world import FALSE_MARK, FakePeer, World, has_judged, make_twin, until


async def test_stranger_under_a_node_s_name_does_not_take_its_place(
    world: World, start_node: StartNode
) -> None:
    honest = await start_node(1)
    blocks = mine_blocks(world.spec, world.genesis, 2)
    impostor = FakePeer(world, 7)
    impostor.node_id = honest.settings.node_id
    node = await start_node(2, impostor.url)
    await until(lambda: node.peer_urls == {impostor.url})

    await honest.mine(*blocks)
    node.network.add_peer(honest.url)

    await until(lambda: node.tip_id == blocks[-1].block_id)


@pytest.mark.parametrize("host", ["999.1.1.1", "a..b", "xn--a", "a<b"])
@pytest.mark.parametrize("allow_private_peers", [True, False])
async def test_url_that_leads_nowhere_does_not_stop_the_node(
    world: World, start_node: StartNode, host: str, allow_private_peers: bool
) -> None:
    peer = FakePeer(world, 7)
    peer.addresses = [f"http://{host}:8000"]
    node = await start_node(1, peer.url, allow_private_peers=allow_private_peers)
    await until(lambda: "/addresses" in peer.asked)
    visitor = FakePeer(world, 8)
    visitor.listen_url = f"http://{host}"
    await visitor.greet(node)
    block = mine_block(world.spec, world.genesis)
    peer.claim([block])

    await peer.announce(node, block)
    await peer.greet(node)
    await peer.announce(node, block)

    await until(lambda: node.tip_id == block.block_id)
    assert node.failures == []


async def test_peer_that_names_no_number_as_its_wait_does_not_stop_the_node(
    world: World, start_node: StartNode
) -> None:
    peer = FakePeer(world, 7)
    asked = asyncio.Event()

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await Response(status_code=429, headers={"Retry-After": "nan"})(scope, receive, send)

    world.apps[peer.host] = refuse
    node = await start_node(1, peer.url)
    async with asyncio.timeout(5):
        await asked.wait()
    other = FakePeer(world, 8)
    other.claim([block := mine_block(world.spec, world.genesis)])
    node.network.add_peer(other.url)

    await until(lambda: node.tip_id == block.block_id)
    assert node.failures == []


async def test_liar_is_barred_under_all_its_names(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    liars = [FakePeer(world, number, host=f"liar-{number}.example") for number in (7, 8)]
    world.names |= {liar.host: "10.0.0.7" for liar in liars}
    block = mine_block(world.spec, world.genesis)
    for liar in liars:
        liar.claim([block.with_witness(make_twin(world, block, FALSE_MARK).witness)])
    await liars[0].greet(node)
    await until(lambda: has_judged(node, liars[0]))

    await liars[1].greet(node)
    await until(lambda: "/handshake" in liars[1].asked)
    honest = FakePeer(world, 9)
    honest.claim([block])
    await honest.greet(node)
    await until(lambda: node.tip_id == block.block_id)

    assert set(liars[1].asked) == {"/handshake"}
    assert node.importer.evaluated == 2


async def test_name_that_begins_to_lead_elsewhere_blames_nobody_else(
    world: World, start_node: StartNode
) -> None:
    node = await start_node(1)
    honest, liar = FakePeer(world, 9), FakePeer(world, 7, host="liar.example")
    world.names[liar.host] = honest.host
    await liar.greet(node)
    await until(lambda: liar.url in node.peer_urls)
    block = mine_block(world.spec, world.genesis)
    liar.claim([block.with_witness(make_twin(world, block, FALSE_MARK).witness)])

    world.names[liar.host] = "10.0.0.7"
    await liar.announce(node, block)
    await until(lambda: liar.url not in node.peer_urls)
    honest.claim([block])
    await honest.greet(node)

    await until(lambda: node.tip_id == block.block_id)


@pytest.mark.parametrize("address", ["10.0.0.7", "2001:db8:1:2::{number}"])
async def test_one_host_takes_few_places(world: World, start_node: StartNode, address: str) -> None:
    node = await start_node(1, max_peers=6)
    crowd = [FakePeer(world, number, host=f"crowd-{number}.example") for number in range(20, 26)]
    world.names |= {peer.host: address.format(number=number) for number, peer in enumerate(crowd)}
    for peer in crowd:
        await peer.greet(node)
    await until(lambda: all("/handshake" in peer.asked for peer in crowd))

    honest = FakePeer(world, 9)
    await honest.greet(node)

    await until(lambda: honest.url in node.peer_urls)
    assert len(node.peer_urls & {peer.url for peer in crowd}) == MAX_PEERS_PER_HOST


async def test_stranger_under_a_peer_s_name_does_not_cut_it_off_from_news(
    world: World, start_node: StartNode
) -> None:
    honest, stranger = FakePeer(world, 9), FakePeer(world, 7)
    node = await start_node(1, honest.url)
    await until(lambda: "/transactions" in honest.asked and "/headers" in honest.asked)
    honest.asked.clear()
    stranger.node_id, stranger.listen_url = honest.node_id, honest.url
    await stranger.greet(node)
    signed = build_transfer(world.spec, ALICE, BOB.public)
    block = mine_block(world.spec, world.genesis)

    await stranger.ask(node, "POST", "/transactions", content=encode_signed(signed))
    await stranger.announce(node, block)
    await node.mine(block)

    await until(lambda: {"/transactions", "/announce"} <= set(honest.asked))
