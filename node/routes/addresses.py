"""What an address holds, sends, receives and mines."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from consensus.address import decode_address
from node import models
from node.problems import describe_problems
from node.routes.access import Cursor, Limit, Runtime, decode_cursor, encode_cursor
from node.routes.answers import describe_block, describe_mined

router = APIRouter(prefix="/v1/addresses", tags=["addresses"])


async def get_key(address: Annotated[str, Path(max_length=128)]) -> bytes:
    """The key of the address in the path. Raises RuleViolation(BAD_ADDRESS)."""
    return decode_address(address)


Key = Annotated[bytes, Depends(get_key)]


@router.get("/{address}", responses=describe_problems())
def get_address(runtime: Runtime, key: Key) -> models.AccountState:
    """Balance and nonces at the tip; an address that was never seen holds nothing."""
    with runtime.store.read() as view:
        account = view.get_account(key)
        immature = view.get_immature(key)
    return models.AccountState(
        address=key,
        public_key=key,
        balance=account.balance + immature,
        spendable=account.balance,
        immature=immature,
        nonce=account.nonce,
        next_nonce=runtime.mempool.get_next_nonce(key),
    )


@router.get("/{address}/transactions", responses=describe_problems())
def list_address_transactions(
    runtime: Runtime, key: Key, cursor: Cursor = None, limit: Limit = 50
) -> models.Page[models.Transaction]:
    """Transfers of the active chain from or to the address, newest first."""
    place = decode_cursor(cursor, 2)
    with runtime.store.read() as view:
        records, following = view.list_address_transactions(
            key, None if place is None else (place[0], place[1]), limit
        )
    items = [describe_mined(record) for record in records]
    return models.Page(items=items, next=None if following is None else encode_cursor(*following))


@router.get("/{address}/blocks", responses=describe_problems())
def list_address_blocks(
    runtime: Runtime, key: Key, cursor: Cursor = None, limit: Limit = 50
) -> models.Page[models.Block]:
    """Blocks of the active chain that credit the address, newest first."""
    before = decode_cursor(cursor, 1)
    with runtime.store.read() as view:
        records = view.list_address_blocks(key, None if before is None else before[0], limit + 1)
    items = [describe_block(runtime.spec, record) for record in records[:limit]]
    has_more = len(records) > limit
    return models.Page(items=items, next=encode_cursor(records[limit - 1].height) if has_more else None)
