"""Ids of invalid blocks, remembered in memory alone: whatever is forgotten would be found invalid again."""

from __future__ import annotations

import threading
from collections import OrderedDict

from consensus.encoding import Hash32
from consensus.errors import Code

MAX_CONDEMNED = 65_536


class CondemnedIds:
    """A bounded set of ids with the code that condemned each; the longest unseen is forgotten first."""

    def __init__(self, capacity: int = MAX_CONDEMNED) -> None:
        self._capacity = capacity
        self._codes: OrderedDict[Hash32, Code] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, block_id: Hash32, code: Code) -> None:
        """Remember an id; the first code stays."""
        with self._lock:
            self._codes.setdefault(block_id, code)
            self._codes.move_to_end(block_id)
            if len(self._codes) > self._capacity:
                self._codes.popitem(last=False)

    def get(self, block_id: Hash32) -> Code | None:
        """What condemned the id; None where it is not remembered."""
        with self._lock:
            return self._codes.get(block_id)
