"""Reading along any branch: ancestors by height, and accounts as they were after any stored block.

The accounts table holds the tip's. An account after another block is an overlay: the newest value written on
the side branch, else the value before the lowest active change above the fork, else the tip's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, exists, not_, select

from chain.rows import to_account
from chain.tables import account_changes, accounts, blocks
from consensus.encoding import Hash32, Height
from consensus.ledger import Account

_KEYS_AT_ONCE = 500
"""Below the number of parameters that every SQLite build takes in one statement."""

# A busy account has a change in every block, so each of the two walks an index and stops early.
_CHANGES_ABOVE_FORK = select(account_changes).where(
    account_changes.c.key == bindparam("key"), account_changes.c.height > bindparam("fork")
)
_CHANGES_DOWNWARDS = _CHANGES_ABOVE_FORK.where(account_changes.c.height <= bindparam("end")).order_by(
    account_changes.c.height.desc()
)
_FIRST_ACTIVE_CHANGE = (
    _CHANGES_ABOVE_FORK.join(blocks, blocks.c.arrival == account_changes.c.block)
    .where(blocks.c.active)
    .order_by(account_changes.c.height)
    .limit(1)
)


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
    if not branch.side and not _is_overgrown(connection, branch):
        return found
    for key in keys:
        account = _find_side_value(connection, branch, key) or _find_fork_value(connection, branch, key)
        if account is not None:
            found[key] = account
    return found


def get_tip_accounts(connection: Connection, keys: Collection[bytes]) -> dict[bytes, Account]:
    """The accounts of `keys` at the tip; empty ones for keys never seen."""
    found = {key: Account() for key in keys}
    for some in _split(list(found)):
        for row in connection.execute(select(accounts).where(accounts.c.key.in_(some))):
            found[row.key] = to_account(row)
    return found


def _is_overgrown(connection: Connection, branch: Branch) -> bool:
    """Whether active blocks stand above the fork."""
    query = select(exists().where(blocks.c.active, blocks.c.height > branch.fork_height))
    return bool(connection.execute(query).scalar_one())


def _find_side_value(connection: Connection, branch: Branch, key: bytes) -> Account | None:
    """What the side branch made of an account; None where it left it alone."""
    if not branch.side:
        return None
    bounds = {"key": key, "fork": branch.fork_height, "end": max(branch.side)}
    # Other branches have rows between: read from the newest until one is this branch's, not all of them.
    with connection.execute(_CHANGES_DOWNWARDS, bounds) as rows:
        for row in rows:
            if branch.side.get(row.height) == row.block:
                return Account(row.balance_after, row.nonce_after)
    return None


def _find_fork_value(connection: Connection, branch: Branch, key: bytes) -> Account | None:
    """What an account was at the fork; None where no active block above it changed it."""
    row = connection.execute(_FIRST_ACTIVE_CHANGE, {"key": key, "fork": branch.fork_height}).first()
    return None if row is None else Account(row.balance_before, row.nonce_before)


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
