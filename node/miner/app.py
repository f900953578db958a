"""A miner from its options to its end: chain, dataset, trainer and loop, in the order of need."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from consensus.address import encode_address
from consensus.params import ChainSpec
from dataset_server.client import fetch_dataset
from dataset_server.errors import DatasetUnavailable
from dataset_server.store import DatasetStore
from node.miner.client import NodeLost, NodePool
from node.miner.display import choose_display
from node.miner.journal import Journal
from node.miner.mining import RETRY_SECONDS, Miner, MiningOrder
from node.miner.trainer import BuildAttempt, ProcessTrainer, TrainerSetup, build_training_attempt


@dataclass(frozen=True, slots=True)
class MinerOptions:
    """What `freezenet miner run` is told."""

    order: MiningOrder
    node_urls: tuple[str, ...]
    """Tried in this order."""
    directory: Path
    """The miner's own: status.jsonl, and the dataset where no other store is named."""
    dataset_root: Path
    """Root of the dataset store."""
    device: str
    threads: int


async def run_miner(
    options: MinerOptions,
    console: Console,
    transport: httpx.AsyncBaseTransport | None = None,
    build_attempt: BuildAttempt = build_training_attempt,
) -> None:
    """Mines as told. Raises MiningFailed, Refused for a chain that breaks a rule, OSError."""
    status_path = options.directory / "status.jsonl"
    async with NodePool(options.node_urls, time.monotonic, transport) as nodes:
        with choose_display(console) as display, Journal(status_path, time.time, (display.show,)) as journal:
            spec = await _connect(nodes, journal)
            address = encode_address(options.order.miner)
            journal.record("started", chain=spec.chain_id.hex(), address=address)
            await _ensure_dataset(options, spec, nodes, journal, transport)
            trainer = ProcessTrainer(_build_setup(options, spec), build_attempt)
            source = random.SystemRandom()
            await Miner(options.order, nodes, trainer, journal, source, time.monotonic).run()


def _build_setup(options: MinerOptions, spec: ChainSpec) -> TrainerSetup:
    return TrainerSetup(
        spec.task, spec.dataset.dataset_id, options.dataset_root, options.device, options.threads
    )


async def _connect(nodes: NodePool, journal: Journal) -> ChainSpec:
    is_lost = False
    while True:
        try:
            return await nodes.connect()
        except NodeLost as error:
            if not is_lost:
                journal.record("node-lost", node=error.url, reason=error.reason)
            is_lost = True
        await asyncio.sleep(RETRY_SECONDS)


async def _ensure_dataset(
    options: MinerOptions,
    spec: ChainSpec,
    nodes: NodePool,
    journal: Journal,
    transport: httpx.AsyncBaseTransport | None,
) -> None:
    """The chain's dataset in the store, from the nodes; a node that has just started may not have it yet."""
    store, dataset_id = DatasetStore(options.dataset_root), spec.dataset.dataset_id
    is_lost = False
    while not store.has(dataset_id):
        try:
            await fetch_dataset(dataset_id, options.node_urls, store, transport)
        except DatasetUnavailable as error:
            if not is_lost:
                journal.record("node-lost", node=nodes.current_url, reason=str(error))
            is_lost = True
            await asyncio.sleep(RETRY_SECONDS)
