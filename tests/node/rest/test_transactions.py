"""Transfers over REST: handing them in, finding them, proving them."""

from __future__ import annotations

from typing import Any

import pytest

from consensus.merkle import is_in_tree
from consensus.transaction import SignedTransfer, encode_signed
from node.routes.answers import describe_transfer
from tests.builders import ALICE, BOB, CAROL, INITIAL_BALANCE, build_transfer
from tests.node.rest.conftest import OCTETS, TestNode, assert_problem


def build_json(signed: SignedTransfer, **changes: Any) -> dict[str, Any]:
    fields = describe_transfer(signed).model_dump(mode="json")
    del fields["id"]
    return fields | changes


async def test_a_raw_transfer_waits_and_is_mined(node: TestNode) -> None:
    signed = build_transfer(node.spec, ALICE, BOB.public, 250, fee=3)
    response = await node.client.post("/v1/transactions", content=encode_signed(signed), headers=OCTETS)
    assert (response.status_code, response.json()) == (201, {"id": signed.tx_id.hex(), "status": "pending"})
    path = f"/v1/transactions/{signed.tx_id.hex()}"
    pending = await node.get(path)
    assert (pending["status"], pending["block"], pending["confirmations"]) == ("pending", None, 0)
    block = (await node.mine(1, [signed]))[0]
    await node.mine()
    mined = await node.get(path)
    assert mined["status"] == "mined"
    assert mined["block"] == {
        "id": block.block_id.hex(),
        "height": 1,
        "position": 0,
        "timestamp": str(block.header.timestamp),
    }
    assert (mined["amount"], mined["fee"], mined["sender"]) == ("250", "3", ALICE.address)
    assert mined["confirmations"] == 1


async def test_a_json_transfer_is_the_same_transfer(node: TestNode) -> None:
    signed = build_transfer(node.spec, ALICE, BOB.public, 250, fee=3)
    response = await node.client.post("/v1/transactions", json=build_json(signed))
    assert (response.status_code, response.json()["id"]) == (201, signed.tx_id.hex())
    assert (await node.get("/v1/mempool"))["items"][0]["signature"] == signed.signature.hex()


async def test_json_without_its_content_type_is_told_what_it_lacks(node: TestNode) -> None:
    response = await node.client.post("/v1/transactions", content=b"{}", headers=OCTETS)
    assert_problem(response, 400, "bad-request")
    assert "Content-Type: application/json" in response.json()["detail"]


async def test_the_mempool_comes_in_pages_in_order_of_arrival(node: TestNode) -> None:
    sent = [build_transfer(node.spec, key, BOB.public) for key in (CAROL, ALICE, BOB)]
    for signed in sent:
        await node.client.post("/v1/transactions", json=build_json(signed))
    first = await node.get("/v1/mempool", limit=2)
    second = await node.get("/v1/mempool", limit=2, cursor=first["next"])
    ids = [item["id"] for item in first["items"] + second["items"]]
    assert ids == [signed.tx_id.hex() for signed in sent]
    assert second["next"] is None
    assert (await node.get("/v1/chain"))["mempool"] == 3


async def test_a_proof_leads_to_the_header(node: TestNode) -> None:
    transfers = [build_transfer(node.spec, ALICE, BOB.public, nonce=nonce) for nonce in range(3)]
    block = (await node.mine(1, transfers))[0]
    for signed in transfers:
        proof = await node.get(f"/v1/transactions/{signed.tx_id.hex()}/proof")
        assert proof["transactions_root"] == block.header.transactions_root.hex()
        assert proof["transactions_root"] in proof["header_hex"]
        assert is_in_tree(
            bytes.fromhex(proof["leaf_hash"]),
            proof["index"],
            proof["count"],
            [bytes.fromhex(node_hash) for node_hash in proof["path"]],
            block.header.transactions_root,
        )


