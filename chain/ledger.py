"""What a block does to the accounts of its own branch; the transition itself is consensus.ledger's."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from chain.branches import Branch, get_accounts_at, get_branch
from chain.rows import select_blocks, to_block
from chain.tables import blocks
from consensus.block import Block
from consensus.encoding import Height
from consensus.ledger import Account, Payout, apply_transfers, compute_reward
from consensus.params import ChainParams, ChainSpec


@dataclass(frozen=True, slots=True)
class AccountChange:
    """One account before and after a block."""

    key: bytes
    """Whose, 32 bytes."""
    before: Account
    """After the block's parent."""
    after: Account
    """After the block."""


def compute_changes(connection: Connection, spec: ChainSpec, block: Block) -> list[AccountChange]:
    """The accounts that a block on a stored parent changes. Raises RuleViolation as `apply_transfers`."""
    header = block.header
    branch = get_branch(connection, header.parent)
    matured = get_matured_payout(connection, spec.params, branch, header.height)
    keys = {key for s in block.transfers for key in (s.transfer.sender, s.transfer.recipient)}
    if matured is not None:
        keys.add(matured.miner)
    before = get_accounts_at(connection, branch, keys)
    after = apply_transfers(before.__getitem__, matured, block.transfers, spec.chain_id)
    return [AccountChange(key, before[key], after[key]) for key in sorted(after) if after[key] != before[key]]


def get_matured_payout(
    connection: Connection, params: ChainParams, branch: Branch, height: Height
) -> Payout | None:
    """What a block of `height` on a branch credits before its transfers; None where nothing matures."""
    mature_height = height - params.maturity
    if mature_height < 1:
        return None
    arrival = branch.get_arrival(connection, mature_height)
    record = to_block(connection.execute(select_blocks().where(blocks.c.arrival == arrival)).one())
    reward = compute_reward(mature_height, params.initial_reward, params.halving_interval)
    return Payout(record.header.miner, reward + record.fees)
