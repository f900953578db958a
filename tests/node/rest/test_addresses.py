"""Addresses over REST."""

from __future__ import annotations

import pytest

from consensus.address import encode_address
from consensus.transaction import encode_signed
from tests.builders import ALICE, BOB, INITIAL_BALANCE, MINER, build_transfer
from tests.node.rest.conftest import OCTETS, TestNode, assert_problem

MINER_ADDRESS = encode_address(MINER)


async def test_a_balance_is_spendable_or_immature(node: TestNode) -> None:
    await node.mine(4)
    state = await node.get(f"/v1/addresses/{MINER_ADDRESS}")
    # Maturity is 3: block 4 credited block 1.
    assert (state["spendable"], state["immature"], state["balance"]) == ("5000", "15000", "20000")
    assert state["public_key"] == MINER.hex()
    assert state["address"] == MINER_ADDRESS


async def test_an_address_never_seen_holds_nothing(node: TestNode) -> None:
    state = await node.get(f"/v1/addresses/{encode_address(bytes(32))}")
    assert (state["balance"], state["nonce"], state["next_nonce"]) == ("0", "0", "0")


async def test_the_next_nonce_counts_what_waits(node: TestNode) -> None:
    await node.mine(1, [build_transfer(node.spec, ALICE, BOB.public, 10)])
    waiting = build_transfer(node.spec, ALICE, BOB.public, nonce=1)
    await node.client.post("/v1/transactions", content=encode_signed(waiting), headers=OCTETS)
    state = await node.get(f"/v1/addresses/{ALICE.address}")
    assert (state["nonce"], state["next_nonce"]) == ("1", "2")
    assert state["spendable"] == str(INITIAL_BALANCE - 11)


async def test_transactions_come_in_pages_newest_first(node: TestNode) -> None:
    sent = [build_transfer(node.spec, ALICE, BOB.public, nonce=nonce) for nonce in range(3)]
    await node.mine(1, sent[:2])
    await node.mine(1, sent[2:])
    path = f"/v1/addresses/{BOB.address}/transactions"
    first = await node.get(path, limit=2)
    second = await node.get(path, limit=2, cursor=first["next"])
    found = first["items"] + second["items"]
    assert [item["id"] for item in found] == [signed.tx_id.hex() for signed in reversed(sent)]
    assert [item["block"]["height"] for item in found] == [2, 1, 1]
    assert second["next"] is None


async def test_blocks_come_in_pages_newest_first(node: TestNode) -> None:
    await node.mine(2)
    await node.mine(1, miner=bytes(32))
    await node.mine(1)
    path = f"/v1/addresses/{MINER_ADDRESS}/blocks"
    first = await node.get(path, limit=2)
    second = await node.get(path, limit=2, cursor=first["next"])
    assert [block["height"] for block in first["items"] + second["items"]] == [4, 2, 1]
    assert second["next"] is None


@pytest.mark.parametrize("address", ["fz1", "nonsense", ALICE.address[:-1] + "q", ALICE.address.upper()])
@pytest.mark.parametrize("suffix", ["", "/transactions", "/blocks"])
async def test_rejects_what_is_no_address(node: TestNode, address: str, suffix: str) -> None:
    assert_problem(await node.client.get(f"/v1/addresses/{address}{suffix}"), 400, "bad-address")


@pytest.mark.parametrize(("suffix", "cursor"), [("transactions", "MQ"), ("blocks", "MSwy")])
async def test_rejects_the_cursor_of_another_list(node: TestNode, suffix: str, cursor: str) -> None:
    response = await node.client.get(f"/v1/addresses/{ALICE.address}/{suffix}", params={"cursor": cursor})
    assert_problem(response, 400, "bad-cursor")
