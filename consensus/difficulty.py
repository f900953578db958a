"""Difficulty, easing, timestamps and chain work (protocol §9)."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.block import Header
from consensus.params import ChainParams
from consensus.task import Rung

HALF_LIFE_INTERVALS = 16
FINALITY_WINDOW = 1_024


def compute_difficulty(params: ChainParams, parent: Header, grandparent_timestamp: int | None) -> int:
    """The difficulty that a child of `parent` must state.

    `grandparent_timestamp` is None where the parent is genesis.
    """
    interval = params.target_interval
    half_life = HALF_LIFE_INTERVALS * interval
    elapsed = interval
    if grandparent_timestamp is not None:
        elapsed = min(parent.timestamp - grandparent_timestamp, 64 * interval)
    rungs = params.task.rungs
    difficulty = parent.difficulty * half_life // (half_life - interval + elapsed)
    return min(max(difficulty, rungs[0].work), rungs[-1].work)


def compute_eased_difficulty(
    params: ChainParams, difficulty: int, timestamp: int, parent_timestamp: int
) -> int:
    """The difficulty that this block alone must meet: halved every 2·T once 6·T went by without a block."""
    interval = params.target_interval
    halvings = max(0, timestamp - parent_timestamp - 6 * interval) // (2 * interval)
    return max(difficulty >> min(halvings, 63), params.task.rungs[0].work)


def get_required_rung(params: ChainParams, header: Header, parent_timestamp: int) -> Rung:
    """The rung that the header's witness must meet."""
    eased = compute_eased_difficulty(params, header.difficulty, header.timestamp, parent_timestamp)
    return params.task.get_rung(eased)


def compute_earliest_timestamp(params: ChainParams, parent_timestamp: int) -> int:
    """The smallest timestamp of a child: bounds the block rate where the ladder is too low."""
    return parent_timestamp + params.target_interval // 4


def compute_latest_timestamp(params: ChainParams, now_seconds: int) -> int:
    """The largest timestamp that a clock at `now_seconds` accepts."""
    return now_seconds + max(params.target_interval // 2, 15)


def compute_confirmations(work_of_descendants: int, recent_works: Sequence[int]) -> int:
    """How many-fold a block is confirmed.

    `work_of_descendants` is the work of the active blocks above it; `recent_works` holds rung.work of the
    last 1,024 active blocks. Finality is told in work: blocks can be cheap.
    """
    return work_of_descendants // max(recent_works) if recent_works else 0
