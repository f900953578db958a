"""Connections that ask for nothing, on a real socket, and how many of them there may be."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest

from node import incoming
from node.incoming import ConnectionPlaces, count_places, raise_file_limit
from tests.node.rest.conftest import TestNode, serve

REQUEST = b"GET /health/live HTTP/1.1\r\nHost: node\r\n\r\n"


class Connection:
    """A client that sends what a test tells it to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def is_answered(self, request: bytes = REQUEST) -> bool:
        """Whether a request finds an answer, and not the end of the connection."""
        try:
            self.writer.write(request)
            return (await self.reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        except (asyncio.IncompleteReadError, OSError):
            return False

    async def wait_for_end(self) -> None:
        """Return when the server has closed the connection."""
        async with asyncio.timeout(20):
            assert await self.reader.read() == b""


@asynccontextmanager
async def connect(client: httpx.AsyncClient) -> AsyncIterator[Connection]:
    """A connection to the node."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"G", REQUEST[:-1]])
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_connection_that_does_not_say_what_it_wants_is_closed(
    node: TestNode, monkeypatch: pytest.MonkeyPatch, sent: bytes, is_first: bool
) -> None:
    monkeypatch.setattr(incoming, "HEAD_SECONDS", 1.0)
    async with serve(node) as client, connect(client) as connection:
        assert is_first or await connection.is_answered()
        connection.writer.write(sent)
        await connection.wait_for_end()


async def test_a_client_that_never_reads_keeps_no_place(
    node: TestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(incoming, "FLUSH_SECONDS", 0.1)
    monkeypatch.setattr(incoming, "MAX_CONNECTIONS", 1)
    async with serve(node) as client, connect(client) as greedy:
        # Far more answers than the system and the connection keep for a reader that does not come.
        greedy.writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: node\r\n\r\n" * 400)
        async with asyncio.timeout(20):
            while True:
                async with connect(client) as other:
                    if await other.is_answered():
                        break


async def test_a_request_may_take_longer_than_its_head(
    node: TestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "HEAD_SECONDS", 1.0)
    async with serve(node) as client, client.stream("GET", "/v1/events") as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == "event: tip"
        async with connect(client) as silent:
            await silent.wait_for_end()
        (block,) = await node.mine()
        async with asyncio.timeout(20):
            while block.block_id.hex() not in await anext(lines):
                pass


async def test_connections_beyond_the_places_are_closed_until_one_is_free(
    node: TestNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "MAX_CONNECTIONS", 2)
    async with serve(node) as client, connect(client) as first, connect(client) as second:
        assert await first.is_answered()
        assert await second.is_answered()
        async with connect(client) as third:
            assert not await third.is_answered()
        first.writer.close()
        async with asyncio.timeout(20):
            while True:
                async with connect(client) as other:
                    if await other.is_answered():
                        break
        assert await second.is_answered()


def test_one_address_takes_a_quarter_of_the_places_and_this_machine_all() -> None:
    places = ConnectionPlaces(16)
    hosts = [f"2001:db8:1:2::{number}" for number in range(5)]
    assert [places.take(host) for host in hosts] == [True] * 4 + [False]
    assert places.take("192.0.2.1")
    assert [places.take("127.0.0.1") for _ in range(12)] == [True] * 11 + [False]

    places.give_back(hosts[0])
    assert places.take(hosts[4])
    assert not places.take("192.0.2.1")


@pytest.fixture
def hard_limit() -> Iterator[int]:
    """The system's limit of descriptors; this process's own is put back at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("files", "places"), [(300, 75), (1_024, 384), (2_000, 1_360)])
def test_descriptors_are_left_for_the_node_itself(hard_limit: int, files: int, places: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard_limit))
    assert count_places() == places


def test_a_node_takes_the_descriptors_that_the_system_grants(hard_limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard_limit))
    raise_file_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == (
        65_536 if hard_limit == resource.RLIM_INFINITY else min(hard_limit, 65_536)
    )
