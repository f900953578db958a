"""What Prometheus reads: one registry per node, so that several nodes fit in a process.

Owns the names; counters of evaluations are node.importing's, in the same registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from chain.errors import PoolRefusal
from consensus.errors import ConsensusError


@dataclass(frozen=True, slots=True)
class Gauges:
    """What a scrape reads from the node."""

    height: int
    chain_work: int
    difficulty: int
    peers: int
    mempool_transactions: int
    is_synced: bool
    is_evaluating: bool
    is_at_last_rung: bool


_GAUGES: tuple[tuple[str, str, Callable[[Gauges], int]], ...] = (
    ("height", "Height of the tip", lambda g: g.height),
    ("chain_work", "Work of the active chain in million multiply-accumulates", lambda g: g.chain_work),
    ("difficulty", "Difficulty that the next block must state", lambda g: g.difficulty),
    ("peers", "Peers connected with", lambda g: g.peers),
    ("mempool_transactions", "Transfers that wait for a block", lambda g: g.mempool_transactions),
    ("synced", "1 where no peer is known to be ahead", lambda g: g.is_synced),
    ("evaluating", "1 where the dataset is here and blocks are evaluated", lambda g: g.is_evaluating),
    (
        "at_last_rung",
        "1 where the ladder ends: blocks may come faster than intended",
        lambda g: g.is_at_last_rung,
    ),
)


class Metrics:
    """The metrics that this package keeps, and the registry that they share with the importer's."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rejected = Counter(
            "freezenet_rejected", "Blocks and transfers refused, by code", ["code"], registry=self.registry
        )
        self._reorganisations = Counter(
            "freezenet_reorganisations", "Times that blocks left the active chain", registry=self.registry
        )
        self._gauges = [
            (Gauge(f"freezenet_{name}", text, registry=self.registry), get) for name, text, get in _GAUGES
        ]

    def count_rejection(self, error: ConsensusError | PoolRefusal) -> None:
        """A block or a transfer was refused."""
        self._rejected.labels(str(error.code)).inc()

    def count_reorganisation(self) -> None:
        """Blocks left the active chain."""
        self._reorganisations.inc()

    def render(self, gauges: Gauges) -> bytes:
        """The exposition text of all metrics."""
        for gauge, get in self._gauges:
            gauge.set(float(get(gauges)))
        return generate_latest(self.registry)
