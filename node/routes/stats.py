"""The chain in numbers: how fast blocks come, who mines them, how many coins there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from chain.records import BlockRecord
from consensus.ledger import compute_reward
from consensus.params import ChainParams, ChainSpec
from node import models
from node.problems import describe_problems
from node.routes.access import Runtime

router = APIRouter(prefix="/v1/stats", tags=["chain"])


@router.get("", responses=describe_problems())
def get_stats(runtime: Runtime, blocks: Annotated[int, Query(ge=1, le=1_000)] = 100) -> models.Stats:
    """Sums and means over the last `blocks` blocks of the active chain."""
    with runtime.store.read() as view:
        records = view.list_blocks(None, blocks + 1)
    return describe_stats(runtime.spec, records)


def describe_stats(spec: ChainSpec, records: Sequence[BlockRecord]) -> models.Stats:
    """Of active blocks, newest first; the last one is where the time and the work of the others begin."""
    tip, base, mined = records[0], records[-1], records[:-1]
    seconds = tip.header.timestamp - base.header.timestamp
    work = tip.chain_work - base.chain_work
    miners = Counter(record.header.miner for record in mined)
    return models.Stats(
        blocks=len(mined),
        seconds=seconds,
        mean_interval=seconds / len(mined) if mined else None,
        work=work,
        power=work / seconds if seconds else None,
        transactions=sum(record.transaction_count for record in mined),
        fees=sum(record.fees for record in mined),
        miners=[models.MinerShare(address=key, blocks=count) for key, count in miners.most_common()],
        supply=compute_supply(spec.params, tip.height),
    )


def compute_supply(params: ChainParams, height: int) -> int:
    """Coins of genesis and of all rewards up to a height, those that are not mature included."""
    total = sum(amount for _, amount in params.balances)
    first = 1
    while first <= height:
        # Up to the last block before the next halving.
        last = min(height, (first // params.halving_interval + 1) * params.halving_interval - 1)
        reward = compute_reward(first, params.initial_reward, params.halving_interval)
        if not reward:
            break
        total += (last - first + 1) * reward
        first = last + 1
    return total
