"""URLs of peers, private addresses, and the transport that reaches public ones alone."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import NoReturn

import httpx
import pytest

from node.p2p import guard as guard_module
from node.p2p.guard import GuardedTransport, resolve_host
from node.p2p.standing import Standing
from node.p2p.urls import get_host, get_subnet, is_loopback, is_private, normalise_url


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://Example.ORG", "http://example.org"),
        ("http://example.org:80/", "http://example.org"),
        ("https://example.org:443", "https://example.org"),
        ("https://example.org:80", "https://example.org:80"),
        ("http://127.0.0.1:8645", "http://127.0.0.1:8645"),
        ("http://[::1]:8645/", "http://[::1]:8645"),
    ],
)
def test_urls_have_one_form(url: str, normal: str) -> None:
    assert normalise_url(url) == normal
    assert normalise_url(normal) == normal


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org",
        "http://",
        "http://user@example.org",
        "http://user:word@example.org",
        "http://example.org/path",
        "http://example.org?query",
        "http://example.org#part",
        "http://example.org:0x50",
        "http://example.org:70000",
        "http://ex ample.org",
        "http://ex%2fample.org",
        "http://exämple.org",
        "http://example.org\n",
        "http://[::1",
        "http://" + "x" * 300,
        "http://999.1.1.1",
        "http://1.2.3",
        "http://127.1",
        "http://2130706433",
        "http://0x7f000001",
        "http://a..b",
        "http://.",
        "http://a.",
        "http://-a.org",
        "http://" + "x" * 64 + ".org",
        "http://" + "x." * 127 + "org",
        "http://xn--a",
        "http://xn--zz--",
        "http://a<b",
        "http://a^b",
        "http://[v1.a]",
    ],
)
def test_rejects_urls_of_no_peer(url: str) -> None:
    try:
        normal = normalise_url(url)
    except ValueError:
        return
    pytest.fail(f"taken as {normal}")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "2002:0a00:0001::1",
        "64:ff9b::a00:1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::808:808",
        "::10.0.0.1",
        "::8.8.8.8",
        "fec0::1",
        "localhost",
        "node.local",
        "vault.internal",
    ],
)
def test_private_hosts(host: str) -> None:
    assert is_private(host)


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808", "example.org"]
)
def test_public_hosts(host: str) -> None:
    assert not is_private(host)


def test_loopback_hosts() -> None:
    assert all(map(is_loopback, ("127.0.0.9", "::1", "::ffff:127.0.0.1", "localhost")))
    assert not any(map(is_loopback, ("10.0.0.1", "::ffff:10.0.0.1", "example.org")))
    assert get_host("http://[::1]:80") == "::1"


@pytest.mark.parametrize(
    ("host", "subnet"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2002:c000:201::5", "192.0.2.1"),
        ("64:ff9b::c000:201", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::1", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("example.org", "example.org"),
        ("unknown", "unknown"),
    ],
)
def test_addresses_of_one_subnet_count_as_one(host: str, subnet: str) -> None:
    assert get_subnet(host) == subnet


class Recorder(httpx.AsyncBaseTransport):
    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200)

    async def aclose(self) -> None:
        self.is_closed = True


NAMES = {
    "public.example": ["8.8.8.8"],
    "mixed.example": ["8.8.8.8", "10.0.0.1"],
    "private.example": ["127.0.0.1"],
    "nobody.example": [],
    "8.8.4.4": ["8.8.4.4"],
}


async def resolve(host: str) -> list[str]:
    return NAMES[host]


async def test_guard_connects_to_the_address_that_it_checked() -> None:
    recorder = Recorder()
    guard = GuardedTransport(recorder, lambda _url: False, resolve)
    async with httpx.AsyncClient(transport=guard) as client:
        await client.get("https://public.example:8645/x")
        await client.get("http://8.8.4.4/x")

    first, second = recorder.requests
    assert (first.url.host, first.url.port, first.headers["Host"]) == ("8.8.8.8", 8645, "public.example:8645")
    assert first.extensions["sni_hostname"] == "public.example"
    assert second.url.host == "8.8.4.4"
    assert recorder.is_closed


@pytest.mark.parametrize("host", ["mixed.example", "private.example", "nobody.example"])
async def test_guard_rejects_names_that_lead_to_private_addresses(host: str) -> None:
    recorder = Recorder()
    async with httpx.AsyncClient(transport=GuardedTransport(recorder, lambda _url: False, resolve)) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{host}/")

    assert recorder.requests == []


async def test_guard_lets_the_operator_s_own_choice_pass() -> None:
    recorder = Recorder()
    guard = GuardedTransport(recorder, lambda url: url.port == 8645, resolve)
    async with httpx.AsyncClient(transport=guard) as client:
        await client.get("http://private.example:8645/")
        with pytest.raises(httpx.ConnectError):
            await client.get("http://private.example:22/")

    assert [request.url.host for request in recorder.requests] == ["127.0.0.1"]


async def test_a_request_that_is_sent_again_is_the_operator_s_choice_again() -> None:
    recorder = Recorder()
    guard = GuardedTransport(recorder, lambda url: url.host == "private.example", resolve)
    async with httpx.AsyncClient(transport=guard) as client:
        request = client.build_request("POST", "http://private.example/", content=b"hello")
        for _ in range(2):
            await client.send(request)

    assert str(request.url) == "http://private.example/"
    assert [sent.url.host for sent in recorder.requests] == ["127.0.0.1"] * 2
    assert [await sent.aread() for sent in recorder.requests] == [b"hello"] * 2


async def test_guard_goes_on_to_the_next_address_where_nobody_listens() -> None:
    asked = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.host, request.extensions["timeout"]["connect"]))
        if request.url.host == "8.8.8.8":
            raise httpx.ConnectError("nobody listens there", request=request)
        return httpx.Response(200)

    guard = GuardedTransport(httpx.MockTransport(answer), lambda _url: True, resolve)
    async with httpx.AsyncClient(transport=guard, timeout=4.0) as client:
        await client.get("http://mixed.example/")

    assert asked == [("8.8.8.8", 2.0), ("10.0.0.1", 2.0)]


async def test_system_resolver_knows_this_machine_and_not_nonsense() -> None:
    assert "127.0.0.1" in await resolve_host("127.0.0.1")
    assert await resolve_host("no-such-host.invalid") == []
    assert await resolve_host("a..b") == []


async def test_names_that_nobody_answers_for_keep_no_other_work_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    def hang(*_: object, **__: object) -> NoReturn:
        answered.wait()
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(guard_module, "LOOKUP_SECONDS", 0.2)
    try:
        async with asyncio.timeout(10):
            # More than there are threads, here or of asyncio's.
            names = [f"{number}.example" for number in range(2 * guard_module.MAX_LOOKUPS)]
            assert await asyncio.gather(*map(resolve_host, names)) == [[]] * len(names)
            assert await asyncio.to_thread(lambda: "done") == "done"
            assert await resolve_host("192.0.2.1") == ["192.0.2.1"]
    finally:
        answered.set()


def test_bars_are_bounded_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.p2p.standing.MAX_BARRED", 2)
    now = 0.0
    standing = Standing(lambda: now)
    for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "127.0.0.1", "localhost"):
        standing.bar(host, 60.0)

    assert [standing.is_barred(f"10.0.0.{n}", ()) for n in (1, 2, 3)] == [False, True, True]
    assert not standing.is_barred("127.0.0.1", ())
    now = 60.0
    assert not standing.is_barred("10.0.0.3", ())


def test_bar_holds_for_a_liar_s_subnet() -> None:
    standing = Standing(lambda: 0.0)
    standing.bar("2001:db8:1:2::1", 60.0)
    standing.bar("::ffff:127.0.0.1", 60.0)

    barred = [standing.is_barred(host, ()) for host in ("2001:db8:1:2::2", "2001:db8:1:3::1", "127.0.0.1")]
    assert barred == [True, False, False]
