"""What goes on in a devnet, in one snapshot: nodes by their REST, miners by their journals.

Looks and never acts. Showing is `node.devnet.screen`'s, deciding the supervisor's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import httpx

from consensus.params import ChainSpec
from node.devnet.blocks import BlockFacts, NodeSilent, fetch_branch
from node.devnet.files import DevnetFiles
from node.devnet.plan import ServiceSpec
from node.devnet.service import Service, ServiceState
from node.miner.journal import JournalTail, MinerStatus

ANSWER_TIMEOUT_SECONDS = 5.0
HISTORY_BLOCKS = 200
"""Blocks that are read back where a devnet resumes."""
_MINER_ALIVE = ("training", "missed", "submitting", "block!", "ready", "new tip")


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What a node says of itself, and what is known where it says nothing."""

    name: str
    state: ServiceState
    is_answering: bool = False
    height: int = 0
    tip: str = ""
    peers: int = 0
    mempool: int = 0
    is_synced: bool = False
    has_dataset: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """What became of the highest node's chain since the last look."""

    blocks: tuple[BlockFacts, ...] = ()
    """The new ones, lowest first."""
    replaced_height: int | None = None
    """Height of the lowest block that gave way to another, where one did."""
    resumed_height: int | None = None
    """Height that the first answer told; its blocks are no news."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a screen shows."""

    services: tuple[Service, ...]
    nodes: tuple[NodeStatus, ...]
    miners: Mapping[str, MinerStatus]
    """By name, in order."""
    news: News = News()
    tip: BlockFacts | None = None
    """Of the highest node; None at genesis."""
    attempts_by_parent: Mapping[str, int] = field(default_factory=dict)
    """Parent id → attempts of all miners."""


class Watch:
    """Looks at a devnet again and again."""

    def __init__(
        self,
        spec: ChainSpec,
        files: DevnetFiles,
        services: Sequence[Service],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._spec = spec
        self._services = tuple(services)
        self._http = httpx.AsyncClient(transport=transport, timeout=ANSWER_TIMEOUT_SECONDS, trust_env=False)
        miners = [service.spec.name for service in services if service.spec.role == "miner"]
        self._miners = {name: (JournalTail(files.get_status(name)), MinerStatus()) for name in miners}
        self._active: dict[int, BlockFacts] = {}
        self._has_chain = False
        # What earlier runs left in the journals tells nothing of the processes of this one.
        self._read_journals()

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()

    @property
    def http(self) -> httpx.AsyncClient:
        """The connections to the nodes."""
        return self._http

    async def look(self) -> Snapshot:
        """The present state, and what became of the chain since the last look."""
        nodes = await asyncio.gather(*(self._ask_node(s) for s in self._services if s.spec.role == "node"))
        await asyncio.to_thread(self._try_datasets)
        self._read_journals()
        news = await self._follow(nodes)
        return Snapshot(
            services=self._services,
            nodes=tuple(nodes),
            miners={name: copy(status) for name, (_, status) in self._miners.items()},
            news=news,
            tip=self._active.get(self._height),
            attempts_by_parent=self.count_attempts(),
        )

    def count_attempts(self) -> Mapping[str, int]:
        """Parent id → attempts of all miners, as the journals told at the last look."""
        counts: dict[str, int] = {}
        for _, status in self._miners.values():
            for parent, number in status.attempts_by_parent.items():
                counts[parent] = counts.get(parent, 0) + number
        return counts

    def count_miner_attempts(self) -> Mapping[str, Mapping[str, int]]:
        """Miner → parent id → attempts."""
        return {name: status.attempts_by_parent for name, (_, status) in self._miners.items()}

    async def _ask_node(self, service: Service) -> NodeStatus:
        if service.state not in (ServiceState.STARTING, ServiceState.RUNNING):
            return NodeStatus(service.spec.name, service.state)
        try:
            response = await self._http.get(f"{service.spec.url}/v1/chain")
            response.raise_for_status()
            status = _parse_status(service, response.json())
        except (httpx.HTTPError, KeyError, TypeError, ValueError):
            return NodeStatus(service.spec.name, service.state)
        service.note_answer()
        return status

    def _try_datasets(self) -> None:
        for service in self._services:
            is_waited_for = service.spec.role == "dataset" and service.state is ServiceState.STARTING
            if is_waited_for and _is_listening(service.spec):
                service.note_answer()

    def _read_journals(self) -> None:
        for service in self._services:
            if service.spec.role != "miner":
                continue
            tail, status = self._miners[service.spec.name]
            for event in tail.read_new():
                status.apply(event)
                if status.activity in _MINER_ALIVE:
                    service.note_answer()

    async def _follow(self, nodes: Sequence[NodeStatus]) -> News:
        """What the highest node's tip brings."""
        best = max((node for node in nodes if node.is_answering), key=lambda node: node.height, default=None)
        if best is None or best.height < self._height:
            return News()
        try:
            known = {facts.block_id for facts in self._active.values()}
            url = self._get_url(best.name)
            branch = await fetch_branch(self._http, self._spec, url, best.tip, known, HISTORY_BLOCKS)
        except NodeSilent:
            return News()
        is_first, self._has_chain = not self._has_chain, True
        replaced = branch[0].height if branch and branch[0].height in self._active else None
        for height in [height for height in self._active if branch and height >= branch[0].height]:
            del self._active[height]
        self._active.update({facts.height: facts for facts in branch})
        if is_first:
            return News(resumed_height=self._height)
        return News(tuple(branch), replaced)

    @property
    def _height(self) -> int:
        return max(self._active, default=0)

    def _get_url(self, name: str) -> str:
        return next(s.spec.url for s in self._services if s.spec.name == name and s.spec.url)


def _parse_status(service: Service, answer: Mapping[str, Any]) -> NodeStatus:
    return NodeStatus(
        name=service.spec.name,
        state=ServiceState.RUNNING,
        is_answering=True,
        height=int(answer["height"]),
        tip=str(answer["tip"]),
        peers=int(answer.get("peers", 0)),
        mempool=int(answer.get("mempool", 0)),
        is_synced=bool(answer.get("synced", False)),
        has_dataset=all(dataset["ready"] for dataset in answer.get("datasets", ())),
    )


def _is_listening(spec: ServiceSpec) -> bool:
    url = httpx.URL(spec.url or "")
    try:
        with socket.create_connection((url.host, url.port or 80), timeout=1.0):
            return True
    except OSError:
        return False
