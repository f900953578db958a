"""Who may ask and who is asked: handshake, sessions, bans, private addresses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders import mine_block
from tests.node.p2p.conftest import StartNode
from tests.node.p2p.world import FakePeer, World, until

LOCATOR = {"locator": ["00" * 32]}


async def test_handshake_tells_who_is_there(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    await node.mine(mine_block(world.spec, world.genesis))

    answer = await FakePeer(world, 7).greet(node)

    assert answer.status_code == 200
    assert answer.json() == {
        "protocol": 1,
        "chain_id": world.spec.chain_id.hex(),
        "node_id": node.settings.node_id,
        "listen_url": node.url,
        "height": 1,
    }


@pytest.mark.parametrize(
    ("field", "value", "code"), [("chain_id", "ab" * 32, "other-chain"), ("protocol", 2, "other-protocol")]
)
async def test_rejects_handshake_of_another_kind(
    world: World, start_node: StartNode, field: str, value: Any, code: str
) -> None:
    node = await start_node(1)
    stranger = FakePeer(world, 7)
    setattr(stranger, field, value)

    answer = await stranger.greet(node)

    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert (await stranger.ask(node, "POST", "/headers", json=LOCATOR)).status_code == 401


@pytest.mark.parametrize(
    ("field", "value", "code"), [("chain_id", "ab" * 32, "other-chain"), ("protocol", 2, "other-protocol")]
)
async def test_rejects_peer_of_another_kind(
    world: World, start_node: StartNode, field: str, value: Any, code: str
) -> None:
    stranger = FakePeer(world, 7)
    setattr(stranger, field, value)

    node = await start_node(1, stranger.url)

    await until(lambda: code in str(node.get_peer(stranger.url).problem))
    assert set(stranger.asked) == {"/handshake"}


@pytest.mark.parametrize(
    "change",
    [
        {"node_id": "short"},
        {"height": -1},
        {"chain_id": None},
        {"listen_url": "ftp://10.0.0.9"},
        {"listen_url": "http://10.0.0.9/path"},
        {"listen_url": "x" * 300},
    ],
)
async def test_rejects_malformed_handshake(
    world: World, start_node: StartNode, change: dict[str, Any]
) -> None:
    node = await start_node(1)
    stranger = FakePeer(world, 7)

    answer = await stranger.ask(node, "POST", "/handshake", json=stranger.build_hello() | change)

    assert (answer.status_code, answer.json()["code"]) == (400, "undecodable")


async def test_rejects_requests_without_handshake(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    stranger = FakePeer(world, 7)
    for method, path in [
        ("POST", "/headers"),
        ("GET", f"/blocks/{'00' * 32}"),
        ("POST", "/announce"),
        ("GET", "/transactions"),
        ("POST", "/transactions"),
        ("GET", "/addresses"),
    ]:
        answer = await stranger.ask(node, method, path)
        assert (answer.status_code, answer.json()["code"]) == (401, "handshake-required"), path


async def test_rejects_node_id_from_another_host(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    honest = FakePeer(world, 7)
    await honest.greet(node)
    thief = FakePeer(world, 8)
    thief.node_id = honest.node_id

    assert (await thief.ask(node, "GET", "/addresses")).status_code == 401
    assert (await honest.ask(node, "GET", "/addresses")).status_code == 200


async def test_forgotten_session_is_renewed_by_itself(world: World, start_node: StartNode) -> None:
    first, second = await start_node(1), await start_node(2, "http://10.0.0.1", poll_seconds=0.05)
    await until(lambda: second.peer_urls)

    first.network._gate._sessions.clear()
    block = mine_block(world.spec, world.genesis)
    await first.mine(block)

    await until(lambda: second.tip_id == block.block_id)


async def test_stranger_is_dialled_back_only_to_shake_hands(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    stranger = FakePeer(world, 7)
    stranger.chain_id = "ab" * 32
    victim = FakePeer(world, 8)
    visitor = FakePeer(world, 9)
    visitor.listen_url = victim.url
    victim.chain_id = "ab" * 32

    await visitor.greet(node)

    await until(lambda: victim.asked)
    await until(lambda: victim.url not in node.peer_urls)
    assert set(victim.asked) == {"/handshake"}


async def test_private_addresses_of_strangers_are_not_dialled(world: World, start_node: StartNode) -> None:
    public = FakePeer(world, 7, host="8.8.8.8")
    private = FakePeer(world, 8)
    public.addresses = [
        private.url,
        "http://localhost:9",
        "http://[::1]:9",
        "http://169.254.1.1",
        "not a url",
    ]

    node = await start_node(1, public.url, allow_private_peers=False)
    await until(lambda: "/addresses" in public.asked)
    private.listen_url = private.url
    await private.greet(node)
    public.claim([mine_block(world.spec, world.genesis)])
    await public.greet(node)
    await public.announce(node, mine_block(world.spec, world.genesis))
    await until(lambda: node.height == 1)

    assert private.asked == []
    assert {peer.url for peer in node.network.list_peers()} == {public.url}


async def test_node_does_not_connect_with_itself(world: World, start_node: StartNode) -> None:
    world.apps["10.0.0.99"] = lambda *args: world.apps["10.0.0.1"](*args)

    node = await start_node(1, "http://10.0.0.99")

    await until(lambda: node.get_peer("http://10.0.0.99").problem == "this node itself")
    assert not node.peer_urls


async def test_one_node_under_two_urls_is_one_peer(world: World, start_node: StartNode) -> None:
    first = await start_node(1, outbound_target=0)
    world.apps["10.0.0.99"] = lambda *args: world.apps["10.0.0.1"](*args)

    second = await start_node(2, "http://10.0.0.99", first.url)

    await until(lambda: second.peer_urls == {first.url})
    await until(lambda: second.get_peer("http://10.0.0.99").problem == f"connected as {first.url}")


async def test_banned_peer_is_refused_both_ways(world: World, start_node: StartNode) -> None:
    peer = FakePeer(world, 7)
    node = await start_node(1, peer.url)
    await until(lambda: node.peer_urls)

    node.network.ban(peer.url)

    await until(lambda: not node.peer_urls)
    assert node.get_peer(peer.url).state == "barred"
    answer = await peer.greet(node)
    assert (answer.status_code, answer.json()["code"]) == (403, "barred")
    with pytest.raises(ValueError, match="not an http"):
        node.network.ban("nonsense")


async def test_answers_refused_by_the_operator_name_the_partition(
    world: World, start_node: StartNode
) -> None:
    node = await start_node(1)
    peer = FakePeer(world, 7)
    await peer.greet(node)

    node.network.set_blocked([peer.node_id])

    for answer in (await peer.greet(node), await peer.ask(node, "GET", "/addresses")):
        assert (answer.status_code, answer.json()["code"]) == (403, "partitioned")
        assert answer.headers["content-type"] == "application/problem+json"


async def test_answers_blocks_and_headers(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    block = mine_block(world.spec, world.genesis)
    await node.mine(block)
    peer = FakePeer(world, 7)
    await peer.greet(node)

    path = f"/blocks/{block.block_id.hex()}"
    assert (await peer.ask(node, "GET", path)).content == block.raw
    witness = {"witness": block.witness.witness_id.hex()}
    assert (await peer.ask(node, "GET", path, params=witness)).content == block.raw
    for wrong, params, code in [
        (f"/blocks/{'ab' * 32}", {}, "unknown-block"),
        (path, {"witness": "ab" * 32}, "unknown-witness"),
        ("/blocks/xyz", {}, "undecodable"),
    ]:
        answer = await peer.ask(node, "GET", wrong, params=params)
        assert answer.json()["code"] == code
    locator = {"locator": [world.genesis.block_id.hex()]}
    headers = await peer.ask(node, "POST", "/headers", json=locator)
    assert headers.content == block.raw[:190]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"locator": []}', b'{"locator": ["zz"]}', b"\xff"])
async def test_rejects_malformed_locator(world: World, start_node: StartNode, body: bytes) -> None:
    node = await start_node(1)
    peer = FakePeer(world, 7)
    await peer.greet(node)

    answer = await peer.ask(node, "POST", "/headers", content=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "undecodable")


async def test_rejects_announcement_of_another_kind(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    peer = FakePeer(world, 7)
    await peer.greet(node)

    body = json.dumps({"kind": "gossip", "id": "00" * 32})
    assert (await peer.ask(node, "POST", "/announce", content=body)).status_code == 400
