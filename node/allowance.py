"""How many false blocks one client's address may have judged: over REST nobody shakes hands or is barred.

The addresses of one IPv6 subnet count as one.

Owns the count. Whose a block is, and what one is told who has spent his share, is the caller's.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from consensus.errors import BadDelivery, RuleViolation
from node.p2p.urls import get_subnet, is_loopback

FALSE_BLOCKS = 8
"""False blocks of one address at once after a pause, and blocks of it that are judged at the same time."""
SECONDS_PER_FALSE_BLOCK = 10.0
"""In the long run an address may be wrong once in this time: an evaluation takes a fraction of it."""
MAX_ADDRESSES = 1_024


class AllowanceSpent(Exception):
    """An address sent as many false blocks as this node looks at for now."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(f"too many false blocks came from this address, wait {wait_seconds:.0f} s")
        self.wait_seconds = wait_seconds


@dataclass(slots=True)
class _Share:
    left: float
    refilled_at: float


class ClientAllowance:
    """The shares of every address; this machine's own is not limited. Belongs on the event loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._shares: OrderedDict[str, _Share] = OrderedDict()

    @contextmanager
    def hold(self, host: str) -> Iterator[None]:
        """Part of an address's share while its block is judged; spent where it turns out false.

        Raises AllowanceSpent.
        """
        share = None if is_loopback(host) else self._take(get_subnet(host))
        try:
            yield
        except (BadDelivery, RuleViolation):
            raise
        except BaseException:
            _give_back(share)
            raise
        _give_back(share)

    def _take(self, host: str) -> _Share:
        now = self._monotonic()
        share = self._shares.setdefault(host, _Share(FALSE_BLOCKS, now))
        self._shares.move_to_end(host)
        while len(self._shares) > MAX_ADDRESSES:
            self._shares.popitem(last=False)
        share.left = min(FALSE_BLOCKS, share.left + (now - share.refilled_at) / SECONDS_PER_FALSE_BLOCK)
        share.refilled_at = now
        if share.left < 1.0:
            raise AllowanceSpent((1.0 - share.left) * SECONDS_PER_FALSE_BLOCK)
        share.left -= 1.0
        return share


def _give_back(share: _Share | None) -> None:
    if share is not None:
        share.left = min(FALSE_BLOCKS, share.left + 1.0)
