"""A transport that reaches public addresses alone, whatever a host's name resolves to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

import httpx

from node.p2p.urls import is_public_address

Resolve = Callable[[str], Awaitable[list[str]]]
"""host → its IP addresses; empty where it has none."""


class PublicTransport(httpx.AsyncBaseTransport):
    """Resolves the host itself, refuses private addresses, and connects to the very address that it checked.

    A check followed by a second resolution inside the inner transport could be answered differently.
    """

    def __init__(
        self, inner: httpx.AsyncBaseTransport, is_exempt: Callable[[httpx.URL], bool], resolve: Resolve
    ) -> None:
        self._inner = inner
        self._is_exempt = is_exempt
        self._resolve = resolve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.ConnectError where the host has no address, or one that is not public."""
        host = request.url.host
        if not self._is_exempt(request.url):
            addresses = await self._resolve(host)
            if not addresses or not all(is_public_address(ipaddress.ip_address(a)) for a in addresses):
                raise httpx.ConnectError(f"{host} leads to a private address or to none", request=request)
            # The Host header is set already; TLS checks the certificate against the name, not the address.
            request.extensions = {**request.extensions, "sni_hostname": host}
            request.url = request.url.copy_with(host=addresses[0])
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


async def resolve_host(host: str) -> list[str]:
    """The addresses that the system's resolver gives."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # A name with labels that no resolver takes fails while it is encoded.
        return []
    # An IPv6 address may carry a scope, which means it is a local one.
    return [str(entry[4][0]).split("%")[0] for entry in found]
