"""Blocks over REST: by height, id and tip, in pages, as bytes and as networks."""

from __future__ import annotations

import asyncio
import json

import httpx
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load
from sqlalchemy import update
from starlette.types import Message, Receive, Scope, Send

from chain.tables import witnesses
from consensus.block import decode_block
from consensus.evaluation import rebuild_network
from tests.builders import (
    ALICE,
    BOB,
    build_header,
    build_transfer,
    finish_block,
    get_rung,
    mine_block,
    solve_witness,
)
from tests.node.rest.conftest import StartNode, TestNode, assert_problem


async def test_a_block_is_told_by_height_id_and_tip(node: TestNode) -> None:
    block = (await node.mine(1, [build_transfer(node.spec, ALICE, BOB.public, fee=5)]))[0]
    answers = [await node.get(f"/v1/blocks/{name}") for name in ("1", block.block_id.hex(), "tip")]
    assert answers[0] == answers[1] == answers[2]
    answer = answers[0]
    assert answer["id"] == block.block_id.hex()
    assert (answer["height"], answer["timestamp"]) == (1, str(block.header.timestamp))
    assert (answer["fees"], answer["reward"], answer["transaction_count"]) == ("5", "5000", 1)
    assert (answer["nonce"], answer["difficulty"]) == ("0", "1600")
    assert answer["rung"]["min_train_correct"] == answer["train_correct"] == 7
    assert answer["witness_id"] == block.witness.witness_id.hex()


async def test_genesis_has_no_witness(node: TestNode) -> None:
    answer = await node.get("/v1/blocks/0")
    assert answer["id"] == node.spec.chain_id.hex()
    assert (answer["rung"], answer["witness_id"], answer["train_correct"]) == (None, None, None)
    assert answer["reward"] == "0"
    raw = await node.client.get("/v1/blocks/0/raw")
    assert decode_block(raw.content, node.spec.limits) == node.spec.genesis_block
    assert_problem(await node.client.get("/v1/blocks/0/model"), 404, "not-found")


async def test_blocks_come_in_pages_newest_first(node: TestNode) -> None:
    await node.mine(5)
    first = await node.get("/v1/blocks", limit=3)
    second = await node.get("/v1/blocks", limit=3, cursor=first["next"])
    assert [block["height"] for block in first["items"]] == [5, 4, 3]
    assert [block["height"] for block in second["items"]] == [2, 1, 0]
    assert second["next"] is None


async def test_transactions_of_a_block_come_in_pages_in_block_order(node: TestNode) -> None:
    transfers = [build_transfer(node.spec, ALICE, BOB.public, nonce=nonce) for nonce in range(3)]
    await node.mine(1, transfers)
    first = await node.get("/v1/blocks/tip/transactions", limit=2)
    second = await node.get("/v1/blocks/tip/transactions", limit=2, cursor=first["next"])
    ids = [item["id"] for item in first["items"] + second["items"]]
    assert ids == [signed.tx_id.hex() for signed in transfers]
    assert second["next"] is None


async def test_status_follows_the_chain(node: TestNode) -> None:
    first, second = await node.mine(2)
    side = mine_block(node.spec, first, nonce=7)
    await node.submit(side)
    status = await node.get("/v1/blocks/1/status")
    assert (status["status"], status["confirmations"], status["witness"]) == ("active", 1, "kept")
    assert status["children"] == [second.block_id.hex(), side.block_id.hex()]
    assert status["witness_committed"] is True
    status = await node.get(f"/v1/blocks/{side.block_id.hex()}/status")
    assert (status["status"], status["confirmations"], status["witness_committed"]) == ("side", 0, False)
    assert (await node.get("/v1/blocks/0/status"))["witness"] == "none"


async def test_raw_is_the_block_that_was_submitted(node: TestNode) -> None:
    block = (await node.mine())[0]
    response = await node.client.get("/v1/blocks/1/raw")
    assert response.content == block.raw
    assert response.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("suffix", ["", "/raw", "/model"])
async def test_a_witness_is_immutable_once_a_child_commits_to_it(node: TestNode, suffix: str) -> None:
    block = (await node.mine())[0]
    by_id, by_height = f"/v1/blocks/{block.block_id.hex()}{suffix}", f"/v1/blocks/1{suffix}"
    fresh = await node.client.get(by_id)
    assert fresh.headers["cache-control"] == "no-cache"
    await node.mine()
    settled = await node.client.get(by_id)
    assert settled.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert settled.headers["etag"] == fresh.headers["etag"]
    assert (await node.client.get(by_height)).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("suffix", ["", "/raw", "/model", "/transactions"])
async def test_a_held_answer_is_not_sent_again(node: TestNode, suffix: str) -> None:
    await node.mine()
    path = f"/v1/blocks/1{suffix}"
    etag = (await node.client.get(path)).headers["etag"]
    for held in (etag, f'"other", W/{etag}', "*"):
        again = await node.client.get(path, headers={"if-none-match": held})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await node.client.get(path, headers={"if-none-match": '"other"'})).status_code == 200


async def test_transactions_of_an_id_are_immutable_at_once(node: TestNode) -> None:
    block = (await node.mine())[0]
    response = await node.client.get(f"/v1/blocks/{block.block_id.hex()}/transactions")
    assert "immutable" in response.headers["cache-control"]


