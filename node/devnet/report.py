"""The report of a headless run: what every node says, the blocks, and who made how many attempts for them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from consensus.params import ChainSpec
from node.devnet.blocks import BlockFacts, NodeSilent, fetch_branch
from node.devnet.plan import ServiceSpec
from node.devnet.watch import NodeStatus

_EVALUATED_METRIC = "freezenet_blocks_evaluated_total"

AttemptsByMiner = Mapping[str, Mapping[str, int]]
"""Miner → parent id → attempts."""


async def fetch_evaluated(http: httpx.AsyncClient, url: str) -> int:
    """How many blocks a node evaluated since it started, from its metrics. Raises NodeSilent."""
    try:
        response = await http.get(f"{url}/metrics")
        response.raise_for_status()
        return parse_metric(response.text, _EVALUATED_METRIC)
    except (httpx.HTTPError, ValueError) as error:
        raise NodeSilent(f"{url} gives no metrics: {error!r}") from error


def parse_metric(text: str, name: str) -> int:
    """The value of a metric without labels. Raises ValueError where it is not there."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == name:
            return int(float(words[1]))
    raise ValueError(f"no metric {name}")


def find_disagreement(nodes: Sequence[NodeStatus], blocks: int) -> str | None:
    """Why these nodes are not all at height `blocks` or above on one tip; None where they are."""
    silent = [node.name for node in nodes if not node.is_answering]
    if silent:
        return f"not every node answers: {', '.join(silent)} does not"
    low = [f"{node.name} has height {node.height}" for node in nodes if node.height < blocks]
    if low:
        return f"not every node has height {blocks}: {', '.join(low)}"
    if len({node.tip for node in nodes}) > 1:
        tips = ", ".join(f"{node.name} on {node.tip[:16]}" for node in nodes)
        return f"the nodes do not agree on one tip: {tips}"
    return None


async def build_report(
    http: httpx.AsyncClient,
    spec: ChainSpec,
    services: Sequence[ServiceSpec],
    nodes: Sequence[NodeStatus],
    attempts: AttemptsByMiner,
) -> dict[str, Any]:
    """The report on nodes that agree, as they were when they did. Raises NodeSilent."""
    urls = {service.name: service.url or "" for service in services}
    blocks = await fetch_branch(http, spec, urls[nodes[0].name], nodes[0].tip)
    evaluated = [await fetch_evaluated(http, urls[node.name]) for node in nodes]
    miners = [service for service in services if service.role == "miner"]
    return {
        "nodes": [
            {"name": node.name, "height": node.height, "tip": node.tip, "evaluated": count}
            for node, count in zip(nodes, evaluated, strict=True)
        ],
        "blocks": [_describe(block, attempts) for block in blocks],
        "totals": compute_totals(blocks, miners, attempts),
    }


def compute_totals(
    blocks: Sequence[BlockFacts], miners: Sequence[ServiceSpec], attempts: AttemptsByMiner
) -> dict[str, Any]:
    """Sums and means over the blocks, and each miner's share.

    The mean interval is that between blocks: the first one also waits for the processes to start.
    """
    counts = [_count_attempts(block, attempts) for block in blocks]
    intervals = [block.seconds for block in blocks[1:]] or [block.seconds for block in blocks]
    return {
        "blocks": len(blocks),
        "attempts": sum(sum(by_parent.values()) for by_parent in attempts.values()),
        "median_attempts": statistics.median(counts) if counts else 0,
        "seconds": sum(block.seconds for block in blocks),
        "mean_interval_seconds": round(statistics.fmean(intervals), 2) if intervals else 0,
        "miners": [
            {
                "name": miner.name,
                "address": miner.address,
                "attempts": sum(attempts.get(miner.name, {}).values()),
                "blocks": sum(block.miner == miner.address for block in blocks),
            }
            for miner in miners
        ],
    }


def _describe(block: BlockFacts, attempts: AttemptsByMiner) -> dict[str, Any]:
    return {
        "height": block.height,
        "id": block.block_id,
        "miner": block.miner,
        "train_correct": block.train_correct,
        "eval_correct": block.eval_correct,
        "required_train": block.rung.min_train_correct,
        "required_eval": block.rung.min_eval_correct,
        "frozen": block.rung.frozen,
        "attempts": _count_attempts(block, attempts),
        "seconds": block.seconds,
    }


def _count_attempts(block: BlockFacts, attempts: AttemptsByMiner) -> int:
    return sum(by_parent.get(block.parent, 0) for by_parent in attempts.values())
