"""Hostile submissions over HTTP to a real node with the real evaluator: each its code, and no change."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest

from consensus.address import encode_address
from consensus.errors import Code, Outcome, get_code
from tests.acceptance.hostile_headers import (
    iterate_claims,
    iterate_deliveries,
    iterate_headers,
    iterate_known,
)
from tests.acceptance.hostile_transfers import (
    iterate_forgeries,
    iterate_ledger,
    iterate_roots,
    mine_overspent_aside,
)
from tests.acceptance.hostile_work import (
    iterate_commitments,
    iterate_counts,
    iterate_extremes,
    iterate_solutions,
    mine_on_genesis_witness,
)
from tests.acceptance.node_process import NodeProcess, wait_until
from tests.acceptance.scene import Hostile, Scene
from tests.builders import ALICE, BOB, CAROL, MINER

CASES: tuple[Hostile, ...] = (
    *iterate_deliveries(),
    *iterate_known(),
    *iterate_headers(),
    *iterate_claims(),
    *iterate_roots(),
    *iterate_forgeries(),
    *iterate_ledger(),
    *iterate_solutions(),
    *iterate_counts(),
    *iterate_commitments(),
)
NOT_OF_BLOCKS = {
    Code.BAD_DATASET: "a dataset, when a chain is made or opened",
    Code.BAD_NETWORK: "a task, when a chain is made or opened",
    Code.BAD_TASK: "a task, when a chain is made or opened",
    Code.BAD_PARAMS: "parameters, when a chain is made or opened",
    Code.BAD_ADDRESS: "a text that a user gives",
    Code.WRONG_CHUNK: "a chunk that a dataset source sends",
}
"""Codes that no block can be refused with, and what is."""
STATUS_BY_CODE = {Code.UNDECODABLE: 400, Code.TOO_LARGE: 413}
STATUS_BY_OUTCOME = {
    Outcome.INVALID: 422,
    Outcome.BAD_DELIVERY: 422,
    Outcome.NOT_YET: 425,
    Outcome.DUPLICATE: 409,
}

LAST_CHECKS = (
    Hostile(
        "witness of genesis", Code.WRONG_PARENT_WITNESS, partial(mine_on_genesis_witness, witness=b"\2" * 32)
    ),
    Hostile("overspent beside the tip", Code.INSUFFICIENT_BALANCE, partial(mine_overspent_aside, fee=3)),
)
"""Blocks of their own: the cases above are condemned once they were handed in."""

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def read_state(node: NodeProcess) -> dict[str, Any]:
    """Everything that a refused block must not change: tips, accounts, mempool, and all tables."""
    addresses = (encode_address(key) for key in (ALICE.public, BOB.public, CAROL.public, MINER))
    return {
        "chain": node.get("/v1/chain"),
        "tips": node.get("/v1/chain/tips"),
        "accounts": [node.get(f"/v1/addresses/{address}") for address in addresses],
        "tables": node.compute_tables_hash(),
    }


def assert_refused(response: httpx.Response, code: Code) -> None:
    """The problem that the architecture's table names for a code."""
    expected = STATUS_BY_CODE.get(code, STATUS_BY_OUTCOME[code.outcome])
    body = response.json()
    assert (body["code"], response.status_code, body["status"]) == (code.text, expected, expected), body
    assert response.headers["content-type"] == "application/problem+json"


def get_later_code(code: Code) -> Code:
    """What the same block is refused with when it comes again: an invalid id is condemned by then."""
    return Code.CONDEMNED if code.outcome is Outcome.INVALID else code


def test_every_code_of_a_block_has_a_submission() -> None:
    assert {case.code for case in CASES} == set(Code) - set(NOT_OF_BLOCKS)


@by_case
def test_refuses(lone_node: NodeProcess, scene: Scene, case: Hostile) -> None:
    if case.before is not None:
        assert not lone_node.post_block(case.before(scene)).is_success
    raw, before = case.build(scene), read_state(lone_node)
    evaluated = lone_node.get_metric("blocks_evaluated_total")
    assert_refused(lone_node.post_block(raw), case.code)
    assert lone_node.get_metric("blocks_evaluated_total") - evaluated == case.evaluations
    assert_refused(lone_node.post_block(raw), get_later_code(case.code))
    assert read_state(lone_node) == before


def test_takes_the_honest_block_whatever_was_sent_under_its_id(lone_node: NodeProcess, scene: Scene) -> None:
    bad = [case for case in CASES if case.code.outcome is Outcome.BAD_DELIVERY]
    for case in bad:
        assert not lone_node.post_block(case.build(scene)).is_success
    before = read_state(lone_node)
    answer = lone_node.post_block(scene.honest.raw, dry_run=1)
    assert (answer.status_code, answer.json()["status"]) == (200, "valid")
    assert read_state(lone_node) == before


@pytest.mark.parametrize(
    "build", [build for _, build in iterate_extremes()], ids=[name for name, _ in iterate_extremes()]
)
def test_takes_the_extreme_legal_values(
    lone_node: NodeProcess, scene: Scene, build: Callable[[Scene], bytes]
) -> None:
    answer = lone_node.post_block(build(scene), dry_run=1)
    assert (answer.status_code, answer.json()["status"]) == (200, "valid"), answer.text


@pytest.mark.parametrize("case", LAST_CHECKS, ids=lambda case: case.name)
def test_a_dry_run_makes_the_last_checks_too(lone_node: NodeProcess, scene: Scene, case: Hostile) -> None:
    """What is wrong with these shows only after the evaluation."""
    before = read_state(lone_node)
    answer = lone_node.post_block(case.build(scene), dry_run=1)
    assert_refused(answer, case.code)
    assert read_state(lone_node) == before


def test_refuses_in_the_background_alike(lone_node: NodeProcess, scene: Scene) -> None:
    """wait=0: the verdict stands at the status URL."""
    witness = scene.honest.witness
    raw = scene.claim(scene.honest, witness.train_correct, witness.eval_correct + 1)
    before = read_state(lone_node)
    answer = lone_node.post_block(raw, wait=0)
    assert answer.status_code == 202
    status_url = answer.json()["status_url"]
    wait_until(lambda: lone_node.get(status_url)["status"] != "pending", "the verdict")
    verdict = lone_node.get(status_url)
    assert (verdict["status"], get_code(verdict["code"])) == ("refused", Code.WRONG_EVAL_COUNT)
    assert read_state(lone_node) == before
