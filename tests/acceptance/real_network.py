"""Real nodes that know each other, and the chain that they agree on.

Owns starting them together and waiting until they agree. One test after another moves the chain on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consensus.params import ChainSpec
from consensus.transaction import SignedTransfer
from tests.acceptance.node_process import NodeProcess, prepare_directory
from tests.acceptance.real_work import mine_real_block
from tests.builders import BuiltBlock


@dataclass(slots=True)
class RealNetwork:
    """Nodes, each connected with every other, and their common tip."""

    spec: ChainSpec
    nodes: tuple[NodeProcess, ...]
    tip: BuiltBlock

    @property
    def urls(self) -> list[str]:
        """Where the nodes listen."""
        return [node.url for node in self.nodes]

    def mine(self, transfers: Sequence[SignedTransfer] = (), **options: Any) -> BuiltBlock:
        """An honest child of the tip, not handed to anybody."""
        return mine_real_block(self.spec, self.tip, transfers, **options)

    def extend(self, built: BuiltBlock, node: NodeProcess) -> None:
        """Hand the next block to one node and wait until it is everybody's tip."""
        answer = node.post_block(built.raw)
        assert (answer.status_code, answer.json().get("status")) == (201, "active"), answer.text
        self.tip = built
        self.wait_for_tip()

    def wait_for_tip(self) -> None:
        """Return once all nodes are at the tip."""
        for node in self.nodes:
            node.wait_for_tip(self.tip.block_id)

    def wait_for_connections(self) -> None:
        """Return once every node is connected with every other."""
        for node in self.nodes:
            node.wait_until_connected(url for url in self.urls if url != node.url)

    def read(self, read: Callable[[NodeProcess], int]) -> list[int]:
        """A number of every node."""
        return [read(node) for node in self.nodes]

    def partition(self, alone: NodeProcess) -> None:
        """Cut one node off from all others, both ways."""
        others = [node for node in self.nodes if node is not alone]
        alone.order("partition", {"blocked": [node.url for node in others]})
        for node in others:
            node.order("partition", {"blocked": [alone.url]})

    def heal(self) -> None:
        """End the partition and wait until it is over."""
        for node in self.nodes:
            node.order("partition", {"blocked": []})
        self.wait_for_connections()


@contextmanager
def run_network(
    root: Path, spec: ChainSpec, blocks: Sequence[BuiltBlock], size: int
) -> Iterator[RealNetwork]:
    """Nodes that hold these blocks already, ready to judge others."""
    with ExitStack() as stack:
        nodes: list[NodeProcess] = []
        for number in range(1, size + 1):
            directory = prepare_directory(root / f"node-{number}", spec, blocks)
            node = stack.enter_context(NodeProcess(directory, [other.url for other in nodes]))
            node.start()
            nodes.append(node)
        network = RealNetwork(spec, tuple(nodes), blocks[-1])
        for node in nodes:
            node.wait_until_evaluating()
            # One that starts again seeks the others by itself.
            node.peers = [other.url for other in nodes if other is not node]
        network.wait_for_connections()
        yield network
