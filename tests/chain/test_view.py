"""Reading one snapshot: blocks, branches, transactions, locators and finality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from chain.branches import Branch, get_accounts_at
from chain.chain import Chain
from chain.store import Store
from chain.view import View
from consensus.encoding import U32_MAX, U64_MAX
from consensus.ledger import Account, Payout
from consensus.params import ChainSpec
from tests.builders import (
    ALICE,
    BOB,
    CAROL,
    MINER,
    BuiltBlock,
    build_transfer,
    mine_block,
    mine_blocks,
    submit,
)


@pytest.fixture
def tree(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> tuple[list[BuiltBlock], list[BuiltBlock]]:
    """Twenty active blocks, and a side branch of three from height 15."""
    active = mine_blocks(spec, genesis, 20)
    side = mine_blocks(spec, active[14], 3, nonce=1, miner=BOB.public)
    for block in (*active, *side):
        submit(chain, block)
    return active, side


def test_reads_blocks(store: Store, chain: Chain, tree: tuple[list[BuiltBlock], list[BuiltBlock]]) -> None:
    active, side = tree
    with store.read() as view:
        found = view.get_block(active[4].block_id)
        assert found is not None
        assert found.header == active[4].header
        assert (found.height, found.work, found.chain_work) == (5, 1_600, 5 * 1_600)
        assert (found.train_correct, found.eval_correct) == (7, 3)
        assert found == view.get_active_block(5)
        other = view.get_block(side[0].block_id)
        assert other is not None
        assert not other.active
        assert view.get_block(bytes(32)) is None
        assert [view.get_active_block(height) for height in (-1, 21, U32_MAX + 1, U64_MAX)] == [None] * 4


def test_lists_blocks_in_pages(store: Store, tree: tuple[list[BuiltBlock], list[BuiltBlock]]) -> None:
    with store.read() as view:
        assert [r.height for r in view.list_blocks(None, 3)] == [20, 19, 18]
        assert [r.height for r in view.list_blocks(18, 2)] == [17, 16]
        assert [r.height for r in view.list_blocks(1, 9)] == [0]
        assert view.list_blocks(0, 9) == view.list_blocks(-5, 9) == []
        assert len(view.list_blocks(U64_MAX, 100)) == 21
        assert [r.height for r in view.list_address_blocks(MINER, 3, 9)] == [2, 1]
        assert view.list_address_blocks(BOB.public, None, 9) == []


def test_tells_tips_and_children(
    store: Store, spec: ChainSpec, tree: tuple[list[BuiltBlock], list[BuiltBlock]]
) -> None:
    active, side = tree
    with store.read() as view:
        assert [r.block_id for r in view.get_tips()] == [active[-1].block_id, side[-1].block_id]
        children = view.get_children(active[14].block_id)
        assert [r.block_id for r in children] == [active[15].block_id, side[0].block_id]
        assert view.get_children(side[-1].block_id) == []


def test_gives_raw_blocks(store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    transfers = [build_transfer(spec, ALICE, BOB.public), build_transfer(spec, ALICE, CAROL.public, nonce=1)]
    block = mine_block(spec, genesis, transfers)
    submit(chain, block)
    with store.read() as view:
        assert view.get_raw_block(block.block_id) == block.raw
        assert view.get_transfers(block.block_id) == tuple(transfers)
        assert view.get_witness(block.block_id) == block.witness
        assert view.get_raw_block(spec.chain_id) == genesis.raw
        assert view.get_witness(spec.chain_id) is None
        assert view.get_raw_block(bytes(32)) is None
        assert view.get_transfers(bytes(32)) == ()


def test_pruned_witness_is_none_but_stays_verified(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    block = mine_block(spec, genesis)
    submit(chain, block)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE witnesses SET witness = NULL")
    with store.read() as view:
        assert view.get_witness(block.block_id) is None
        assert view.get_raw_block(block.block_id) is None
        assert view.is_witness_verified(block.block_id, block.witness.witness_id)
        found = view.get_block(block.block_id)
        assert found is not None
        assert found.train_correct == block.witness.train_correct
    child = mine_block(spec, block)
    assert chain.pre_verify(child.raw, child.header.timestamp).needs_witness is None


def test_accounts_and_payouts(store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    reward = spec.params.initial_reward
    blocks = mine_blocks(spec, genesis, 2)
    blocks.append(mine_block(spec, blocks[-1], [build_transfer(spec, ALICE, BOB.public, fee=9)]))
    blocks += mine_blocks(spec, blocks[-1], 2)
    for block in blocks[:2]:
        submit(chain, block)
    with store.read() as view:
        assert view.get_next_payout() is None
        assert view.get_immature(MINER) == 2 * reward
    for block in blocks[2:]:
        submit(chain, block)
    with store.read() as view:
        assert view.get_account(MINER) == Account(2 * reward)
        assert view.get_immature(MINER) == 3 * reward + 9
        assert view.get_next_payout() == Payout(MINER, reward + 9)
        assert view.get_immature(ALICE.public) == 0
        assert view.get_accounts([b"\x07" * 32]) == {b"\x07" * 32: Account()}
        with pytest.raises(KeyError):
            view.get_account_at(bytes(32), MINER)


def test_finds_active_transactions_alone(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    kept = build_transfer(spec, ALICE, BOB.public)
    lost = build_transfer(spec, CAROL, BOB.public)
    left = mine_block(spec, genesis, [kept, lost])
    right = mine_block(spec, genesis, [kept], nonce=1)
    submit(chain, left)
    submit(chain, right)
    with store.read() as view:
        found = view.get_transaction(lost.tx_id)
        assert found is not None
        assert (found.signed, found.block.block_id, found.position) == (lost, left.block_id, 1)
    submit(chain, mine_block(spec, right))
    with store.read() as view:
        assert view.get_transaction(lost.tx_id) is None
        found = view.get_transaction(kept.tx_id)
        assert found is not None
        assert found.block.block_id == right.block_id


def test_lists_an_addresss_transactions_in_pages(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    tip, nonce = genesis, 0
    for _ in range(4):
        sent = [
            build_transfer(spec, ALICE, key.public, nonce=nonce + i) for i, key in enumerate((BOB, ALICE))
        ]
        got = build_transfer(spec, BOB, ALICE.public, nonce=nonce // 2)
        tip = mine_block(spec, tip, [*sent, got])
        submit(chain, tip)
        nonce += 2
    pages, cursor = [], None
    with store.read() as view:
        while True:
            page, cursor = view.list_address_transactions(ALICE.public, cursor, 5)
            pages.append([(record.block.height, record.position) for record in page])
            if cursor is None:
                break
        assert [len(page) for page in pages] == [5, 5, 2]
        assert [place for page in pages for place in page] == [
            (h, p) for h in (4, 3, 2, 1) for p in (2, 1, 0)
        ]
        assert view.list_address_transactions(CAROL.public, None, 5) == ([], None)


def test_locator_thins_out(
    store: Store, spec: ChainSpec, tree: tuple[list[BuiltBlock], list[BuiltBlock]]
) -> None:
    active, side = tree
    ids = {spec.chain_id: 0} | {block.block_id: block.height for block in (*active, *side)}
    with store.read() as view:
        heights = [ids[block_id] for block_id in view.get_locator()]
        assert heights == [20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 8, 4, 0]
        locator = view.get_locator(side[-1].block_id)
        assert locator[:4] == [side[2].block_id, side[1].block_id, side[0].block_id, active[14].block_id]
        assert locator[-1] == spec.chain_id
        assert view.get_locator(spec.chain_id) == [spec.chain_id]
        with pytest.raises(KeyError):
            view.get_locator(bytes(32))


def test_headers_follow_the_common_block(
    store: Store, tree: tuple[list[BuiltBlock], list[BuiltBlock]]
) -> None:
    active, side = tree
    with store.read() as view:
        headers = view.get_headers_after(view.get_locator(side[-1].block_id))
        assert headers == [block.header for block in active[15:]]
        assert view.get_headers_after([], 2) == [block.header for block in active[:2]]
        assert view.get_headers_after([bytes(32)]) == [block.header for block in active]
        assert view.get_headers_after([active[-1].block_id]) == []


def test_confirmations_are_told_in_work(
    store: Store, tree: tuple[list[BuiltBlock], list[BuiltBlock]]
) -> None:
    _, side = tree
    with store.read() as view:
        for height, expected in ((20, 0), (19, 1), (10, 10), (0, 20)):
            record = view.get_active_block(height)
            assert record is not None
            assert view.compute_confirmations(record) == expected
        other = view.get_block(side[0].block_id)
        assert other is not None
        assert view.compute_confirmations(other) == 0


READS: dict[str, tuple[str, Callable[[View], Any]]] = {
    "tip": ("uq_blocks_active_height", lambda view: view.get_tip()),
    "height": ("uq_blocks_active_height", lambda view: view.get_active_block(1)),
    "headers": ("uq_blocks_active_height", lambda view: view.get_headers_after([])),
    "miner": ("ix_blocks_miner_height", lambda view: view.list_address_blocks(MINER, None, 1)),
    "sender": (
        "ix_transactions_sender",
        lambda view: view.list_address_transactions(MINER, (5, 5), 1),
    ),
    "account": ("ix_account_changes_key_height", lambda view: view.get_account_at(view.spec.chain_id, MINER)),
    "side account": (
        "ix_account_changes_key_height",
        lambda view: get_accounts_at(view.connection, Branch(0, {1: 1}), [MINER]),
    ),
}


@pytest.mark.parametrize("name", READS)
def test_reads_by_index(store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock, name: str) -> None:
    submit(chain, mine_block(spec, genesis))
    index, read = READS[name]
    plans: list[str] = []
    with store.read() as view:

        def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
            rows = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(str(row[3]) for row in rows)

        event.listen(view.connection, "before_cursor_execute", explain)
        read(view)
    assert any(index in plan for plan in plans), plans
    assert not any("TEMP B-TREE" in plan for plan in plans), plans
