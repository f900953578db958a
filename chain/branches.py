"""Reading along any branch: ancestors by height, and accounts as they were after any stored block.

The accounts table holds the tip's. An account after another block is an overlay: the newest value written on
the side branch, else the value before the lowest active change above the fork, else the tip's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, not_, select

from chain.rows import to_account
from chain.tables import account_changes, accounts, blocks
from consensus.encoding import Hash32, Height
from consensus.ledger import Account

_KEYS_AT_ONCE = 500
"""Below the number of parameters that every SQLite build takes in one statement."""


@dataclass(frozen=True, slots=True)
class Branch:
    """The way from a stored block down to the active chain."""

    fork_height: Height
    """Height of its highest active ancestor, or its own where it is active."""
    side: Mapping[Height, int]
    """Arrival of each block above the fork, by height; empty where the block is active."""

    def get_arrival(self, connection: Connection, height: Height) -> int:
        """Arrival of the ancestor of that height."""
        if height in self.side:
            return self.side[height]
        query = select(blocks.c.arrival).where(blocks.c.active, blocks.c.height == height)
        return int(connection.execute(query).scalar_one())


def get_branch(connection: Connection, block_id: Hash32) -> Branch:
    """The branch of a stored block. Raises KeyError for an unknown one."""
    rows = connection.execute(_select_side(block_id)).all()
    side = {row.height: row.arrival for row in rows}
    if side:
        return Branch(min(side) - 1, side)
    query = select(blocks.c.height).where(blocks.c.block_id == block_id)
    height = connection.execute(query).scalar_one_or_none()
    if height is None:
        raise KeyError(block_id.hex())
    return Branch(height, {})


def get_accounts_at(connection: Connection, branch: Branch, keys: Collection[bytes]) -> dict[bytes, Account]:
    """The accounts of `keys` after the block at the end of a branch; empty ones for keys never seen."""
    found = get_tip_accounts(connection, keys)
    settled: set[bytes] = set()
    # Lowest first: the first active change of a key tells what it was at the fork, the last one on the side
    # branch what became of it.
    for row in _read_changes(connection, branch, keys):
        if branch.side.get(row.height) == row.block:
            found[row.key] = Account(row.balance_after, row.nonce_after)
            settled.add(row.key)
        elif row.active and row.key not in settled:
            found[row.key] = Account(row.balance_before, row.nonce_before)
            settled.add(row.key)
    return found


def get_tip_accounts(connection: Connection, keys: Collection[bytes]) -> dict[bytes, Account]:
    """The accounts of `keys` at the tip; empty ones for keys never seen."""
    found = {key: Account() for key in keys}
    for some in _split(list(found)):
        for row in connection.execute(select(accounts).where(accounts.c.key.in_(some))):
            found[row.key] = to_account(row)
    return found


def _read_changes(connection: Connection, branch: Branch, keys: Collection[bytes]) -> Iterator[Row[Any]]:
    """Changes of `keys` above the fork, the lowest first for each key."""
    for some in _split(list(keys)):
        query = (
            select(account_changes, blocks.c.active)
            .join(blocks, blocks.c.arrival == account_changes.c.block)
            .where(account_changes.c.key.in_(some), account_changes.c.height > branch.fork_height)
            .order_by(account_changes.c.height)
        )
        yield from connection.execute(query).all()


def _select_side(block_id: Hash32) -> Select[Any]:
    """A block that is not active and its ancestors that are not either."""
    columns = (blocks.c.arrival, blocks.c.parent, blocks.c.height)
    start = select(*columns).where(blocks.c.block_id == block_id, not_(blocks.c.active))
    side = start.cte("side", recursive=True)
    above = select(*columns).join(side, blocks.c.block_id == side.c.parent).where(not_(blocks.c.active))
    side = side.union_all(above)
    return select(side.c.arrival, side.c.height)


def _split(keys: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        yield keys[start : start + _KEYS_AT_ONCE]
