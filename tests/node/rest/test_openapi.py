"""The interface description: complete, valid, and true under fuzzing."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance
from schemathesis.specs.openapi.schemas import OpenApiSchema

from consensus.address import encode_address
from consensus.transaction import encode_signed
from node.app import build_openapi
from tests.builders import ALICE, BOB, MINER, build_transfer
from tests.node.rest.conftest import OCTETS, TestNode, put_dataset, serve

ROUTES = {
    "GET /v1/chain",
    "GET /v1/chain/params",
    "GET /v1/chain/tips",
    "GET /v1/search",
    "GET /v1/stats",
    "GET /v1/blocks",
    "GET /v1/blocks/{block}",
    "GET /v1/blocks/{block}/status",
    "GET /v1/blocks/{block}/transactions",
    "GET /v1/blocks/{block}/raw",
    "GET /v1/blocks/{block}/model",
    "GET /v1/transactions/{transaction_id}",
    "GET /v1/transactions/{transaction_id}/proof",
    "POST /v1/transactions",
    "GET /v1/mempool",
    "GET /v1/addresses/{address}",
    "GET /v1/addresses/{address}/transactions",
    "GET /v1/addresses/{address}/blocks",
    "GET /v1/peers",
    "GET /v1/events",
    "GET /v1/mining/template",
    "POST /v1/mining/blocks",
    "GET /v1/mining/blocks/{block_id}",
    "GET /v1/datasets/{dataset_id}",
    "GET /v1/datasets/{dataset_id}/{split}/{index}",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
    "POST /v1/admin/peers",
    "POST /v1/admin/peers/ban",
    "POST /v1/admin/partition",
    "POST /v1/admin/log-level",
    "POST /v1/admin/shutdown",
}
FUZZED = sorted(route.removeprefix("GET ") for route in ROUTES if route.startswith("GET "))
# A stream has no end, and the fuzzer waits for one.
FUZZED.remove("/v1/events")


@cache
def load_schema() -> OpenApiSchema:
    return schemathesis.openapi.from_dict(build_openapi())


def list_routes(document: dict[str, Any]) -> set[str]:
    return {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}


def test_every_route_is_documented() -> None:
    assert list_routes(build_openapi()) == ROUTES


def test_every_reference_leads_somewhere() -> None:
    document = build_openapi()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                name = value["$ref"].removeprefix("#/components/schemas/")
                assert name in document["components"]["schemas"]
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(document)


async def test_the_running_node_serves_the_same_document(node: TestNode) -> None:
    assert await node.get("/openapi.json") == build_openapi()


def test_the_document_is_valid() -> None:
    load_schema().validate()


@pytest.mark.parametrize("path", FUZZED)
async def test_no_request_breaks_a_route(node: TestNode, path: str) -> None:
    """Whatever is asked: never a 500, only documented statuses, and answers as their schema says."""
    signed = build_transfer(node.spec, ALICE, BOB.public)
    await node.mine(2, [signed])
    waiting = build_transfer(node.spec, ALICE, BOB.public, nonce=1)
    await node.client.post("/v1/transactions", content=encode_signed(waiting), headers=OCTETS)
    put_dataset(node.runtime.dataset.store)
    known = {
        "block": "tip",
        "transaction_id": signed.tx_id.hex(),
        "address": encode_address(MINER),
        "block_id": node.tip.block_id.hex(),
        "dataset_id": node.spec.task.dataset_id.hex(),
    }
    async with serve(node) as client:
        await asyncio.to_thread(fuzz, path, str(client.base_url), known)


def fuzz(path: str, url: str, known: dict[str, str]) -> None:
    operation = load_schema()[path]["GET"]

    @hypothesis.settings(max_examples=8, deadline=None, database=None)
    @hypothesis.given(case=operation.as_strategy(), is_known=hypothesis.strategies.booleans())
    def check(case: schemathesis.Case[Any], is_known: bool) -> None:
        if is_known:
            case.path_parameters = case.path_parameters | {
                name: value for name, value in known.items() if name in case.path_parameters
            }
        # A long-poll is asked for its answer, not for its patience.
        if path == "/v1/mining/template" and isinstance(case.query.get("timeout"), int):
            case.query = case.query | {"timeout": 0}
        # Addresses, cursors and block names have forms that a schema does not tell.
        case.call_and_validate(base_url=url, excluded_checks=[positive_data_acceptance])

    check()
