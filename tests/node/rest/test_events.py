"""The event feed, and the stream of it over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from consensus.transaction import encode_signed
from node.app import MAX_STREAMS
from node.events import EventBus
from tests.builders import ALICE, BOB, build_transfer, mine_block
from tests.node.rest.conftest import OCTETS, TestNode, assert_problem, serve, wait_until


@dataclass(frozen=True, slots=True)
class Received:
    """One event as a client reads it."""

    kind: str
    id: str
    data: dict[str, Any]


class Stream:
    """A client that reads the stream event by event."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> Received | None:
        """The next event, None at the end of the stream."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(20):
            async for line in self._lines:
                if not line and fields:
                    return Received(fields["event"], fields["id"], json.loads(fields["data"]))
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
        return None


@asynccontextmanager
async def follow(client: httpx.AsyncClient, last_id: str | None = None) -> AsyncIterator[Stream]:
    headers = {} if last_id is None else {"last-event-id": last_id}
    async with client.stream("GET", "/v1/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response.aiter_lines())


# The stream


async def test_a_stream_tells_the_tip_and_what_follows(node: TestNode) -> None:
    async with serve(node) as client, follow(client) as stream:
        start = await stream.next()
        assert start is not None
        assert (start.kind, start.data["id"]) == ("tip", node.spec.chain_id.hex())
        signed = build_transfer(node.spec, ALICE, BOB.public)
        await node.client.post("/v1/transactions", content=encode_signed(signed), headers=OCTETS)
        event = await stream.next()
        assert event is not None
        assert (event.kind, event.data) == ("transaction", {"id": signed.tx_id.hex()})
        block = (await node.mine(1, [signed]))[0]
        event = await stream.next()
        assert event is not None
        assert (event.kind, event.data["id"], event.data["height"]) == ("tip", block.block_id.hex(), 1)
        assert event.data["chain_work"] == str(block.chain_work)


async def test_a_reorganisation_is_told_before_its_tip(node: TestNode) -> None:
    first, second = await node.mine(2)
    async with serve(node) as client, follow(client) as stream:
        await stream.next()
        side = mine_block(node.spec, first, nonce=7)
        await node.submit(side)
        node.tip = side
        heavier = (await node.mine())[0]
        event = await stream.next()
        assert event is not None
        assert (event.kind, event.data) == (
            "reorganisation",
            {
                "fork_height": 1,
                "disconnected": [second.block_id.hex()],
                "connected": [side.block_id.hex(), heavier.block_id.hex()],
            },
        )
        event = await stream.next()
        assert event is not None
        assert (event.kind, event.data["height"]) == ("tip", 3)
        assert "freezenet_reorganisations_total 1.0" in (await node.client.get("/metrics")).text


async def test_a_reader_that_comes_back_misses_nothing(node: TestNode) -> None:
    async with serve(node) as client:
        async with follow(client) as stream:
            start = await stream.next()
            assert start is not None
        await node.mine(2)
        async with follow(client, start.id) as stream:
            heights = [event.data["height"] for event in (await stream.next(), await stream.next()) if event]
    assert heights == [1, 2]


@pytest.mark.parametrize("last_id", ["other-1", "nonsense", "", "{epoch}-999", "{epoch}--1", "{epoch}-²"])
async def test_a_gap_is_told_by_a_reset(node: TestNode, last_id: str) -> None:
    await node.mine()
    named = last_id.format(epoch=node.runtime.events.epoch)
    async with serve(node) as client:
        request = client.build_request("GET", "/v1/events", headers={b"last-event-id": named.encode()})
        response = await client.send(request, stream=True)
        event = await Stream(response.aiter_lines()).next()
        await response.aclose()
    assert event is not None
    assert (event.kind, event.data["height"]) == ("reset", 1)


async def test_a_slow_reader_is_reset(node: TestNode) -> None:
    events = node.runtime.events
    async with serve(node) as client, follow(client) as stream:
        await stream.next()
        await wait_until(lambda: events.reader_count == 1)
        # All at once, so that the reader cannot keep up, whatever the scheduler does.
        for number in range(events.capacity + 1):
            events.publish("transaction", {"id": str(number)})
        event = await stream.next()
    assert event is not None
    assert (event.kind, event.id) == ("reset", events.format_id(events.serial))


async def test_rejects_more_streams_than_there_are_places(node: TestNode) -> None:
    async with serve(node) as client, AsyncExitStack() as held:
        for _ in range(MAX_STREAMS - 1):
            await held.enter_async_context(follow(client))
        async with follow(client):
            assert_problem(await client.get("/v1/events"), 429, "too-busy")
        # The server notices on its own time that the client is gone.
        async with asyncio.timeout(20):
            while (await _get_status(client)) != 200:
                await asyncio.sleep(0.01)


async def _get_status(client: httpx.AsyncClient) -> int:
    async with client.stream("GET", "/v1/events") as response:
        return response.status_code


# The feed


async def test_waiting_ends_with_an_event_of_another_thread() -> None:
    bus = EventBus("e")
    waiting = asyncio.create_task(bus.wait(0))
    await wait_until(lambda: bus.reader_count == 1)
    await asyncio.to_thread(bus.publish, "tip", {})
    await asyncio.wait_for(waiting, 20)
    assert not bus.reader_count


async def test_waiting_for_the_past_ends_at_once() -> None:
    bus = EventBus("e")
    bus.publish("tip", {})
    await asyncio.wait_for(bus.wait(0), 20)


async def test_waiting_ends_with_the_time() -> None:
    bus = EventBus("e")
    await asyncio.wait_for(bus.wait(0, timeout_seconds=0), 20)
    assert not bus.reader_count


async def test_closing_sends_everybody_home() -> None:
    bus = EventBus("e")
    waiting = asyncio.create_task(bus.wait(0))
    await wait_until(lambda: bus.reader_count == 1)
    bus.close()
    await asyncio.wait_for(waiting, 20)
    await asyncio.wait_for(bus.wait(0), 20)


def test_the_feed_keeps_the_latest_events_and_tells_gaps() -> None:
    bus = EventBus("e", capacity=2)
    for number in range(3):
        bus.publish("tip", {"number": number})
    assert bus.read_after(0) is None
    assert [event.data["number"] for event in bus.read_after(1) or []] == [1, 2]
    assert bus.read_after(3) == []
    assert bus.read_after(4) is None


def test_ids_are_those_of_one_feed() -> None:
    bus = EventBus("e")
    assert bus.parse_id(bus.format_id(7)) == 7
    assert bus.parse_id("f-7") is None
