"""Submissions over REST: verdicts, refusals, and what a stranger may cost."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from consensus.address import encode_address
from consensus.block import Header
from consensus.errors import BadDelivery, Code, Duplicate
from consensus.rules import WorkVerifier
from consensus.task import Rung, Task
from node.allowance import FALSE_BLOCKS, SECONDS_PER_FALSE_BLOCK, AllowanceSpent, ClientAllowance
from node.verification import EvaluatorUnavailable
from tests.builders import (
    MINER,
    BuiltBlock,
    build_header,
    build_witness,
    finish_block,
    get_rung,
    mine_block,
)
from tests.fakes import DummyWorkVerifier, build_refusal_mark
from tests.node.rest.conftest import OCTETS, StartNode, TestNode, assert_problem, wait_until

ADDRESS = encode_address(MINER)


BLOCKS = "/v1/mining/blocks"


def build_stranger(node: TestNode) -> httpx.AsyncClient:
    """A client on another machine."""
    transport = httpx.ASGITransport(app=node.app, client=("192.0.2.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://node")


async def test_a_valid_block_is_accepted(node: TestNode) -> None:
    block = mine_block(node.spec, node.tip)
    response = await node.submit(block)
    assert response.status_code == 201
    assert response.json() == {"id": block.block_id.hex(), "height": 1, "status": "active"}
    assert node.verifier.checked == [block.block_id]
    assert "freezenet_blocks_evaluated_total 1.0" in (await node.client.get("/metrics")).text


async def test_a_dry_run_evaluates_and_stores_nothing(node: TestNode) -> None:
    block = mine_block(node.spec, node.tip)
    response = await node.submit(block, dry_run="1")
    assert (response.status_code, response.json()["status"]) == (200, "valid")
    assert node.verifier.checked == [block.block_id]
    assert (await node.get("/v1/chain"))["height"] == 0
    assert (await node.submit(block)).status_code == 201


async def test_a_dry_run_tells_what_is_wrong(node: TestNode) -> None:
    block = refused_block(node, Code.WRONG_EVAL_COUNT)
    assert_problem(await node.submit(block, dry_run="1"), 422, "wrong-eval-count")


async def test_a_block_can_be_judged_in_the_background(start_node: StartNode) -> None:
    evaluator = GatedEvaluator(DummyWorkVerifier())
    async with start_node(evaluator=evaluator) as node:
        block = mine_block(node.spec, node.tip)
        response = await node.submit(block, wait="0")
        url = f"/v1/mining/blocks/{block.block_id.hex()}"
        assert (response.status_code, response.headers["location"]) == (202, url)
        assert response.json()["status"] == "pending"
        again = await node.submit(block, wait="0")
        assert (again.status_code, again.json()) == (202, response.json())
        evaluator.gate.set()
        verdict = await _wait_for_verdict(node, url)
    assert (verdict["status"], verdict["code"], verdict["status_url"]) == ("active", None, url)


async def test_a_refusal_in_the_background_is_told_later(node: TestNode) -> None:
    block = refused_block(node, Code.WRONG_TRAIN_COUNT)
    url = (await node.submit(block, wait="0")).json()["status_url"]
    verdict = await _wait_for_verdict(node, url)
    assert (verdict["status"], verdict["code"]) == ("refused", "wrong-train-count")
    assert (
        'freezenet_rejected_total{code="wrong-train-count"} 1.0' in (await node.client.get("/metrics")).text
    )


async def test_rejects_more_background_submissions_than_are_kept(start_node: StartNode) -> None:
    async with start_node(evaluator=GatedEvaluator(DummyWorkVerifier())) as node:
        responses = [
            await node.submit(mine_block(node.spec, node.tip, nonce=nonce), wait="0") for nonce in range(17)
        ]
        assert [response.status_code for response in responses] == [202] * 16 + [429]
        assert_problem(responses[-1], 429, "too-busy")


async def test_a_block_that_is_being_judged_is_not_forgotten(
    start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.submissions.MAX_REMEMBERED", 3)
    async with start_node(evaluator=GatedEvaluator(DummyWorkVerifier())) as node:
        block = mine_block(node.spec, node.tip)
        pending = (await node.submit(block, wait="0")).json()
        orphans = [mine_block(node.spec, mine_block(node.spec, block, nonce=nonce)) for nonce in range(6)]
        for orphan in orphans:
            assert (await node.submit(orphan, wait="0")).status_code == 202
            await wait_until(lambda: node.runtime.submissions.pending_count == 1)
        kept = [node.runtime.submissions.get(orphan.block_id) is not None for orphan in orphans]
        assert kept == [False] * 4 + [True] * 2
        assert await node.get(pending["status_url"]) == pending
        again = await node.submit(block, wait="0")
        assert (again.status_code, again.json()) == (202, pending)


async def test_another_delivery_of_an_id_in_the_background_is_judged_too(start_node: StartNode) -> None:
    evaluator = GatedEvaluator(DummyWorkVerifier())
    async with start_node(evaluator=evaluator) as node:
        false = refused_block(node, Code.WRONG_TRAIN_COUNT)
        true = false.with_witness(mine_block(node.spec, node.tip).witness)
        assert (await node.submit(false, wait="0")).status_code == 202
        async with build_stranger(node) as stranger:
            query = {"wait": "0"}
            response = await stranger.post(BLOCKS, content=true.raw, headers=OCTETS, params=query)
        assert response.json()["status"] == "pending"
        evaluator.gate.set()
        verdict = await _wait_for_verdict(node, f"{BLOCKS}/{true.block_id.hex()}")
        assert verdict["status"] == "active"


@pytest.mark.parametrize("wait", ["0", "1"])
async def test_rejects_an_address_whose_blocks_are_false_time_and_again(node: TestNode, wait: str) -> None:
    false = [refused_block(node, Code.WRONG_TRAIN_COUNT, nonce=nonce) for nonce in range(9)]
    async with build_stranger(node) as stranger:
        for block in false[:8]:
            await stranger.post(BLOCKS, content=block.raw, headers=OCTETS, params={"wait": wait})
            await wait_until(lambda: not node.runtime.submissions.pending_count)
        response = await stranger.post(BLOCKS, content=false[8].raw, headers=OCTETS, params={"wait": wait})
    assert_problem(response, 429, "too-busy")
    assert 1 <= int(response.headers["retry-after"]) <= 10
    assert len(node.verifier.checked) == 8
    # This machine's miners have nothing to do with it.
    assert (await node.submit(mine_block(node.spec, node.tip))).status_code == 201


def test_true_blocks_cost_no_share_and_false_ones_are_forgiven_in_time() -> None:
    now = 0.0
    allowance = ClientAllowance(lambda: now)
    for _ in range(FALSE_BLOCKS + 1):
        with pytest.raises(Duplicate), allowance.hold("192.0.2.1"):
            raise Duplicate(Code.DUPLICATE)
        with allowance.hold("192.0.2.1"):
            pass
    for _ in range(FALSE_BLOCKS):
        with pytest.raises(BadDelivery), allowance.hold("192.0.2.1"):
            raise BadDelivery(Code.WRONG_TRAIN_COUNT)
    with pytest.raises(AllowanceSpent), allowance.hold("192.0.2.1"):
        raise AssertionError("the share is spent")
    now = SECONDS_PER_FALSE_BLOCK
    with allowance.hold("192.0.2.1"):
        pass


def test_addresses_of_one_subnet_share_what_they_may_send_in_vain() -> None:
    allowance = ClientAllowance(lambda: 0.0)
    for number in range(FALSE_BLOCKS):
        with pytest.raises(BadDelivery), allowance.hold(f"2001:db8:1:2::{number}"):
            raise BadDelivery(Code.WRONG_TRAIN_COUNT)
    with pytest.raises(AllowanceSpent), allowance.hold("2001:db8:1:2::ffff"):
        raise AssertionError("the share is spent")
    with allowance.hold("2001:db8:1:3::"):
        pass


async def test_rejects_an_unknown_submission(node: TestNode) -> None:
    assert_problem(await node.client.get(f"/v1/mining/blocks/{'00' * 32}"), 404, "not-found")


async def test_rejects_more_submissions_at_once_than_there_are_places(start_node: StartNode) -> None:
    evaluator = GatedEvaluator(DummyWorkVerifier())
    async with start_node(evaluator=evaluator) as node:
        blocks = [mine_block(node.spec, node.tip, nonce=nonce) for nonce in range(17)]
        tasks = [asyncio.create_task(node.submit(block)) for block in blocks]
        done, waiting = await asyncio.wait(tasks, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert_problem(done.pop().result(), 429, "too-busy")
        evaluator.gate.set()
        verdicts = [response.status_code for response in await asyncio.gather(*waiting)]
    assert verdicts == [201] * 16


async def test_rejects_a_block_that_was_verified_before(node: TestNode) -> None:
    block = (await node.mine())[0]
    assert_problem(await node.submit(block), 409, "duplicate")
    assert len(node.verifier.checked) == 1


async def test_rejects_a_block_without_a_known_parent(node: TestNode) -> None:
    unseen = mine_block(node.spec, node.tip)
    assert_problem(await node.submit(mine_block(node.spec, unseen)), 425, "unknown-parent")


async def test_rejects_a_block_from_the_future(node: TestNode) -> None:
    block = mine_block(node.spec, node.tip, seconds=20_000)
    response = await node.client.post("/v1/mining/blocks", content=block.raw, headers=OCTETS)
    assert_problem(response, 425, "from-the-future")


async def test_rejects_a_block_that_breaks_a_rule_and_what_builds_on_it(node: TestNode) -> None:
    block = mine_block(node.spec, node.tip, seconds=1)
    assert_problem(await node.submit(block), 422, "timestamp-too-early")
    assert_problem(await node.submit(block), 422, "condemned")
    assert_problem(await node.submit(mine_block(node.spec, block)), 422, "invalid-ancestor")
    assert node.verifier.checked == []
    metrics = (await node.client.get("/metrics")).text
    assert 'freezenet_rejected_total{code="condemned"} 1.0' in metrics


async def test_rejects_a_false_witness_but_not_the_id(node: TestNode) -> None:
    block = refused_block(node, Code.WRONG_TRAIN_COUNT)
    assert_problem(await node.submit(block), 422, "wrong-train-count")
    assert (await node.submit(mine_block(node.spec, node.tip))).status_code == 201


@pytest.mark.parametrize("raw", [b"", bytes(189), bytes(190), b"\xff" * 300])
async def test_rejects_bytes_that_are_no_block(node: TestNode, raw: bytes) -> None:
    for query in ({}, {"dry_run": "1"}):
        response = await node.client.post("/v1/mining/blocks", content=raw, headers=OCTETS, params=query)
        assert response.status_code in (400, 413, 422)
        assert response.json()["code"] in ("undecodable", "too-large", "wrong-height", "condemned")


async def test_rejects_background_bytes_without_a_header(node: TestNode) -> None:
    response = await node.client.post("/v1/mining/blocks?wait=0", content=bytes(100), headers=OCTETS)
    assert_problem(response, 400, "undecodable")


@pytest.mark.parametrize("is_announced", [True, False])
async def test_rejects_a_body_longer_than_any_block(node: TestNode, is_announced: bool) -> None:
    size = node.spec.limits.max_block_bytes + 1

    async def stream() -> Any:
        for _ in range(size):
            yield b"\0"

    content = bytes(size) if is_announced else stream()
    response = await node.client.post("/v1/mining/blocks", content=content, headers=OCTETS)
    assert_problem(response, 413, "too-large")


@pytest.mark.parametrize("query", [{"wait": "2"}, {"dry_run": "perhaps"}])
async def test_rejects_a_flag_that_is_none(node: TestNode, query: dict[str, str]) -> None:
    response = await node.client.post("/v1/mining/blocks", content=b"", headers=OCTETS, params=query)
    assert_problem(response, 400, "bad-request")


async def test_rejects_blocks_where_the_evaluator_stops(start_node: StartNode) -> None:
    async with start_node(evaluator=StoppedEvaluator()) as node:
        assert_problem(await node.submit(mine_block(node.spec, node.tip)), 503, "cannot-evaluate")
        url = (await node.submit(mine_block(node.spec, node.tip), wait="0")).json()["status_url"]
        verdict = await _wait_for_verdict(node, url)
    assert (verdict["status"], verdict["code"]) == ("refused", "cannot-evaluate")


class GatedEvaluator:
    """A verifier that gives no verdict before the test opens the gate."""

    is_ready = True

    def __init__(self, verifier: WorkVerifier) -> None:
        self.gate = asyncio.Event()
        self._verifier = verifier

    async def check(self, task: Task, rung: Rung, header: Header, witness: Any) -> None:
        await self.gate.wait()
        self._verifier.check(task, rung, header, witness)


class StoppedEvaluator:
    """Was ready when it was asked, and is not any more."""

    is_ready = True

    async def check(self, task: Task, rung: Rung, header: Header, witness: Any) -> None:
        raise EvaluatorUnavailable("stopping")


def refused_block(node: TestNode, code: Code, nonce: int = 0) -> BuiltBlock:
    header = build_header(node.spec, node.tip, nonce=nonce)
    witness = build_witness(node.spec, get_rung(node.spec, node.tip, header), build_refusal_mark(code))
    return finish_block(node.spec, node.tip, header, (), witness)


async def _wait_for_verdict(node: TestNode, url: str) -> Any:
    async with asyncio.timeout(10):
        while (verdict := await node.get(url))["status"] == "pending":
            await asyncio.sleep(0)
    return verdict
