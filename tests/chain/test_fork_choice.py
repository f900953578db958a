"""Which branch is active, what a reorganisation undoes, and what a restart keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.chain import Chain
from chain.database import check_database
from chain.store import Store
from consensus.errors import Code, Duplicate, NotYet, RuleViolation
from consensus.ledger import Account
from consensus.params import ChainSpec
from tests.builders import (
    ALICE,
    BOB,
    CAROL,
    INITIAL_BALANCE,
    MINER,
    BuiltBlock,
    build_transfer,
    mine_block,
    mine_blocks,
    open_chain,
    replay_accounts,
    submit,
)


def read_accounts(store: Store, keys: tuple[bytes, ...]) -> dict[bytes, Account]:
    with store.read() as view:
        return {key: account for key, account in view.get_accounts(keys).items() if account != Account()}


def assert_at(store: Store, chain: Chain, spec: ChainSpec, block: BuiltBlock) -> None:
    """The tip, the accounts and the whole database are those of the block's branch."""
    with store.read() as view:
        assert view.get_tip() == chain.tip
    assert chain.tip.block_id == block.block_id
    assert chain.tip.chain_work == block.chain_work
    keys = (ALICE.public, BOB.public, CAROL.public, MINER)
    assert read_accounts(store, keys) == replay_accounts(spec, block)
    assert check_database(store.path, spec) == []


