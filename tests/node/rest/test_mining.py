"""Templates and long-polls over REST."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from consensus.address import decode_address, encode_address
from consensus.block import Header
from consensus.encoding import ZERO_HASH
from consensus.transaction import decode_signed, encode_signed
from node.problems import ApiError
from node.routes.access import Places
from tests.builders import (
    ALICE,
    BOB,
    MINER,
    build_transfer,
    finish_block,
    get_rung,
    mine_block,
)
from tests.node.rest.conftest import OCTETS, TestNode, assert_problem, serve, wait_until

ADDRESS = encode_address(MINER)


BLOCKS = "/v1/mining/blocks"


def build_stranger(node: TestNode) -> httpx.AsyncClient:
    """A client on another machine."""
    transport = httpx.ASGITransport(app=node.app, client=("192.0.2.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://node")


def parse_header(fields: dict[str, Any]) -> Header:
    return Header(
        version=fields["version"],
        height=fields["height"],
        parent=bytes.fromhex(fields["parent"]),
        parent_witness=bytes.fromhex(fields["parent_witness"]),
        timestamp=int(fields["timestamp"]),
        transactions_root=bytes.fromhex(fields["transactions_root"]),
        miner=decode_address(fields["miner"]),
        difficulty=int(fields["difficulty"]),
        task_id=bytes.fromhex(fields["task_id"]),
        nonce=77,
    )


async def get_template(node: TestNode, **query: Any) -> Any:
    return await node.get("/v1/mining/template", address=ADDRESS, **query)


async def post_transfer(node: TestNode, nonce: int = 0) -> bytes:
    signed = build_transfer(node.spec, ALICE, BOB.public, nonce=nonce)
    response = await node.client.post("/v1/transactions", content=encode_signed(signed), headers=OCTETS)
    assert response.status_code == 201
    return signed.tx_id


# Templates


async def test_a_template_becomes_a_block(node: TestNode) -> None:
    await node.mine(2)
    tx_id = await post_transfer(node)
    node.clock.advance(30)
    template = await get_template(node)
    header = parse_header(template["header"])
    transfers = [decode_signed(bytes.fromhex(text)) for text in template["transactions"]]
    assert [signed.tx_id for signed in transfers] == [tx_id]
    assert header.timestamp == int(node.clock())
    assert header.parent_witness == node.tip.witness.witness_id
    rung = get_rung(node.spec, node.tip, header)
    assert template["rung"]["work"] == str(rung.work)
    assert template["previous_work"] == "valid"
    response = await node.submit(finish_block(node.spec, node.tip, header, transfers))
    assert (response.status_code, response.json()["status"]) == (201, "active")
    assert (await node.get(f"/v1/transactions/{tx_id.hex()}"))["status"] == "mined"


async def test_the_first_template_commits_to_no_witness(node: TestNode) -> None:
    assert (await get_template(node))["header"]["parent_witness"] == ZERO_HASH.hex()


async def test_a_template_is_never_earlier_than_the_chain_allows(node: TestNode) -> None:
    block = (await node.mine())[0]
    node.clock.now_seconds = block.header.timestamp - 10
    timestamp = int((await get_template(node))["header"]["timestamp"])
    assert timestamp == block.header.timestamp + node.spec.params.target_interval // 4


async def test_a_late_template_asks_for_an_eased_rung(node: TestNode) -> None:
    node.clock.advance(20 * 20)
    template = await get_template(node)
    assert (template["rung"]["work"], template["header"]["difficulty"]) == ("1000", "1600")


async def test_rejects_a_template_for_no_address(node: TestNode) -> None:
    response = await node.client.get("/v1/mining/template", params={"address": "fz1"})
    assert_problem(response, 400, "bad-address")
    assert_problem(await node.client.get("/v1/mining/template"), 400, "bad-request")


@pytest.mark.parametrize("query", [{"longpoll": "x"}, {"timeout": "61"}, {"timeout": "-1"}])
async def test_rejects_a_long_poll_of_another_form(node: TestNode, query: dict[str, str]) -> None:
    response = await node.client.get("/v1/mining/template", params={"address": ADDRESS} | query)
    assert_problem(response, 400, "bad-request")


# Long-polls


async def test_a_long_poll_ends_when_the_tip_moves(node: TestNode) -> None:
    work_id = (await get_template(node))["workid"]
    poll = asyncio.create_task(get_template(node, longpoll=work_id))
    await node.mine()
    template = await asyncio.wait_for(poll, 10)
    assert (template["previous_work"], template["header"]["height"]) == ("stale", 2)
    assert template["workid"] != work_id


async def test_a_long_poll_ends_when_transfers_come_and_the_old_work_counts(node: TestNode) -> None:
    work_id = (await get_template(node))["workid"]
    poll = asyncio.create_task(get_template(node, longpoll=work_id))
    tx_id = await post_transfer(node)
    template = await asyncio.wait_for(poll, 10)
    assert template["previous_work"] == "valid"
    assert [decode_signed(bytes.fromhex(text)).tx_id for text in template["transactions"]] == [tx_id]


async def test_a_long_poll_for_work_of_the_past_answers_at_once(node: TestNode) -> None:
    work_id = (await get_template(node))["workid"]
    await node.mine()
    assert (await get_template(node, longpoll=work_id))["previous_work"] == "stale"
    assert (await get_template(node, longpoll="0" * 64))["previous_work"] == "stale"


async def test_a_long_poll_without_news_ends_with_the_same_work(node: TestNode) -> None:
    work_id = (await get_template(node))["workid"]
    template = await get_template(node, longpoll=work_id, timeout=0)
    assert (template["workid"], template["previous_work"]) == (work_id, "valid")


async def test_a_side_block_ends_no_work(node: TestNode) -> None:
    first, _ = await node.mine(2)
    work_id = (await get_template(node))["workid"]
    await node.submit(mine_block(node.spec, first, nonce=7))
    template = await get_template(node, longpoll=work_id, timeout=0)
    assert (template["workid"], template["previous_work"]) == (work_id, "valid")


async def test_a_stopping_node_sends_long_polls_home(node: TestNode) -> None:
    work_id = (await get_template(node))["workid"]
    query = {"address": ADDRESS, "longpoll": work_id}
    poll = asyncio.create_task(node.client.get("/v1/mining/template", params=query))
    # The poll is waiting once it has found that there is nothing new.
    await asyncio.wait_for(_wait_until_polled(node), 10)
    node.runtime.begin_stop()
    assert_problem(await asyncio.wait_for(poll, 10), 503, "shutting-down")


async def _wait_until_polled(node: TestNode) -> None:
    while not node.runtime.events.reader_count:
        await asyncio.sleep(0)


async def test_rejects_more_long_polls_than_there_are_places(node: TestNode) -> None:
    places = node.app.state.long_poll_places
    work_id = (await get_template(node))["workid"]
    held = [places.hold("127.0.0.1") for _ in range(256)]
    for place in held:
        place.__enter__()
    query = {"address": ADDRESS, "longpoll": work_id, "timeout": 0}
    response = await node.client.get("/v1/mining/template", params=query)
    assert_problem(response, 429, "too-busy")
    assert response.headers["retry-after"] == "1"
    held.pop().__exit__(None, None, None)
    assert (await node.client.get("/v1/mining/template", params=query)).status_code == 200


async def test_a_miner_that_leaves_gives_up_its_place(node: TestNode) -> None:
    places, work_id = node.app.state.long_poll_places, (await get_template(node))["workid"]
    async with serve(node) as client:
        query = {"address": ADDRESS, "longpoll": work_id}
        waiting = asyncio.create_task(client.get("/v1/mining/template", params=query))
        await wait_until(lambda: places.held == 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        await wait_until(lambda: places.held == 0)


async def test_one_address_does_not_take_every_place() -> None:
    places = Places("submissions", 8)
    with places.hold("192.0.2.1"), places.hold("192.0.2.1"):
        with pytest.raises(ApiError), places.hold("192.0.2.1"):
            raise AssertionError("a third place for one address of eight")
        with places.hold("192.0.2.2"), ExitStack() as local:
            for _ in range(5):
                local.enter_context(places.hold("127.0.0.1"))
            with pytest.raises(ApiError), places.hold("192.0.2.3"):
                raise AssertionError("a ninth place")
    with places.hold("2001:db8:0:1::1"), places.hold("2001:db8:0:1::2"):
        with pytest.raises(ApiError), places.hold("2001:db8:0:1:ffff::3"):
            raise AssertionError("a third place for one /64")
        with places.hold("2001:db8:0:2::1"):
            assert places.held == 3
    assert places.held == 0
