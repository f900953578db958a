"""What a name leads to, and the chain in numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.address import encode_address
from consensus.ledger import compute_reward
from node.routes.stats import compute_supply
from tests.builders import ALICE, BOB, MINER, build_spec, build_transfer, mine_block
from tests.node.rest.conftest import TestNode, assert_problem


async def test_search_finds_blocks_transfers_and_addresses(node: TestNode) -> None:
    mined, waiting = (build_transfer(node.spec, ALICE, BOB.public, nonce=nonce) for nonce in (0, 1))
    (block,) = await node.mine(1, [mined])
    node.runtime.mempool.add(waiting)
    side = mine_block(node.spec, node.tip, nonce=7)
    await node.submit(side)
    address = encode_address(BOB.public)
    block_id = block.block_id.hex()
    expected = {
        "1": ("block", block_id),
        block_id: ("block", block_id),
        f" {block_id.upper()} ": ("block", block_id),
        side.block_id.hex(): ("block", side.block_id.hex()),
        mined.tx_id.hex(): ("transaction", mined.tx_id.hex()),
        waiting.tx_id.hex(): ("transaction", waiting.tx_id.hex()),
        address: ("address", address),
    }
    for question, (kind, name) in expected.items():
        (found,) = (await node.get("/v1/search", q=question))["items"]
        assert (found["kind"], found["id"]) == (kind, name), question
        assert (await node.client.get(found["url"])).status_code == 200, found["url"]


@pytest.mark.parametrize(
    "question", ["", "9", "4294967296", "²", "ab" * 32, "0" * 64, "fz1nobody", "tip", "<b>"]
)
async def test_search_for_what_nobody_knows_finds_nothing(node: TestNode, question: str) -> None:
    assert (await node.get("/v1/search", q=question))["items"] == []


async def test_too_long_a_question_is_refused(node: TestNode) -> None:
    assert_problem(await node.client.get("/v1/search", params={"q": "1" * 129}), 400, "bad-request")


async def test_stats_of_genesis_alone_are_empty(node: TestNode) -> None:
    stats = await node.get("/v1/stats")
    assert (stats["blocks"], stats["seconds"], stats["work"], stats["miners"]) == (0, 0, "0", [])
    assert (stats["mean_interval"], stats["power"]) == (None, None)
    assert stats["supply"] == str(sum(amount for _, amount in node.spec.params.balances))


async def test_stats_are_those_of_the_last_blocks(node: TestNode) -> None:
    transfers = [build_transfer(node.spec, ALICE, BOB.public, nonce=nonce, fee=3) for nonce in range(2)]
    blocks = [*await node.mine(2, transfers), *await node.mine(1, miner=BOB.public)]
    works = [int((await node.get(f"/v1/blocks/{height}"))["work"]) for height in (1, 2, 3)]
    whole, last = await node.get("/v1/stats"), await node.get("/v1/stats", blocks=1)
    times = [node.spec.params.genesis_timestamp, *(block.header.timestamp for block in blocks)]
    assert (whole["blocks"], whole["transactions"], whole["fees"]) == (3, 2, "6")
    assert (whole["seconds"], whole["mean_interval"]) == (times[3] - times[0], (times[3] - times[0]) / 3)
    assert (whole["work"], whole["power"]) == (str(sum(works)), sum(works) / (times[3] - times[0]))
    assert whole["miners"] == [
        {"address": encode_address(MINER), "blocks": 2},
        {"address": encode_address(BOB.public), "blocks": 1},
    ]
    assert (last["blocks"], last["seconds"], last["work"]) == (1, times[3] - times[2], str(works[2]))
    assert last["supply"] == whole["supply"]


async def test_supply_is_what_all_accounts_hold(node: TestNode) -> None:
    await node.mine(7, [build_transfer(node.spec, ALICE, BOB.public, fee=9)])
    holders = {MINER, *(key for key, _ in node.spec.params.balances), BOB.public}
    held = [int((await node.get(f"/v1/addresses/{encode_address(key)}"))["balance"]) for key in holders]
    assert (await node.get("/v1/stats"))["supply"] == str(sum(held))


@pytest.mark.parametrize("height", [0, 1, 9, 10, 11, 29, 30, 640, 1_000])
def test_supply_counts_every_reward_once(height: int) -> None:
    params = replace(build_spec().params, initial_reward=1_000, halving_interval=10, balances=())
    rewards = [compute_reward(number, 1_000, 10) for number in range(1, height + 1)]
    assert compute_supply(params, height) == sum(rewards)