async def test_rejects_a_proof_of_what_is_not_mined(node: TestNode) -> None:
    signed = build_transfer(node.spec, ALICE, BOB.public)
    await node.client.post("/v1/transactions", json=build_json(signed))
    response = await node.client.get(f"/v1/transactions/{signed.tx_id.hex()}/proof")
    assert_problem(response, 404, "not-found")


async def test_rejects_an_unknown_transaction(node: TestNode) -> None:
    assert_problem(await node.client.get(f"/v1/transactions/{'00' * 32}"), 404, "not-found")
    assert_problem(await node.client.get("/v1/transactions/zz"), 400, "bad-request")


async def test_rejects_a_transfer_that_waits_already(node: TestNode) -> None:
    body = build_json(build_transfer(node.spec, ALICE, BOB.public))
    await node.client.post("/v1/transactions", json=body)
    assert_problem(await node.client.post("/v1/transactions", json=body), 409, "duplicate")


async def test_rejects_a_transfer_that_breaks_a_rule(node: TestNode) -> None:
    signed = build_transfer(node.spec, ALICE, BOB.public, INITIAL_BALANCE + 1)
    response = await node.client.post("/v1/transactions", json=build_json(signed))
    body = assert_problem(response, 422, "insufficient-balance")
    assert str(INITIAL_BALANCE) in body["detail"]
    assert (
        'freezenet_rejected_total{code="insufficient-balance"} 1.0'
        in (await node.client.get("/metrics")).text
    )


async def test_rejects_a_false_signature(node: TestNode) -> None:
    body = build_json(build_transfer(node.spec, ALICE, BOB.public), amount="101")
    assert_problem(await node.client.post("/v1/transactions", json=body), 422, "bad-signature")


async def test_rejects_a_transfer_too_far_ahead(node: TestNode) -> None:
    body = build_json(build_transfer(node.spec, ALICE, BOB.public, nonce=1_000))
    assert_problem(await node.client.post("/v1/transactions", json=body), 425, "nonce-gap-too-large")


async def test_rejects_a_second_transfer_of_a_nonce(node: TestNode) -> None:
    for amount in (1, 2):
        body = build_json(build_transfer(node.spec, ALICE, BOB.public, amount))
        response = await node.client.post("/v1/transactions", json=body)
    assert_problem(response, 409, "nonce-taken")


@pytest.mark.parametrize("size", [0, 185, 187])
async def test_rejects_raw_bytes_of_another_length(node: TestNode, size: int) -> None:
    response = await node.client.post("/v1/transactions", content=bytes(size), headers=OCTETS)
    status, code = (413, "too-large") if size > 186 else (400, "undecodable")
    assert_problem(response, status, code)


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 100},
        {"amount": "0100"},
        {"amount": "-1"},
        {"amount": str(2**64)},
        {"amount": "1e3"},
        {"amount": None},
        {"sender": "fz1qqqq"},
        {"recipient": 7},
        {"chain_id": "AB" * 32},
        {"signature": "00"},
        {"version": "1"},
        {"surplus": 1},
    ],
    ids=str,
)
async def test_rejects_a_json_transfer_of_another_spelling(node: TestNode, changes: dict[str, Any]) -> None:
    body = build_json(build_transfer(node.spec, ALICE, BOB.public), **changes)
    problem = assert_problem(await node.client.post("/v1/transactions", json=body), 400, "bad-request")
    assert next(iter(changes)) in problem["detail"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 4_000, b"null", b'{"amount":NaN}'])
async def test_rejects_json_that_is_none(node: TestNode, body: bytes) -> None:
    response = await node.client.post(
        "/v1/transactions", content=body, headers={"content-type": "application/json; charset=utf-8"}
    )
    assert_problem(response, 400, "bad-request")


async def test_rejects_json_without_end(node: TestNode) -> None:
    response = await node.client.post("/v1/transactions", json={"amount": "1" * 5_000})
    assert_problem(response, 413, "too-large")
