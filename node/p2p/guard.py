"""A transport that looks names up itself and, but for exempt URLs, reaches public addresses alone."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from node.p2p.urls import is_public_address

LOOKUP_SECONDS = 5.0
"""A name that is not resolved by then leads nowhere."""
MAX_LOOKUPS = 64
"""Names looked up at once. The system's resolver cannot be interrupted, so one that hangs keeps its place."""
MAX_TRIED_ADDRESSES = 3
"""Addresses of one name that are tried."""

Resolve = Callable[[str], Awaitable[list[str]]]
"""host → its IP addresses; empty where it has none."""

# Never asyncio's own threads: names that nobody answers for would keep all other work waiting.
_LOOKUPS = ThreadPoolExecutor(MAX_LOOKUPS, "lookup")


class GuardedTransport(httpx.AsyncBaseTransport):
    """Resolves the host itself, refuses private addresses, and connects to the addresses that it checked.

    A check followed by a second resolution inside the inner transport could be answered differently.
    """

    def __init__(
        self, inner: httpx.AsyncBaseTransport, is_exempt: Callable[[httpx.URL], bool], resolve: Resolve
    ) -> None:
        """Exempt URLs may lead to private addresses."""
        self._inner = inner
        self._is_exempt = is_exempt
        self._resolve = resolve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.ConnectError where the host has no address, or one that is not public."""
        host = request.url.raw_host.decode("ascii")
        addresses = await self._resolve(host)
        is_exempt = self._is_exempt(request.url)
        if not addresses or not (is_exempt or all(map(_is_public, addresses))):
            raise httpx.ConnectError(f"{host} leads to a private address or to none", request=request)
        if addresses == [host]:
            return await self._inner.handle_async_request(request)
        return await self._connect(request, addresses[:MAX_TRIED_ADDRESSES])

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def _connect(self, request: httpx.Request, addresses: list[str]) -> httpx.Response:
        """The answer of the first address that takes a connection; the time for that is shared by all."""
        url, timeout = request.url, dict(request.extensions.get("timeout", {}))
        if timeout.get("connect") is not None:
            timeout["connect"] /= len(addresses)
        # The Host header is set already; TLS checks the certificate against the name, not the address.
        sni_hostname = url.raw_host.decode("ascii")
        extensions = {**request.extensions, "timeout": timeout, "sni_hostname": sni_hostname}

        def lead_to(address: str) -> httpx.Request:
            # A request of its own: the caller may send his again, and then it is looked up again.
            return httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions=extensions,
            )

        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(lead_to(address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._inner.handle_async_request(lead_to(addresses[-1]))


async def resolve_host(host: str) -> list[str]:
    """The addresses that the system's resolver gives in time."""
    try:
        ipaddress.ip_address(host)
        return [host]
    except ValueError:
        pass
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(_LOOKUPS, _look_up, host)
    except (OSError, UnicodeError):
        # A name with labels that no resolver takes fails while it is encoded. Out of time is an OSError too.
        return []


def _look_up(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    # An IPv6 address may carry a scope, which means it is a local one.
    return list(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found))


def _is_public(address: str) -> bool:
    return is_public_address(ipaddress.ip_address(address))
