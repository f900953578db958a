"""The chain as a whole over REST."""

from __future__ import annotations

from consensus.dataset import decode_dataset_spec
from consensus.params import ChainSpec, decode_params
from tests.builders import ALICE, INITIAL_BALANCE, RUNGS, mine_block
from tests.node.rest.conftest import StartNode, TestNode


async def test_a_new_chain_stands_at_genesis(node: TestNode) -> None:
    state = await node.get("/v1/chain")
    assert (state["height"], state["tip"], state["chain_work"]) == (0, node.spec.chain_id.hex(), "0")
    assert state["chain_id"] == node.spec.chain_id.hex()
    assert state["difficulty"] == str(RUNGS[1].work)
    assert state["rung"] == {
        "frozen": 8_500,
        "min_train_correct": 7,
        "min_eval_correct": 3,
        "work": "1600",
    }
    assert state["synced"] is True
    assert state["at_last_rung"] is False
    assert state["datasets"] == [{"dataset_id": node.spec.task.dataset_id.hex(), "ready": True}]


async def test_the_tip_moves_with_the_chain(node: TestNode) -> None:
    *_, tip = await node.mine(2)
    state = await node.get("/v1/chain")
    assert (state["height"], state["tip"]) == (2, tip.block_id.hex())
    assert state["chain_work"] == str(tip.chain_work)
    assert state["timestamp"] == str(tip.header.timestamp)


async def test_a_stalled_chain_asks_for_less(node: TestNode) -> None:
    node.clock.advance(20 * 20)
    state = await node.get("/v1/chain")
    assert (state["rung"]["work"], state["difficulty"]) == ("1000", "1600")


async def test_the_last_rung_is_told(start_node: StartNode) -> None:
    async with start_node(changes={"initial_difficulty": RUNGS[-1].work}) as node:
        assert (await node.get("/v1/chain"))["at_last_rung"] is True
        assert "freezenet_at_last_rung 1.0" in (await node.client.get("/metrics")).text


async def test_parameters_rebuild_the_chain(node: TestNode) -> None:
    answer = await node.get("/v1/chain/params")
    params = decode_params(bytes.fromhex(answer["params_hex"]))
    rebuilt = ChainSpec.build(params, decode_dataset_spec(bytes.fromhex(answer["dataset_hex"])))
    assert rebuilt == node.spec
    assert rebuilt.chain_id.hex() == answer["chain_id"]


async def test_parameters_are_told_in_words(node: TestNode) -> None:
    answer = await node.get("/v1/chain/params")
    assert {"address": ALICE.address, "amount": str(INITIAL_BALANCE)} in answer["balances"]
    assert answer["genesis_timestamp"] == str(node.spec.params.genesis_timestamp)
    assert answer["target_interval"] == 20
    assert answer["task"]["task_id"] == node.spec.task_id.hex()
    assert answer["task"]["network"]["weight_count"] == node.spec.task.network.weight_count
    assert [rung["work"] for rung in answer["task"]["rungs"]] == [str(rung.work) for rung in RUNGS]
    assert answer["dataset"]["n_train"] == 24
    assert answer["params_hex"].find(answer["task_hex"]) > 0
    assert answer["max_block_bytes"] == node.spec.limits.max_block_bytes


async def test_tips_show_side_branches(node: TestNode) -> None:
    first, second = await node.mine(2)
    side = mine_block(node.spec, first, nonce=7)
    assert (await node.submit(side)).json()["status"] == "side"
    tips = (await node.get("/v1/chain/tips"))["items"]
    assert [(tip["id"], tip["status"]) for tip in tips] == [
        (second.block_id.hex(), "active"),
        (side.block_id.hex(), "side"),
    ]
    assert tips[1]["parent"] == first.block_id.hex()
