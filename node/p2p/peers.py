"""What is known of other nodes: those connected with, and the addresses of those that could be."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from consensus.encoding import Hash32
from node.p2p.claims import Claim
from node.p2p.client import PeerClient
from node.p2p.limits import (
    MAX_KNOWN_ADDRESSES,
    MAX_OUTBOX_BLOCKS,
    MAX_OUTBOX_TRANSFERS,
    MAX_REMEMBERED_IDS,
)
from node.p2p.urls import get_host

PeerState = Literal["connected", "idle", "barred", "partitioned"]
Origin = Literal["configured", "shook-hands", "learnt"]
"""Named by the operator; named by the node itself when it came; named by others."""
ORIGINS: tuple[Origin, ...] = ("configured", "shook-hands", "learnt")
"""The most trusted first."""


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """One peer, as shown to an operator."""

    url: str
    """Where it is reached."""
    node_id: str | None
    """Its id, None before the first handshake."""
    state: PeerState
    """Connected, or why not."""
    configured: bool
    """Whether the operator named it."""
    height: int | None
    """Height of its tip as far as it said, None before the first handshake."""
    last_seen: float | None
    """Unix seconds of its last handshake or answer about headers."""
    problem: str | None
    """What last ended the relation."""


class BoundedIds:
    """A set of ids, in order of arrival, that forgets the oldest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: OrderedDict[Hash32, None] = OrderedDict()

    def __contains__(self, item: Hash32) -> bool:
        return item in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, item: Hash32) -> None:
        """Remember an id."""
        self._ids[item] = None
        while len(self._ids) > self._size:
            self._ids.popitem(last=False)

    def take(self, count: int) -> list[Hash32]:
        """Remove and return the oldest ids."""
        return [self._ids.popitem(last=False)[0] for _ in range(min(count, len(self._ids)))]


@dataclass(slots=True)
class Outbox:
    """What one peer shall be told."""

    blocks: BoundedIds = field(default_factory=lambda: BoundedIds(MAX_OUTBOX_BLOCKS))
    transfers: BoundedIds = field(default_factory=lambda: BoundedIds(MAX_OUTBOX_TRANSFERS))
    filled: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class Address:
    """Where a node may be reached, and how that went so far."""

    url: str
    origin: Origin
    node_id: str | None = None
    listen_url: str | None = None
    """Where the node says that it is reached; another one than `url` where this is an alias."""
    height: int | None = None
    last_seen: float | None = None
    problem: str | None = None
    failures: int = 0
    """Failures in a row."""
    lies: int = 0
    """How often it lied since this node started."""
    due_at: float = 0.0
    """Time of the event loop before which it is not dialled."""
    is_connected: bool = False
    """Whether there is a Peer at it."""
    was_tried: bool = False
    """Whether the first dial is over, however it ended."""

    @property
    def names(self) -> tuple[str | None, ...]:
        """Every URL and id that the node goes by."""
        return (self.url, self.listen_url, self.node_id)


@dataclass(slots=True, eq=False)
class Peer:
    """A node that shook hands with this one and is asked for what is new."""

    address: Address
    client: PeerClient
    claim: Claim | None = None
    """What it says its chain is, as far as that is not verified here."""
    claim_goes_on: bool = False
    """Whether it has more headers than the claim holds."""
    was_asked: bool = False
    """Whether its headers were fetched once."""
    side_evaluations: int = 0
    """Its blocks that were evaluated since one of them last moved the tip."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it announces something."""
    outbox: Outbox = field(default_factory=Outbox)
    known: BoundedIds = field(default_factory=lambda: BoundedIds(MAX_REMEMBERED_IDS))
    """Blocks and transfers that it has."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set to end the relation from outside; `address.problem` says why."""

    @property
    def url(self) -> str:
        """Where it is reached."""
        return self.address.url

    @property
    def hosts(self) -> set[str]:
        """The host of its URL and the address that it answers from."""
        return {get_host(self.url), self.client.remote_host or get_host(self.url)}


class AddressBook:
    """Addresses by URL: all configured ones, and a bounded number of others."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._addresses: dict[str, Address] = {}

    def __iter__(self) -> Iterator[Address]:
        return iter(tuple(self._addresses.values()))

    def add(self, url: str, origin: Origin) -> Address | None:
        """The address of a normalised URL; None where there is no room for a new one."""
        address = self._addresses.get(url)
        if address is None:
            if origin != "configured" and not self._make_room():
                return None
            address = self._addresses[url] = Address(url, origin)
        elif ORIGINS.index(origin) < ORIGINS.index(address.origin):
            address.origin = origin
        return address

    def remove(self, address: Address) -> None:
        """Forget an address."""
        self._addresses.pop(address.url, None)

    def _make_room(self) -> bool:
        if len(self._addresses) < MAX_KNOWN_ADDRESSES:
            return True
        # At random, so that a flood of addresses cannot choose whom it drives out.
        idle = [a for a in self if a.origin != "configured" and not a.is_connected]
        if idle:
            self.remove(self._random.choice(idle))
        return bool(idle)
