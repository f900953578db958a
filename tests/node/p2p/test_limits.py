"""The table of limits, and that requests and answers are held to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from node.p2p import client as client_module
from node.p2p import limits as limits_module
from node.p2p.client import PeerClient
from node.p2p.errors import PeerLied, PeerRefused, PeerUnreachable, Refusal
from node.p2p.gate import Gate
from node.p2p.limits import LimitTable, Message, MessageLimits, build_limits
from node.p2p.standing import Standing
from node.p2p.wire import PREFIX, ROUTES, Hello
from tests.builders import build_spec, mine_block
from tests.node.p2p.conftest import StartNode
from tests.node.p2p.world import FakePeer, World


def get_limits() -> LimitTable:
    return build_limits(build_spec().limits)


async def test_every_message_has_a_row_and_a_route(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    served = {
        (method, route.path.removeprefix(PREFIX))  # type: ignore[attr-defined]
        for route in node.network.router.routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }

    assert set(get_limits()) == set(Message) == set(ROUTES)
    assert served == set(ROUTES.values())


def test_rows_are_positive_and_fit_what_they_bound() -> None:
    table = get_limits()
    for row in table.values():
        assert min(row.answer_bytes, row.per_second, row.burst, row.in_flight, row.answer_seconds) > 0
        assert row.request_bytes >= 0
    assert table[Message.BLOCK].answer_bytes == build_spec().limits.max_block_bytes
    urls = limits_module.MAX_ADDRESSES * (limits_module.MAX_URL_CHARACTERS + 3)
    assert table[Message.ADDRESSES].answer_bytes > urls
    assert table[Message.HEADERS].request_bytes > limits_module.MAX_LOCATOR * 67


POSTED = {
    "/handshake": Message.HANDSHAKE,
    "/headers": Message.HEADERS,
    "/announce": Message.ANNOUNCE,
    "/transactions": Message.PUSH_TRANSACTIONS,
}


@pytest.mark.parametrize("path", POSTED)
async def test_rejects_long_requests(world: World, start_node: StartNode, path: str) -> None:
    node = await start_node(1)
    peer = FakePeer(world, 7)
    await peer.greet(node)

    body = b"x" * (get_limits()[POSTED[path]].request_bytes + 1)
    answer = await peer.ask(node, "POST", path, content=body)

    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


@pytest.mark.parametrize("path", POSTED)
async def test_rejects_a_body_that_does_not_come(
    world: World, start_node: StartNode, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    node = await start_node(1)
    peer = FakePeer(world, 7)
    await peer.greet(node)
    monkeypatch.setattr("node.p2p.gate.BODY_SECONDS", 0.05)

    async with asyncio.timeout(10):
        answer = await peer.ask(node, "POST", path, content=stream())

    assert (answer.status_code, answer.json()["code"]) == (408, "too-slow")


async def test_rejects_requests_that_come_too_often(world: World, start_node: StartNode) -> None:
    node = await start_node(1)
    peer = FakePeer(world, 7)
    await peer.greet(node)
    burst = get_limits()[Message.ADDRESSES].burst

    answers = [await peer.ask(node, "GET", "/addresses") for _ in range(burst + 1)]

    assert [answer.status_code for answer in answers] == [200] * burst + [429]
    assert answers[-1].json()["code"] == "too-many-requests"
    assert int(answers[-1].headers["Retry-After"]) >= 1
    # Another message has an allowance of its own.
    assert (await peer.ask(node, "GET", "/transactions")).status_code == 200


class SteppedTime:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def build_gate(time: SteppedTime, **row: Any) -> Gate:
    limits = MessageLimits(**({"request_bytes": 1, "answer_bytes": 1, "answer_seconds": 1.0} | row))
    return Gate(dict.fromkeys(Message, limits), Standing(time), time)


def test_allowance_refills_with_time() -> None:
    time = SteppedTime()
    gate = build_gate(time, per_second=2.0, burst=2, in_flight=9)

    def is_admitted() -> bool:
        try:
            with gate.admit(Message.HEADERS, "10.0.0.1", None):
                return True
        except Refusal:
            return False

    assert [is_admitted() for _ in range(3)] == [True, True, False]
    time.now = 0.5
    assert [is_admitted() for _ in range(2)] == [True, False]
    time.now = 100.0
    assert [is_admitted() for _ in range(3)] == [True, True, False]


def test_rejects_more_in_flight_than_allowed() -> None:
    gate = build_gate(SteppedTime(), per_second=9.0, burst=9, in_flight=1)

    with gate.admit(Message.BLOCK, "10.0.0.1", "a"), pytest.raises(Refusal):
        gate.admit(Message.BLOCK, "10.0.0.1", "b").__enter__()
    with gate.admit(Message.BLOCK, "2001:db8::1", "a"), pytest.raises(Refusal):
        gate.admit(Message.BLOCK, "2001:db8::2", "b").__enter__()
    # On this machine the node id tells peers apart.
    with gate.admit(Message.BLOCK, "127.0.0.1", "a"), gate.admit(Message.BLOCK, "127.0.0.1", "b"):
        pass


def test_gate_forgets_whom_it_has_not_heard_of_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.p2p.gate.MAX_SESSIONS", 3)
    gate = build_gate(SteppedTime(), per_second=9.0, burst=9, in_flight=1)
    for number in range(60):
        hello = Hello(protocol=1, chain_id="0" * 64, node_id=f"{number:032x}", listen_url=None, height=0)
        gate.open_session(f"10.0.0.{number}", hello, None)
        with gate.admit(Message.BLOCK, f"10.0.0.{number}", None):
            pass

    assert len(gate._sessions) == 3
    assert len(gate._allowances.usages) <= 3 * len(Message) + 1


async def test_block_of_many_pieces_arrives_whole(
    world: World, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.p2p.routes.PIECE_BYTES", 100)
    node = await start_node(1)
    block = mine_block(world.spec, world.genesis)
    await node.mine(block)
    peer = FakePeer(world, 7)
    await peer.greet(node)

    answer = await peer.ask(node, "GET", f"/blocks/{block.block_id.hex()}")

    assert answer.content == block.raw
    assert int(answer.headers["Content-Length"]) == len(block.raw)


class Server:
    """An ASGI application that answers every request alike and counts them."""

    def __init__(self, *responses: Response) -> None:
        self.responses = list(responses)
        self.count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.count += 1
        response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        await response(scope, receive, send)

    def build_client(self, limits: LimitTable | None = None) -> PeerClient:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(self))
        return PeerClient(http, "http://peer", limits or get_limits(), build_hello)


def build_hello() -> Hello:
    chain_id = build_spec().chain_id.hex()
    return Hello(protocol=1, chain_id=chain_id, node_id="0" * 32, listen_url=None, height=0)


Ask = Callable[[PeerClient], Awaitable[object]]


async def ask_headers(client: PeerClient) -> object:
    return await client.get_headers([bytes(32)])


@pytest.mark.parametrize(
    ("ask", "body"),
    [
        (ask_headers, b"\0" * (190 * 2_000 + 1)),
        (ask_headers, b"\0" * 191),
        (PeerClient.get_addresses, b'{"addresses": 7}'),
        (PeerClient.get_addresses, b'{"addresses": ["' + b"x" * 300 + b'"]}'),
        (PeerClient.get_addresses, b" " * 40_000),
        (PeerClient.get_transfers, b"\0" * 187),
        (PeerClient.shake_hands, b"{}"),
    ],
)
async def test_rejects_answers_that_cannot_be_true(ask: Ask, body: bytes) -> None:
    client = Server(Response(body)).build_client()

    with pytest.raises(PeerLied):
        await ask(client)


async def test_compressed_answer_is_not_unpacked() -> None:
    client = Server(Response(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})).build_client()

    with pytest.raises(PeerLied):
        await client.get_addresses()


async def test_busy_peer_is_asked_again() -> None:
    busy = Response(status_code=429, headers={"Retry-After": "0"})
    server = Server(busy, busy, Response(b'{"addresses": []}'))

    assert await server.build_client().get_addresses() == []
    assert server.count == 3


@pytest.mark.parametrize("wait", ["nan", "-nan", "inf", "-1", "1e999", "soon"])
async def test_wait_that_a_busy_peer_asks_for_is_a_bounded_number(wait: str) -> None:
    response = httpx.Response(429, headers={"Retry-After": wait})

    assert 0.0 < client_module.read_retry_after(response) <= client_module.MAX_RETRY_SECONDS


async def test_cookies_of_peers_are_not_kept() -> None:
    http = client_module.build_http(httpx.ASGITransport(Server(Response(b"{}", 200, {"Set-Cookie": "a=b"}))))
    for _ in range(2):
        await http.get("http://peer/")

    assert len(http.cookies.jar) == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"code": "barred"}', "barred"),
        (b"?", "no-code"),
        (b"[]", "no-code"),
        (b"[" * 4_096, "no-code"),
        (b'{"code": "barred"}' + b" " * 5_000, "no-code"),
    ],
)
async def test_refusal_carries_its_code(body: bytes, code: str) -> None:
    client = Server(Response(body, 403)).build_client()

    with pytest.raises(PeerRefused) as caught:
        await client.get_addresses()

    assert (caught.value.status, caught.value.code) == (403, code)


async def test_answer_that_does_not_come_in_time_is_none() -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    row = MessageLimits(1_024, 1_024, 1.0, 1, 1, 0.05)
    http = httpx.AsyncClient(transport=httpx.ASGITransport(never))
    client = PeerClient(http, "http://peer", dict.fromkeys(Message, row), build_hello)

    with pytest.raises(PeerUnreachable, match=re.escape("no answer to addresses")):
        await client.get_addresses()
