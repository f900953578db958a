"""Peers that lie, stall, flood or tempt: what that costs, and that the network converges all the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from consensus.block import Witness
from consensus.transaction import encode_signed
from node.p2p import claims
from tests.builders import (
    ALICE,
    BOB,
    build_header,
    build_transfer,
    finish_block,
    mine_block,
    mine_blocks,
)
from tests.node.p2p.conftest import StartNode
from tests.node.p2p.world import FALSE_MARK, FakePeer, Node, World, has_judged, make_twin, until


async def start_three(start_node: StartNode) -> list[Node]:
    """Three nodes, each connected with the two others."""
    nodes = [await start_node(1)]
    nodes += [await start_node(number, nodes[0].url) for number in (2, 3)]
    await until(lambda: all(len(node.peer_urls) == 2 for node in nodes))
    return nodes


async def test_false_block_is_refused_by_all_and_its_sender_barred(
    world: World, start_node: StartNode
) -> None:
    nodes = await start_three(start_node)
    block = mine_block(world.spec, world.genesis)
    liar = FakePeer(world, 7)
    liar.claim([make_twin(world, block, FALSE_MARK)])

    for node in nodes:
        await liar.greet(node)

    for node in nodes:
        await until(partial(has_judged, node, liar))
        answer = await liar.greet(node)
        assert (answer.status_code, answer.json()["code"]) == (403, "barred")
    assert [node.height for node in nodes] == [0, 0, 0]
    # The id stays open: the true block of that header is taken.
    await nodes[0].mine(block)
    await until(lambda: all(node.tip_id == block.block_id for node in nodes))


async def test_bar_ends_after_its_time(world: World, start_node: StartNode) -> None:
    node = await start_node(1, bar_seconds=0.1)
    liar = FakePeer(world, 7)
    liar.claim([mine_block(world.spec, world.genesis, mark=FALSE_MARK)])
    await liar.greet(node)
    await until(lambda: node.importer.evaluated == 1)
    honest = mine_block(world.spec, world.genesis)

    liar.claim([honest])
    async with asyncio.timeout(5):
        while (await liar.greet(node)).status_code != 200:
            await asyncio.sleep(0.02)

    await until(lambda: node.tip_id == honest.block_id)


async def test_configured_liar_is_dropped_and_retried(world: World, start_node: StartNode) -> None:
    liar = FakePeer(world, 7)
    liar.claim([mine_block(world.spec, world.genesis, mark=FALSE_MARK)])
    node = await start_node(1, liar.url)
    await until(lambda: node.importer.evaluated >= 1)

    honest = mine_block(world.spec, world.genesis, nonce=1)
    liar.claim([honest])

    await until(lambda: node.tip_id == honest.block_id)
    assert (await liar.greet(node)).status_code == 200


async def test_second_peer_delivers_what_the_first_falsified(world: World, start_node: StartNode) -> None:
    block = mine_block(world.spec, world.genesis)
    liar, honest = FakePeer(world, 7), FakePeer(world, 8)
    liar.claim([make_twin(world, block, FALSE_MARK)])
    honest.claim([block])
    node = await start_node(1)

    await liar.greet(node)
    await until(lambda: node.importer.evaluated == 1)
    await honest.greet(node)

    await until(lambda: node.tip_id == block.block_id)
    assert honest.url in node.peer_urls


@pytest.mark.parametrize("served", ["nothing", "another block", "garbage", "too long"])
async def test_peer_that_does_not_deliver_is_left_for_one_that_does(
    world: World, start_node: StartNode, served: str
) -> None:
    blocks = mine_blocks(world.spec, world.genesis, 2)
    useless, honest = FakePeer(world, 7), FakePeer(world, 8)
    useless.claim(blocks, serve=False)
    answers = {
        "another block": blocks[1].raw,
        "garbage": b"\0" * 500,
        "too long": b"\0" * (world.spec.limits.max_block_bytes + 1),
    }
    if served in answers:
        useless.blocks[blocks[0].block_id.hex()] = answers[served]
    honest.claim(blocks)
    node = await start_node(1, useless.url)
    await until(lambda: any(path.startswith("/blocks/") for path in useless.asked))

    node.network.add_peer(honest.url)

    await until(lambda: node.tip_id == blocks[-1].block_id)
    assert node.importer.evaluated == 2


async def test_headers_that_break_a_rule_bar_their_sender(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    liar = FakePeer(world, 7)
    header = replace(build_header(world.spec, world.genesis), difficulty=1)
    liar.claim([finish_block(world.spec, world.genesis, header)])

    await liar.greet(node)

    await until(lambda: liar.asked.count("/headers") == 1)
    async with asyncio.timeout(5):
        while (await liar.greet(node)).status_code != 403:
            await asyncio.sleep(0.01)
    assert node.importer.evaluated == 0


async def test_headers_from_the_future_are_no_lie(world: World, start_node: StartNode) -> None:
    peer = FakePeer(world, 7)
    block = mine_block(world.spec, world.genesis)
    node = await start_node(1, poll_seconds=0.02)
    node.clock.now_seconds = block.header.timestamp - 100
    peer.claim([block])
    node.network.add_peer(peer.url)
    await until(lambda: peer.asked.count("/headers") >= 2)
    assert (node.height, node.get_peer(peer.url).state) == (0, "connected")

    node.clock.advance(100)

    await until(lambda: node.tip_id == block.block_id)


async def test_flood_of_unverified_headers_is_bounded(
    world: World, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "MAX_CLAIMED_HEADERS", 50)
    flooder = FakePeer(world, 7)
    flooder.claim(mine_blocks(world.spec, world.genesis, 200), serve=False)
    node = await start_node(1, flooder.url, poll_seconds=0.02)

    await until(lambda: flooder.asked.count("/headers") >= 4)

    (peer,) = node.network._connections.peers
    assert peer.claim is None or peer.claim.pending_count <= 50
    assert (node.height, node.importer.evaluated) == (0, 0)


async def test_claim_longer_than_the_bound_is_worked_off_in_steps(
    world: World, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "MAX_CLAIMED_HEADERS", 5)
    peer = FakePeer(world, 7)
    blocks = mine_blocks(world.spec, world.genesis, 23)
    peer.claim(blocks)

    node = await start_node(1, peer.url, poll_seconds=0.02)

    await until(lambda: node.tip_id == blocks[-1].block_id)


async def test_twin_of_a_known_block_costs_no_evaluation(world: World, start_node: StartNode) -> None:
    node = await start_node(1, poll_seconds=0.02)
    block = mine_block(world.spec, world.genesis)
    await node.mine(block)
    peer = FakePeer(world, 7)
    peer.claim([make_twin(world, block)])

    node.network.add_peer(peer.url)
    await until(lambda: peer.asked.count("/headers") >= 2)
    await peer.greet(node)
    await peer.announce(node, block)
    await until(lambda: peer.asked.count("/headers") >= 3)

    assert (node.importer.evaluated, node.importer.twins_evaluated) == (1, 0)
    assert not any(path.startswith("/blocks/") for path in peer.asked)


async def test_network_converges_on_a_child_that_commits_to_a_twin(
    world: World, start_node: StartNode
) -> None:
    first, second = await start_node(1), await start_node(2)
    parent = mine_block(world.spec, world.genesis)
    twin = make_twin(world, parent)
    await first.mine(parent)
    await second.mine(twin)
    second.network.add_peer(first.url)
    await until(lambda: first.peer_urls and second.peer_urls)
    assert (first.importer.evaluated, second.importer.evaluated) == (1, 1)

    child = mine_block(world.spec, twin)
    await second.mine(child)
    await until(lambda: first.tip_id == child.block_id)

    assert (first.importer.evaluated, first.importer.twins_evaluated) == (2, 1)
    assert (second.importer.evaluated, second.importer.twins_evaluated) == (2, 0)
    # Whoever comes now gets the committed witness at once.
    late = await start_node(3, first.url)
    await until(lambda: late.tip_id == child.block_id)
    assert late.importer.twins_evaluated == 0


async def test_withheld_parent_witness_is_asked_of_others(world: World, start_node: StartNode) -> None:
    parent = mine_block(world.spec, world.genesis)
    twin = make_twin(world, parent)
    child = mine_block(world.spec, twin)
    node = await start_node(1, poll_seconds=0.05)
    await node.mine(parent)
    withholder, holder = FakePeer(world, 7), FakePeer(world, 8)
    withholder.claim([parent, child])
    node.network.add_peer(withholder.url)
    name = f"{parent.block_id.hex()}/{twin.witness.witness_id.hex()}"
    await until(lambda: f"/blocks/{parent.block_id.hex()}" in withholder.asked)
    assert node.height == 1

    holder.blocks[name] = twin.raw
    node.network.add_peer(holder.url)

    await until(lambda: node.tip_id == child.block_id)
    # However often it came, the child itself was evaluated once.
    assert (node.importer.evaluated, node.importer.twins_evaluated) == (2, 1)


async def test_peer_that_sits_on_the_parent_witness_is_not_waited_for(
    world: World, start_node: StartNode
) -> None:
    parent = mine_block(world.spec, world.genesis)
    twin = make_twin(world, parent)
    child = mine_block(world.spec, twin)
    node = await start_node(1)
    await node.mine(parent)
    staller, holder = FakePeer(world, 7), FakePeer(world, 8)
    staller.claim([parent, child])
    staller.stall = {parent.block_id.hex()}
    holder.blocks[f"{parent.block_id.hex()}/{twin.witness.witness_id.hex()}"] = twin.raw
    node.network.add_peer(holder.url)
    await until(lambda: holder.url in node.peer_urls)

    node.network.add_peer(staller.url)

    await until(lambda: node.tip_id == child.block_id)
    assert f"/blocks/{parent.block_id.hex()}" in staller.asked


async def test_wrong_parent_witness_condemns_the_child_everywhere(
    world: World, start_node: StartNode
) -> None:
    parent = mine_block(world.spec, world.genesis)
    false = make_twin(world, parent, FALSE_MARK)
    child = mine_block(world.spec, parent, parent_witness=false.witness.witness_id)
    node = await start_node(1)
    await node.mine(parent)
    liar = FakePeer(world, 7)
    liar.claim([parent, child])
    liar.blocks[f"{parent.block_id.hex()}/{false.witness.witness_id.hex()}"] = false.raw

    await liar.greet(node)

    await until(lambda: node.chain.is_condemned(child.block_id))
    await until(lambda: liar.url not in node.peer_urls)
    # Another peer that tells the same chain needs no second evaluation to be found out.
    follower = FakePeer(world, 8)
    follower.claim([parent, child])
    await follower.greet(node)
    await until(lambda: follower.asked.count("/headers") >= 1 and follower.url not in node.peer_urls)
    assert (node.height, node.importer.twins_evaluated) == (1, 1)


async def test_witness_under_a_wrong_name_bars_its_sender(world: World, start_node: StartNode) -> None:
    parent = mine_block(world.spec, world.genesis)
    twin = make_twin(world, parent)
    child = mine_block(world.spec, twin)
    node = await start_node(1)
    await node.mine(parent)
    liar = FakePeer(world, 7)
    liar.claim([parent, child])
    liar.blocks[f"{parent.block_id.hex()}/{twin.witness.witness_id.hex()}"] = parent.raw

    await liar.greet(node)

    await until(lambda: node.importer.evaluated == 2)
    await until(lambda: liar.url not in node.peer_urls)
    assert (await liar.greet(node)).status_code == 403
    assert not node.chain.is_condemned(child.block_id)


async def test_block_whose_transfers_break_the_ledger_is_refused(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    spend = build_transfer(world.spec, ALICE, BOB.public, nonce=5)
    liar = FakePeer(world, 7)
    block = mine_block(world.spec, world.genesis, [spend])
    liar.claim([block])

    await liar.greet(node)

    await until(lambda: node.chain.is_condemned(block.block_id))
    await until(lambda: liar.url not in node.peer_urls)
    assert node.importer.evaluated == 0


@pytest.mark.parametrize("way", ["push", "mempool"])
async def test_false_transfer_bars_its_sender(world: World, start_node: StartNode, way: str) -> None:
    node = await start_node(1)
    good = build_transfer(world.spec, ALICE, BOB.public)
    forged = replace(build_transfer(world.spec, ALICE, BOB.public, nonce=1), signature=bytes(64))
    body = encode_signed(good) + encode_signed(forged)
    peer = FakePeer(world, 7)
    if way == "mempool":
        peer.transfers = body
    await peer.greet(node)

    if way == "push":
        answer = await peer.ask(node, "POST", "/transactions", content=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "false-transfer")

    async with asyncio.timeout(5):
        while (await peer.greet(node)).status_code != 403:
            await asyncio.sleep(0.01)
    assert node.mempool.size == 1


async def test_transfer_that_the_ledger_refuses_is_no_lie(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    peer = FakePeer(world, 7)
    await peer.greet(node)
    late = build_transfer(world.spec, ALICE, BOB.public, amount=10**9)

    answer = await peer.ask(node, "POST", "/transactions", content=encode_signed(late))

    assert answer.status_code == 204
    assert node.mempool.size == 0
    assert (await peer.ask(node, "GET", "/addresses")).status_code == 200


async def test_claims_on_counts_that_the_rung_forbids_bar_their_sender(
    world: World, start_node: StartNode
) -> None:
    node = await start_node(1)
    liar = FakePeer(world, 7)
    block = mine_block(world.spec, world.genesis)
    liar.claim([block.with_witness(Witness(0, 0, block.witness.solution))])

    await liar.greet(node)

    await until(lambda: any(path.startswith("/blocks/") for path in liar.asked))
    await until(lambda: liar.url not in node.peer_urls)
    assert node.importer.evaluated == 0
