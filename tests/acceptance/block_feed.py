"""Blocks with real work, one after another without end, handed to whichever node lives.

Owns a thread that mines on its own last block. A node that was killed may have stored what nobody else has,
so a node that lacks a block's parent is handed the parent first.
"""

from __future__ import annotations

import threading
from random import Random
from types import TracebackType
from typing import Self

import httpx

from tests.acceptance.node_process import NodeProcess
from tests.acceptance.real_network import RealNetwork
from tests.builders import BuiltBlock

MAX_PAUSE_SECONDS = 0.1
MAX_MISSING = 64
"""Ancestors that are handed in at most before a node is given up for the moment."""


class BlockFeed:
    """The one miner of a network, on a thread of its own from entry to exit."""

    def __init__(self, network: RealNetwork, random: Random) -> None:
        self._network = network
        self._random = random
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="block-feed")
        self.blocks: list[BuiltBlock] = [network.tip]
        """What some node has taken, the lowest first."""
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def tip(self) -> BuiltBlock:
        """The newest block that some node has taken."""
        return self.blocks[-1]

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._random.uniform(0.0, MAX_PAUSE_SECONDS)):
                self._network.tip = self.tip
                self._deliver(self._network.mine(miner=self._random.randbytes(32)))
        except BaseException as error:
            self.failure = error

    def _deliver(self, built: BuiltBlock) -> None:
        """Hand a block to one node after another until one has it."""
        while not self._stop.is_set():
            node = self._random.choice(self._network.nodes)
            if self._hand_in(node, built):
                self.blocks.append(built)
                return

    def _hand_in(self, node: NodeProcess, built: BuiltBlock) -> bool:
        """Whether a node has a block now; its missing ancestors are handed in before it."""
        missing = [built]
        while missing and len(missing) <= MAX_MISSING:
            code = self._post(node, missing[-1])
            if code in ("taken", "duplicate"):
                missing.pop()
            elif code == "unknown-parent" and missing[-1].parent is not None:
                missing.append(missing[-1].parent)
            elif code == "not-there":
                return False
            else:
                raise AssertionError(f"{node.url} refuses an honest block: {code}")
        return not missing

    def _post(self, node: NodeProcess, built: BuiltBlock) -> str:
        """The code of the answer; `taken` for a block that was new, `not-there` where nobody answers."""
        try:
            response = node.post_block(built.raw)
        except httpx.TransportError:
            return "not-there"
        if response.is_success:
            return "taken"
        code: str = response.json()["code"]
        return "not-there" if response.status_code in (429, 503) else code
