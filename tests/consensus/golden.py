"""The golden chain as one valid object, and the checks of a block in the order of docs/protocol.md §10."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from chain.signatures import verify_signature
from consensus.block import Block, Header
from consensus.difficulty import get_required_rung
from consensus.evaluation import NormativeWorkVerifier
from consensus.ledger import Account, Payout, apply_transfers
from consensus.rules import (
    check_claimed_work,
    check_claims,
    check_clock,
    check_header,
    check_parent_witness,
    check_transactions_root,
    check_transfer_forms,
    compute_payout,
)
from consensus.task import Rung
from node.dev_chain import GoldenChain, build_golden_chain


@cache
def get_golden() -> GoldenChain:
    """The chain of the golden vectors, mined once a process."""
    return build_golden_chain()


def one_field(name: str, value: Any) -> dict[str, Any]:
    """Changes for `dataclasses.replace`, where only the test's parameter knows the field."""
    return {name: value}


@dataclass(frozen=True, slots=True)
class Place:
    """What surrounds a block: everything that its checks may look at beside itself."""

    parent: Header
    grandparent_timestamp: int | None
    accounts: dict[bytes, Account]
    matured: Payout | None
    now_seconds: int
    claimed_chain_work: int = 0
    tip_chain_work: int = 0
    tip_work: int = 0
    verifies: bool | None = True
    """Whether the parent's witness that the header names does."""


def get_required(block: Block, place: Place) -> Rung:
    """The rung that the block must meet."""
    return get_required_rung(get_golden().spec.params, block.header, place.parent.timestamp)


def check_block(block: Block, place: Place) -> dict[bytes, Account]:
    """Every check of a block that needs no memory of other blocks; returns the accounts it changes."""
    golden = get_golden()
    spec, header = golden.spec, block.header
    assert block.witness is not None
    check_header(spec, header, place.parent, place.grandparent_timestamp)
    check_clock(spec.params, header, place.now_seconds)
    rung = get_required(block, place)
    check_claims(spec.dataset, rung, block.witness)
    check_claimed_work(place.claimed_chain_work, place.tip_chain_work, place.tip_work)
    check_transactions_root(block)
    check_transfer_forms(block.transfers, verify_signature)
    changed = apply_transfers(
        lambda key: place.accounts.get(key, Account()), place.matured, block.transfers, spec.chain_id
    )
    NormativeWorkVerifier(golden.dataset).check(spec.task, rung, header, block.witness)
    check_parent_witness(header, place.parent, place.verifies)
    return changed


def replay() -> list[tuple[Block, Place]]:
    """Every block above genesis at its place; the accounts of a place are those before its block."""
    golden = get_golden()
    spec, blocks = golden.spec, golden.blocks
    accounts, places = dict(spec.genesis_accounts), []
    for height, block in enumerate(blocks[1:], start=1):
        paid = height - spec.params.maturity
        place = Place(
            parent=blocks[height - 1].header,
            grandparent_timestamp=blocks[height - 2].header.timestamp if height > 1 else None,
            accounts=dict(accounts),
            matured=None
            if paid < 1
            else compute_payout(spec.params, blocks[paid].header, blocks[paid].transfers),
            now_seconds=block.header.timestamp,
        )
        places.append((block, place))
        accounts |= check_block(block, place)
    assert accounts == golden.accounts
    return places


@cache
def get_places() -> tuple[tuple[Block, Place], ...]:
    """`replay`, once a process."""
    return tuple(replay())
