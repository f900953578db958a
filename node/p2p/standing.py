"""Who is refused: liars for a time, whom the operator banned, and the other side of a partition.

A liar is known by its host alone, an IPv6 one with its whole /64: anybody can call himself by another's node
id or URL.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable

from node.p2p.limits import MAX_BARRED
from node.p2p.urls import get_subnet, is_loopback, normalise_url

MonotonicTime = Callable[[], float]
"""Seconds on a clock that never jumps: the event loop's."""


class Standing:
    """The refused: liars by their host, the operator's choices by URL or node id."""

    def __init__(self, time: MonotonicTime) -> None:
        self._time = time
        self._barred_until: OrderedDict[str, float] = OrderedDict()
        self._banned: set[str] = set()
        self._blocked: frozenset[str] = frozenset()

    def bar(self, host: str, seconds: float) -> None:
        """Refuse a liar's host for a time; never this machine."""
        subnet = get_subnet(host)
        if is_loopback(subnet):
            return
        self._barred_until[subnet] = self._time() + seconds
        self._barred_until.move_to_end(subnet)
        while len(self._barred_until) > MAX_BARRED:
            self._barred_until.popitem(last=False)

    def ban(self, url_or_node_id: str) -> None:
        """Refuse a URL or node id for good. Raises ValueError for what is neither."""
        self._banned.add(normalise_name(url_or_node_id))

    def set_blocked(self, blocked: Collection[str]) -> None:
        """Replace the other side of the partition. Raises ValueError for what is neither URL nor node id."""
        self._blocked = frozenset(normalise_name(name) for name in blocked)

    def is_barred(self, host: str, names: Iterable[str | None]) -> bool:
        """Whether a host is a liar's, or any of its URLs and node ids is banned."""
        barred_until = self._barred_until.get(get_subnet(host), 0.0)
        return barred_until > self._time() or not self._banned.isdisjoint(names)

    def is_blocked(self, names: Iterable[str | None]) -> bool:
        """Whether any of these URLs and node ids is on the other side of the partition."""
        return not self._blocked.isdisjoint(names)


def normalise_name(url_or_node_id: str) -> str:
    """A URL in its one form, or a node id as it is. Raises ValueError for what is neither."""
    if is_node_id(url_or_node_id):
        return url_or_node_id
    return normalise_url(url_or_node_id)


def is_node_id(text: str) -> bool:
    """Whether a text has the form of a node id."""
    return len(text) == 32 and set(text) <= set("0123456789abcdef")