async def test_the_model_is_the_network_that_was_mined(node: TestNode) -> None:
    header = build_header(node.spec, node.tip)
    rung = get_rung(node.spec, node.tip, header)
    witness = solve_witness(node.spec, header, rung)
    # The dummy verifier wants its own mark, which is no network: the block is committed without it.
    node.verifier.check = lambda *_: None  # type: ignore[method-assign]
    assert (await node.submit(finish_block(node.spec, node.tip, header, (), witness))).status_code == 201
    tensors = load((await node.client.get("/v1/blocks/tip/model")).content)
    network = rebuild_network(node.spec.task, rung, header, witness)
    weights = [tensors[f"layers.{index}.weight"] for index in range(len(network.spec.layers))]
    assert np.array_equal(np.concatenate([weight.ravel() for weight in weights]), network.weights)
    assert weights[0].shape == (4, 1, 3, 3)
    for index, (multipliers, offsets) in enumerate(zip(network.multipliers, network.offsets, strict=True)):
        assert np.array_equal(tensors[f"layers.{index}.multiplier"], multipliers)
        assert np.array_equal(tensors[f"layers.{index}.offset"], offsets)
    assert np.array_equal(tensors[f"layers.{len(weights) - 1}.bias"], network.bias)


async def test_the_model_names_its_block(node: TestNode, tmp_path: object) -> None:
    block = (await node.mine())[0]
    path = f"{tmp_path}/network.safetensors"
    with open(path, "wb") as file:
        file.write((await node.client.get("/v1/blocks/tip/model")).content)
    with safe_open(path, framework="numpy") as opened:
        metadata = opened.metadata()
    assert metadata["block_id"] == block.block_id.hex()
    assert json.loads(metadata["network"])["hidden"] == 64


@pytest.mark.parametrize("suffix", ["raw", "model"])
async def test_rejects_a_pruned_witness(start_node: StartNode, suffix: str) -> None:
    async with start_node() as node:
        await node.mine()
        with node.runtime.store.write() as connection:
            connection.execute(update(witnesses).values(witness=None))
        assert_problem(await node.client.get(f"/v1/blocks/1/{suffix}"), 404, "witness-pruned")
        assert (await node.get("/v1/blocks/1/status"))["witness"] == "pruned"
        assert (await node.get("/v1/blocks/1"))["train_correct"] == 7


@pytest.mark.parametrize("name", ["1", "9" * 18, "4294967296", "ab" * 32])
@pytest.mark.parametrize("suffix", ["", "/raw", "/model", "/transactions", "/status"])
async def test_rejects_an_unknown_block(node: TestNode, name: str, suffix: str) -> None:
    assert_problem(await node.client.get(f"/v1/blocks/{name}{suffix}"), 404, "not-found")


@pytest.mark.parametrize("name", ["-1", "Tip", "AB" * 32, "0x1", "1" * 65, "٣", "ab"])
async def test_rejects_what_names_no_block(node: TestNode, name: str) -> None:
    assert_problem(await node.client.get(f"/v1/blocks/{name}"), 400, "bad-request")


@pytest.mark.parametrize("cursor", ["x", "", "MSwy", "LTE", "MQ==", "é", "MDE"])
async def test_rejects_a_foreign_cursor(node: TestNode, cursor: str) -> None:
    assert_problem(await node.client.get("/v1/blocks", params={"cursor": cursor}), 400, "bad-cursor")


@pytest.mark.parametrize("limit", ["0", "501", "-1", "many"])
async def test_rejects_a_limit_out_of_range(node: TestNode, limit: str) -> None:
    assert_problem(await node.client.get("/v1/blocks", params={"limit": limit}), 400, "bad-request")


async def test_rejects_more_networks_at_once_than_there_are_places(node: TestNode) -> None:
    await node.mine()
    places = node.app.state.network_places
    with places.hold("127.0.0.1"), places.hold("127.0.0.1"):
        assert_problem(await node.client.get("/v1/blocks/tip/model"), 429, "too-busy")
    assert places.held == 0


async def test_one_address_does_not_take_every_place_for_networks(node: TestNode) -> None:
    await node.mine()
    transport = httpx.ASGITransport(app=node.app, client=("192.0.2.1", 1))
    with node.app.state.network_places.hold("192.0.2.1"):
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as stranger:
            assert_problem(await stranger.get("/v1/blocks/tip/model"), 429, "too-busy")
        assert (await node.client.get("/v1/blocks/tip/model")).status_code == 200


async def test_who_does_not_read_a_network_holds_no_place(node: TestNode) -> None:
    await node.mine()
    is_sending, is_read = asyncio.Event(), asyncio.Event()

    async def answer_slowly(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_slowly(message: Message) -> None:
            is_sending.set()
            await is_read.wait()
            await send(message)

        await node.app(scope, receive, send_slowly)

    transport = httpx.ASGITransport(app=answer_slowly)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as slow, asyncio.timeout(20):
        reading = asyncio.create_task(slow.get("/v1/blocks/tip/model"))
        await is_sending.wait()
        assert node.app.state.network_places.held == 0
        is_read.set()
        assert (await reading).status_code == 200
