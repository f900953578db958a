"""Which URLs may name a peer, and which addresses count as private or as this machine."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import httpx

from node.p2p.limits import MAX_URL_CHARACTERS

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME_CHARACTERS = 253
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def normalise_url(url: str) -> str:
    """The one form in which a peer's URL is kept: scheme://host[:port], nothing after it.

    Raises ValueError for what cannot be the base of a peer.
    """
    if len(url) > MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable():
        raise ValueError("a peer's URL is printable ASCII of at most 256 characters")
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in _DEFAULT_PORTS or not host or ("[" in url) != (":" in host) or not _is_host(host):
        raise ValueError(f"{url!r} is not an http or https URL of a host")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{url!r} has more than a scheme, a host and a port")
    bracketed = f"[{host}]" if ":" in host else host
    port = parts.port
    suffix = "" if port is None or port == _DEFAULT_PORTS[parts.scheme] else f":{port}"
    normal = f"{parts.scheme}://{bracketed}{suffix}"
    _check_readable(normal)
    return normal


def get_host(url: str) -> str:
    """The host of a normalised URL, without brackets."""
    return urlsplit(url).hostname or ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name alone."""
    if host == "localhost":
        return True
    address = _parse_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address is not None and (mapped or address).is_loopback


def get_subnet(host: str) -> str:
    """What a host counts as where hosts are limited or barred: whoever has an IPv6 address has its whole /64.

    An IPv6 address that leads to an IPv4 one counts as that; names and this machine's own are as they are.
    """
    address = _parse_address(host)
    if address is None or address.is_loopback:
        return host
    inner = _unwrap(address)
    if isinstance(inner, ipaddress.IPv4Address):
        return str(inner)
    return str(ipaddress.IPv6Network((int(inner), 64), strict=False))


def is_private(host: str) -> bool:
    """Whether a host is, by its name alone, an address that does not lead to the public internet."""
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    address = _parse_address(host)
    return address is not None and not is_public_address(address)


def is_public_address(address: _Address) -> bool:
    """Whether an address leads to the public internet, also where IPv6 wraps an IPv4 one."""
    inner = _unwrap(address)
    if isinstance(inner, ipaddress.IPv6Address) and inner not in _GLOBAL_UNICAST:
        # Nothing else is allocated: local translation, site-local and IPv4-compatible addresses among it.
        return False
    return inner.is_global and not inner.is_multicast


def _is_host(host: str) -> bool:
    """Whether a lower-case text is an IP address in its usual form, or a name that resolvers take."""
    if _parse_address(host) is not None:
        return "%" not in host
    labels = host.split(".")
    # Resolvers take a number, alone or at the end, for an address in an unusual form: 127.1, 0x7f000001.
    is_number = _NUMBER.fullmatch(labels[-1]) is not None
    is_name = len(host) <= _MAX_NAME_CHARACTERS and all(_LABEL.fullmatch(label) for label in labels)
    return is_name and not is_number


def _check_readable(url: str) -> None:
    """Raises ValueError where the HTTP client would refuse the URL, as names that are no real `xn--` ones."""
    try:
        readable = httpx.URL(url).host
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r}: {error}") from error
    if not readable:
        raise ValueError(f"{url!r} has no host")


def _parse_address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _unwrap(address: _Address) -> _Address:
    """The IPv4 address to which an IPv6 one leads: mapped, 6to4 or translated; any other as it is."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    translated = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    return address.ipv4_mapped or address.sixtofour or translated or address
