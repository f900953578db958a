"""The report of a headless run, and why there is none yet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from consensus.block import Block
from node.devnet.blocks import NodeSilent, fetch_branch
from node.devnet.plan import ServiceSpec
from node.devnet.report import build_report, fetch_evaluated, find_disagreement, parse_metric
from node.devnet.service import ServiceState
from node.devnet.watch import NodeStatus
from tests.node.devnet.fake_network import SPEC, FakeNetwork, build_blocks
from tests.node.miner.fake_node import ADDRESS, MINER

SERVICES = [
    ServiceSpec("n1", "node", (), "http://n1", None),
    ServiceSpec("n2", "node", (), "http://n2", None),
    ServiceSpec("m1", "miner", (), None, ADDRESS),
    ServiceSpec("m2", "miner", (), None, "fz1other"),
]


def build_status(name: str, blocks: list[Block]) -> NodeStatus:
    tip = blocks[-1].header
    return NodeStatus(name, ServiceState.RUNNING, True, tip.height, tip.block_id.hex())


async def report(blocks: list[Block], attempts: dict[str, dict[str, int]]) -> dict[str, Any]:
    network = FakeNetwork({"n1": blocks, "n2": blocks})
    async with httpx.AsyncClient(transport=network.transport) as http:
        nodes = [build_status(name, blocks) for name in ("n1", "n2")]
        return await build_report(http, SPEC, SERVICES, nodes, attempts)


async def test_the_report_has_the_agreed_form() -> None:
    blocks = build_blocks(2, MINER)
    genesis, first = SPEC.chain_id.hex(), blocks[0].header.block_id.hex()
    attempts = {"m1": {genesis: 3, first: 1}, "m2": {genesis: 2, "side branch": 4}}
    answer = await report(blocks, attempts)
    tip = blocks[1].header.block_id.hex()
    assert answer["nodes"] == [
        {"name": "n1", "height": 2, "tip": tip, "evaluated": 7},
        {"name": "n2", "height": 2, "tip": tip, "evaluated": 7},
    ]
    assert answer["blocks"][0] == {
        "height": 1,
        "id": first,
        "miner": ADDRESS,
        "train_correct": 5,
        "eval_correct": 4,
        "required_train": 4,
        "required_eval": 3,
        "frozen": 9_000,
        "attempts": 5,
        "seconds": 20,
    }
    assert answer["totals"] == {
        "blocks": 2,
        "attempts": 10,
        "median_attempts": 3,
        "seconds": 40,
        "mean_interval_seconds": 20.0,
        "miners": [
            {"name": "m1", "address": ADDRESS, "attempts": 4, "blocks": 2},
            {"name": "m2", "address": "fz1other", "attempts": 6, "blocks": 0},
        ],
    }


def test_nodes_on_one_tip_agree() -> None:
    blocks = build_blocks(2)
    assert find_disagreement([build_status("n1", blocks), build_status("n2", blocks)], 2) is None


def test_the_reason_of_a_disagreement_is_told() -> None:
    blocks, others = build_blocks(2), build_blocks(2, MINER)
    first = build_status("n1", blocks)
    silent = replace(first, name="n2", is_answering=False)
    assert find_disagreement([first, silent], 2) == "not every node answers: n2 does not"
    assert find_disagreement([first], 3) == "not every node has height 3: n1 has height 2"
    reason = find_disagreement([first, build_status("n2", others)], 2)
    assert reason is not None
    assert reason.startswith("the nodes do not agree on one tip: n1 on ")


def test_a_metric_is_read_without_labels() -> None:
    text = '# HELP x y\nx_created 1.7e9\nx{code="a"} 3.0\nx 12.0\n'
    assert parse_metric(text, "x") == 12
    with pytest.raises(ValueError, match="no metric z"):
        parse_metric(text, "z")


async def test_a_silent_node_is_told() -> None:
    async with httpx.AsyncClient(transport=FakeNetwork({}).transport) as http:
        with pytest.raises(NodeSilent, match="gives no metrics"):
            await fetch_evaluated(http, "http://n1")


async def test_a_branch_is_read_down_to_what_is_known() -> None:
    blocks = build_blocks(4)
    ids = [block.header.block_id.hex() for block in blocks]
    async with httpx.AsyncClient(transport=FakeNetwork({"n1": blocks}).transport) as http:
        known = await fetch_branch(http, SPEC, "http://n1", ids[3], {ids[1]})
        last = await fetch_branch(http, SPEC, "http://n1", ids[3], limit=1)
        assert await fetch_branch(http, SPEC, "http://n1", SPEC.chain_id.hex()) == []
    assert [facts.block_id for facts in known] == ids[2:]
    assert [(facts.block_id, facts.seconds) for facts in last] == [(ids[3], 20)]


async def test_another_block_than_asked_for_is_refused() -> None:
    blocks = build_blocks(1)
    async with httpx.AsyncClient(transport=FakeNetwork({"n1": blocks}).transport) as http:
        with pytest.raises(NodeSilent):
            await fetch_branch(http, SPEC, "http://n1", "11" * 32)
