"""Catching up, relay, partition and heal, among honest nodes."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from consensus.encoding import Hash32
from node.p2p import client, sync
from node.p2p import routes as routes_module
from tests.builders import ALICE, BOB, build_transfer, mine_block, mine_blocks
from tests.node.p2p.conftest import StartNode
from tests.node.p2p.world import FakePeer, Node, World, until


def have_tip(nodes: list[Node], block_id: Hash32) -> bool:
    return all(node.tip_id == block_id for node in nodes)


async def test_late_node_catches_up(world: World, start_node: StartNode) -> None:
    first = await start_node(1)
    blocks = mine_blocks(world.spec, world.genesis, 40)
    await first.mine(*blocks)

    late = await start_node(2, first.url)

    await until(lambda: late.tip_id == blocks[-1].block_id)
    assert late.importer.evaluated == 40
    await until(lambda: late.network.is_synced and first.network.is_synced)


async def test_node_catches_up_over_several_answers_of_headers(
    world: World, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (client, sync, routes_module):
        monkeypatch.setattr(module, "MAX_HEADERS", 7)
    first = await start_node(1)
    blocks = mine_blocks(world.spec, world.genesis, 40)
    await first.mine(*blocks)

    late = await start_node(2, first.url)

    await until(lambda: late.tip_id == blocks[-1].block_id)


async def test_block_reaches_nodes_that_are_not_connected_with_its_first(
    world: World, start_node: StartNode
) -> None:
    line = [
        await start_node(n, *([f"http://10.0.0.{n - 1}"] if n > 1 else []), outbound_target=0)
        for n in (1, 2, 3)
    ]
    await until(lambda: [len(node.peer_urls) for node in line] == [1, 2, 1])
    block = mine_block(world.spec, world.genesis)

    await line[0].mine(block)

    await until(lambda: all(node.tip_id == block.block_id for node in line))
    assert [node.importer.evaluated for node in line] == [1, 1, 1]


async def test_nodes_learn_of_each_other(world: World, start_node: StartNode) -> None:
    nodes = [await start_node(1), await start_node(2, "http://10.0.0.1")]
    await until(lambda: nodes[0].peer_urls)
    nodes.append(await start_node(3, "http://10.0.0.1"))

    await until(lambda: all(len(node.peer_urls) == 2 for node in nodes))


async def test_many_blocks_in_a_row_reach_everybody(world: World, start_node: StartNode) -> None:
    nodes = [
        await start_node(1),
        await start_node(2, "http://10.0.0.1"),
        await start_node(3, "http://10.0.0.1"),
    ]
    await until(lambda: all(len(node.peer_urls) == 2 for node in nodes))
    tip = world.genesis
    for height in range(12):
        tip = mine_block(world.spec, tip)
        await nodes[height % 3].mine(tip)
        await until(partial(have_tip, nodes, tip.block_id))

    assert [node.importer.evaluated for node in nodes] == [12, 12, 12]


async def test_partition_and_heal_converge_to_the_heavier(world: World, start_node: StartNode) -> None:
    nodes = [
        await start_node(1),
        await start_node(2, "http://10.0.0.1"),
        await start_node(3, "http://10.0.0.1"),
    ]
    await until(lambda: all(len(node.peer_urls) == 2 for node in nodes))
    here, there, alone = nodes
    alone_urls, others = [alone.url], [here.url, there.url]
    for node, blocked in ((here, alone_urls), (there, alone_urls), (alone, others)):
        node.network.set_blocked(blocked)
    await until(lambda: [len(node.peer_urls) for node in nodes] == [1, 1, 0])
    heavier = mine_blocks(world.spec, world.genesis, 3, nonce=1)
    lighter = mine_blocks(world.spec, world.genesis, 2, nonce=2)

    await here.mine(*heavier)
    await alone.mine(*lighter)
    await until(lambda: there.tip_id == heavier[-1].block_id)
    assert alone.tip_id == lighter[-1].block_id
    assert alone.get_peer(here.url).state == "partitioned"
    for node in nodes:
        node.network.set_blocked([])

    await until(lambda: all(node.tip_id == heavier[-1].block_id for node in nodes))
    await until(lambda: all(len(node.peer_urls) == 2 for node in nodes))


async def test_partition_on_one_side_alone_refuses_both_ways(world: World, start_node: StartNode) -> None:
    first, second = await start_node(1), await start_node(2, "http://10.0.0.1")
    await until(lambda: first.peer_urls and second.peer_urls)

    first.network.set_blocked([second.url])
    block = mine_block(world.spec, world.genesis)
    await second.mine(block)

    await until(lambda: not first.peer_urls and not second.peer_urls)
    await until(lambda: "partitioned" in str(second.get_peer(first.url).problem))
    assert first.height == 0
    first.network.set_blocked([])
    await until(lambda: first.tip_id == block.block_id)


async def test_restarted_peer_is_found_again(world: World, start_node: StartNode) -> None:
    first, second = await start_node(1), await start_node(2, "http://10.0.0.1", poll_seconds=0.05)
    await until(lambda: second.peer_urls)
    app = world.apps.pop(first.host)
    await until(lambda: not second.peer_urls)
    assert second.get_peer(first.url).state == "idle"

    world.apps[first.host] = app

    await until(lambda: second.peer_urls)


async def test_stalled_peer_is_replaced(world: World, start_node: StartNode) -> None:
    blocks = mine_blocks(world.spec, world.genesis, 3)
    staller = FakePeer(world, 7)
    staller.claim(blocks)
    staller.stall = {block.block_id.hex() for block in blocks}
    honest = await start_node(1)
    node = await start_node(2, staller.url)
    await until(lambda: any(path.startswith("/blocks/") for path in staller.asked))

    await honest.mine(*blocks)
    node.network.add_peer(honest.url)

    await until(lambda: node.tip_id == blocks[-1].block_id)
    assert node.importer.evaluated == 3


async def test_transfers_reach_every_mempool_and_are_mined(world: World, start_node: StartNode) -> None:
    nodes = [
        await start_node(n, *([f"http://10.0.0.{n - 1}"] if n > 1 else []), outbound_target=0) for n in (1, 2)
    ]
    await until(lambda: all(node.peer_urls for node in nodes))
    transfers = [build_transfer(world.spec, ALICE, BOB.public, nonce=nonce) for nonce in range(3)]

    for signed in transfers:
        nodes[0].network.announce_transaction(nodes[0].mempool.add(signed))
    await until(lambda: nodes[1].mempool.size == 3)
    # A node that comes later gets what already waits.
    nodes.append(await start_node(3, "http://10.0.0.2", outbound_target=0))
    await until(lambda: nodes[2].mempool.size == 3)
    await nodes[2].mine(mine_block(world.spec, world.genesis, nodes[2].mempool.select(8)))

    await until(lambda: all(node.height == 1 and node.mempool.size == 0 for node in nodes))


async def test_node_without_evaluator_follows_headers_only(world: World, start_node: StartNode) -> None:
    first = await start_node(1)
    await first.mine(*mine_blocks(world.spec, world.genesis, 5))
    late = await start_node(2, poll_seconds=0.05)
    late.evaluator.is_ready = False
    late.network.add_peer(first.url)

    await until(lambda: late.peer_urls and late.get_peer(first.url).height == 5)
    assert not late.network.is_synced
    assert late.height == 0
    late.evaluator.is_ready = True

    await until(lambda: late.height == 5 and late.network.is_synced)


async def test_equal_branch_is_evaluated_but_keeps_the_first_tip(world: World, start_node: StartNode) -> None:
    nodes = [await start_node(1), await start_node(2)]
    rivals = [mine_block(world.spec, world.genesis, nonce=nonce) for nonce in (1, 2)]
    for node, block in zip(nodes, rivals, strict=True):
        await node.mine(block)

    nodes[1].network.add_peer(nodes[0].url)

    await until(lambda: all(node.importer.evaluated == 2 for node in nodes))
    assert [node.tip_id for node in nodes] == [block.block_id for block in rivals]
    # The next block settles it, and its parent is there already.
    child = mine_block(world.spec, rivals[0])
    await nodes[0].mine(child)
    await until(lambda: nodes[1].tip_id == child.block_id)


async def test_branch_with_too_little_work_is_put_off(world: World, start_node: StartNode) -> None:
    strong = await start_node(1, poll_seconds=0.05)
    await strong.mine(*mine_blocks(world.spec, world.genesis, 5))
    weak = FakePeer(world, 7)
    weak.claim(mine_blocks(world.spec, world.genesis, 3, nonce=1))

    strong.network.add_peer(weak.url)

    await until(lambda: weak.asked.count("/headers") >= 3)
    assert not any(path.startswith("/blocks/") for path in weak.asked)
    assert strong.importer.evaluated == 5
    assert strong.network.is_synced


async def test_stop_leaves_nothing_running(world: World, start_node: StartNode) -> None:
    first, second = await start_node(1), await start_node(2, "http://10.0.0.1")
    await until(lambda: first.peer_urls and second.peer_urls)

    for node in (first, second):
        await node.stop()

    assert asyncio.all_tasks() == {asyncio.current_task()}
