"""Blocks as a devnet tells of them: read raw from a node's REST, so that only the bytes are believed."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import httpx

from consensus.address import encode_address
from consensus.block import Block, decode_block
from consensus.difficulty import get_required_rung
from consensus.errors import ConsensusError
from consensus.params import ChainSpec
from consensus.task import Rung


class NodeSilent(Exception):
    """A node does not answer, or not as a node does."""


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """What one line says of a block."""

    height: int
    block_id: str
    parent: str
    miner: str
    """Address."""
    timestamp: int
    seconds: int
    """Since its parent's timestamp."""
    train_correct: int
    eval_correct: int
    rung: Rung
    """What its witness had to meet."""
    transactions: int


async def fetch_branch(
    http: httpx.AsyncClient,
    spec: ChainSpec,
    url: str,
    tip: str,
    known: Container[str] = (),
    limit: int | None = None,
) -> list[BlockFacts]:
    """The blocks up to `tip`, lowest first, from above the first one that is known, or from height 1.

    At most the last `limit` of them. Raises NodeSilent.
    """
    blocks = list[Block]()
    genesis = spec.chain_id.hex()
    wanted = tip
    while wanted != genesis and wanted not in known and (limit is None or len(blocks) < limit):
        blocks.append(await _fetch_block(http, spec, url, wanted))
        wanted = blocks[-1].header.parent.hex()
    timestamp = spec.params.genesis_timestamp
    if wanted != genesis and blocks:
        timestamp = (await _fetch_block(http, spec, url, wanted)).header.timestamp
    facts = list[BlockFacts]()
    for block in reversed(blocks):
        facts.append(describe_block(spec, block, timestamp))
        timestamp = block.header.timestamp
    return facts


def describe_block(spec: ChainSpec, block: Block, parent_timestamp: int) -> BlockFacts:
    """The facts of a block above genesis."""
    header, witness = block.header, block.witness
    if witness is None:
        raise ValueError("genesis has no facts")
    return BlockFacts(
        height=header.height,
        block_id=header.block_id.hex(),
        parent=header.parent.hex(),
        miner=encode_address(header.miner),
        timestamp=header.timestamp,
        seconds=header.timestamp - parent_timestamp,
        train_correct=witness.train_correct,
        eval_correct=witness.eval_correct,
        rung=get_required_rung(spec.params, header, parent_timestamp),
        transactions=len(block.transfers),
    )


async def _fetch_block(http: httpx.AsyncClient, spec: ChainSpec, url: str, block_id: str) -> Block:
    try:
        response = await http.get(f"{url}/v1/blocks/{block_id}/raw")
        response.raise_for_status()
        block = decode_block(response.content, spec.limits)
    except (httpx.HTTPError, ConsensusError) as error:
        raise NodeSilent(f"{url} gives no block {block_id}: {error!r}") from error
    if block.header.block_id.hex() != block_id:
        raise NodeSilent(f"{url} gives another block than {block_id}")
    return block