def test_opens_at_genesis(store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    assert chain.tip.block_id == spec.chain_id
    assert (chain.tip.work, chain.tip.chain_work, chain.tip.witness_id) == (0, 0, None)
    assert_at(store, chain, spec, genesis)


def test_grows_block_by_block(store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    first = mine_block(spec, genesis, [build_transfer(spec, ALICE, BOB.public, 300, fee=7)])
    commits = [submit(chain, block) for block in (first, *mine_blocks(spec, first, 5))]
    assert [commit.record.height for commit in commits] == [1, 2, 3, 4, 5, 6]
    assert all(commit.status == "active" and not commit.disconnected for commit in commits)
    assert all(commit.connected == (commit.record,) for commit in commits)
    last = mine_blocks(spec, first, 5)[-1]
    assert_at(store, chain, spec, last)
    with store.read() as view:
        # Blocks 1 to 3 are mature at height 6; the fee went with the first reward.
        assert view.get_account(MINER) == Account(3 * spec.params.initial_reward + 7)
        assert view.get_immature(MINER) == 3 * spec.params.initial_reward


def test_tie_keeps_the_first(store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    first, second = mine_block(spec, genesis), mine_block(spec, genesis, nonce=1)
    assert submit(chain, first).status == "active"
    commit = submit(chain, second)
    assert (commit.status, commit.disconnected, commit.connected) == ("side", (), ())
    assert not commit.record.active
    assert_at(store, chain, spec, first)


def test_restart_keeps_the_tie(tmp_path: Path, spec: ChainSpec, genesis: BuiltBlock) -> None:
    first, second = mine_block(spec, genesis), mine_block(spec, genesis, nonce=1)
    store, chain = open_chain(tmp_path, spec)
    for block in (second, first):
        submit(chain, block)
    store.close()
    store, chain = open_chain(tmp_path, spec)
    assert_at(store, chain, spec, second)
    heir = mine_block(spec, first)
    assert [record.block_id for record in submit(chain, heir).connected] == [first.block_id, heir.block_id]
    assert_at(store, chain, spec, heir)
    store.close()


def test_more_work_beats_more_blocks(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    common = mine_block(spec, genesis)
    # A long gap makes a block cheap by easing.
    cheap = mine_blocks(spec, common, 3, seconds=400)
    dear = mine_blocks(spec, common, 2, nonce=1)
    assert dear[0].chain_work < cheap[-1].chain_work < dear[1].chain_work
    for block in (common, *cheap):
        submit(chain, block)
    assert submit(chain, dear[0]).status == "side"
    commit = submit(chain, dear[1])
    assert (len(commit.disconnected), len(commit.connected)) == (3, 2)
    assert_at(store, chain, spec, dear[1])


def test_reorganises_with_transfers(store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    common = mine_block(spec, genesis, [build_transfer(spec, ALICE, BOB.public, 10)])
    left = mine_block(spec, common, [build_transfer(spec, BOB, CAROL.public, 500)], miner=CAROL.public)
    left_end = mine_blocks(spec, left, 4, miner=CAROL.public)
    right = mine_block(spec, common, [build_transfer(spec, ALICE, ALICE.public, 900, nonce=1)], nonce=1)
    right_end = mine_blocks(spec, right, 5, miner=BOB.public)
    for block in (common, left, *left_end, right, *right_end[:-1]):
        submit(chain, block)
    assert_at(store, chain, spec, left_end[-1])
    commit = submit(chain, right_end[-1])
    assert [r.block_id for r in commit.disconnected] == [b.block_id for b in (*left_end[::-1], left)]
    assert [r.block_id for r in commit.connected] == [b.block_id for b in (right, *right_end)]
    assert not any(record.active for record in commit.disconnected)
    assert all(record.active for record in commit.connected)
    assert_at(store, chain, spec, right_end[-1])


def test_reorganises_from_height_one_and_back(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    transfer = build_transfer(spec, ALICE, BOB.public, INITIAL_BALANCE - 1)
    left = [mine_block(spec, genesis, [transfer])]
    left += mine_blocks(spec, left[-1], 14)
    right = mine_blocks(spec, genesis, 16, nonce=1)
    for block in (*left, *right):
        submit(chain, block)
    assert_at(store, chain, spec, right[-1])
    rest = mine_blocks(spec, left[-1], 2)
    commit = submit(chain, rest[0]), submit(chain, rest[1])
    assert [len(c.disconnected) for c in commit] == [0, 16]
    assert_at(store, chain, spec, rest[-1])


def test_accounts_of_every_branch(store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    left = [mine_block(spec, genesis, [build_transfer(spec, ALICE, BOB.public, 11)])]
    left += mine_blocks(spec, left[0], 4, miner=ALICE.public)
    right = [mine_block(spec, genesis, [build_transfer(spec, BOB, ALICE.public, 5)], nonce=1)]
    right.append(mine_block(spec, right[0], [build_transfer(spec, ALICE, BOB.public, 7)]))
    for block in (*left, *right):
        submit(chain, block)
    for block in (genesis, *left, *right):
        expected = replay_accounts(spec, block)
        with store.read() as view:
            for key in (ALICE.public, BOB.public, CAROL.public, MINER, b"\xaa" * 32):
                assert view.get_account_at(block.block_id, key) == expected.get(key, Account())


def test_side_branch_ledger_failure_condemns(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    for block in mine_blocks(spec, genesis, 2):
        submit(chain, block)
    side = mine_block(spec, genesis, [build_transfer(spec, ALICE, BOB.public, INITIAL_BALANCE - 1)], nonce=1)
    submit(chain, side)
    overspent = mine_block(spec, side, [build_transfer(spec, ALICE, CAROL.public, 1, nonce=1)])
    # Off the tip the ledger is met in commit, after the evaluation.
    candidate = chain.pre_verify(overspent.raw, overspent.header.timestamp)
    with pytest.raises(RuleViolation) as caught:
        chain.commit(candidate)
    assert caught.value.code is Code.INSUFFICIENT_BALANCE
    assert chain.is_condemned(overspent.block_id)
    assert not chain.is_known(overspent.block_id)
    with pytest.raises(RuleViolation) as caught:
        chain.commit(candidate)
    assert caught.value.code is Code.CONDEMNED
    with pytest.raises(RuleViolation) as caught:
        submit(chain, mine_block(spec, overspent))
    assert caught.value.code is Code.INVALID_ANCESTOR
    assert check_database(store.path, spec) == []


def test_matured_payout_of_the_own_branch(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    for block in mine_blocks(spec, genesis, 6):
        submit(chain, block)
    side = mine_blocks(spec, genesis, 4, miner=ALICE.public, nonce=1)
    for block in side:
        submit(chain, block)
    # Block 1 of the side branch matures in its block 4; the active chain's miner was another.
    with store.read() as view:
        paid = view.get_account_at(side[-1].block_id, ALICE.public).balance
        assert paid == INITIAL_BALANCE + spec.params.initial_reward
        assert view.get_account_at(side[-1].block_id, MINER) == Account()


def test_second_commit_is_a_duplicate(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    block = mine_block(spec, genesis)
    candidate = chain.pre_verify(block.raw, block.header.timestamp)
    chain.commit(candidate)
    with pytest.raises(Duplicate):
        chain.commit(candidate)


def test_puts_off_what_claims_too_little(chain: Chain, spec: ChainSpec, genesis: BuiltBlock) -> None:
    for block in mine_blocks(spec, genesis, 3):
        submit(chain, block)
    low = mine_block(spec, genesis, nonce=1)
    with pytest.raises(NotYet) as caught:
        chain.pre_verify(low.raw, low.header.timestamp)
    assert caught.value.code is Code.PUT_OFF
    needed = chain.tip.chain_work - chain.tip.work
    assert chain.pre_verify(low.raw, low.header.timestamp, needed).chain_work == low.chain_work
    with pytest.raises(NotYet):
        chain.pre_verify(low.raw, low.header.timestamp, needed - 1)
