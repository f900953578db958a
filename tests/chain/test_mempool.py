"""What a mempool takes, keeps, offers and lets go."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from chain.chain import Chain
from chain.errors import PoolCode, PoolRefusal, StoreError
from chain.mempool import Mempool, MempoolLimits
from chain.signatures import verify_signature
from chain.store import Store
from consensus.encoding import U64_MAX
from consensus.errors import Code, Duplicate, RuleViolation
from consensus.params import ChainSpec
from tests.builders import (
    ALICE,
    BOB,
    CAROL,
    INITIAL_BALANCE,
    BuiltBlock,
    build_transfer,
    mine_block,
    mine_blocks,
    open_chain,
    submit,
)


def build_small(store: Store, chain: Chain, **limits: int) -> Mempool:
    return Mempool(store, chain, verify_signature, MempoolLimits(**limits))


def mine_into(chain: Chain, mempool: Mempool, block: BuiltBlock) -> None:
    mempool.apply(submit(chain, block))


def test_takes_gives_and_lists(mempool: Mempool, spec: ChainSpec) -> None:
    transfers = [build_transfer(spec, ALICE, BOB.public, nonce=nonce) for nonce in range(5)]
    assert [mempool.add(signed) for signed in transfers] == [signed.tx_id for signed in transfers]
    assert mempool.size == 5
    assert mempool.get(transfers[2].tx_id) == transfers[2]
    assert mempool.get(bytes(32)) is None
    first, cursor = mempool.list(None, 3)
    second, end = mempool.list(cursor, 3)
    assert ((*first, *second), end) == (tuple(transfers), None)
    assert mempool.list(None, 0) == ((), None)
    assert mempool.list(None, 5) == (tuple(transfers), None)


def test_rejects_a_waiting_transfer(mempool: Mempool, spec: ChainSpec) -> None:
    signed = build_transfer(spec, ALICE, BOB.public)
    mempool.add(signed)
    with pytest.raises(Duplicate):
        mempool.add(signed)
    assert mempool.size == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"amount": INITIAL_BALANCE}, Code.INSUFFICIENT_BALANCE),
        ({"amount": U64_MAX, "fee": U64_MAX}, Code.INSUFFICIENT_BALANCE),
        ({"nonce": U64_MAX}, Code.NONCE_EXHAUSTED),
    ],
)
def test_rejects_what_breaks_a_rule(
    mempool: Mempool, spec: ChainSpec, options: dict[str, int], code: Code
) -> None:
    with pytest.raises(RuleViolation) as caught:
        mempool.add(build_transfer(spec, ALICE, BOB.public, **options))
    assert caught.value.code is code
    assert mempool.size == 0


def test_rejects_a_forged_signature(mempool: Mempool, spec: ChainSpec) -> None:
    with pytest.raises(RuleViolation) as caught:
        mempool.add(replace(build_transfer(spec, ALICE, BOB.public), signature=bytes(64)))
    assert caught.value.code is Code.BAD_SIGNATURE


def test_rejects_another_chains_transfer(mempool: Mempool, spec: ChainSpec) -> None:
    transfer = replace(build_transfer(spec, ALICE, BOB.public).transfer, chain_id=bytes(32))
    with pytest.raises(RuleViolation) as caught:
        mempool.add(ALICE.sign_transfer(transfer))
    assert caught.value.code is Code.WRONG_CHAIN


def test_rejects_a_spent_nonce(chain: Chain, mempool: Mempool, spec: ChainSpec, genesis: BuiltBlock) -> None:
    signed = build_transfer(spec, ALICE, BOB.public)
    mine_into(chain, mempool, mine_block(spec, genesis, [signed]))
    for other in (signed, build_transfer(spec, ALICE, CAROL.public)):
        with pytest.raises(RuleViolation) as caught:
            mempool.add(other)
        assert caught.value.code is Code.WRONG_NONCE


def test_rejects_more_than_the_sender_can_pay_in_all(mempool: Mempool, spec: ChainSpec) -> None:
    mempool.add(build_transfer(spec, ALICE, BOB.public, INITIAL_BALANCE - 101, nonce=1))
    with pytest.raises(RuleViolation) as caught:
        mempool.add(build_transfer(spec, ALICE, BOB.public, 100))
    assert caught.value.code is Code.INSUFFICIENT_BALANCE
    mempool.add(build_transfer(spec, ALICE, BOB.public, 99))
    assert mempool.get_next_nonce(ALICE.public) == 2


def test_self_transfers_cost_their_fee_alone(mempool: Mempool, spec: ChainSpec) -> None:
    for nonce in range(3):
        mempool.add(build_transfer(spec, ALICE, ALICE.public, INITIAL_BALANCE - 10, nonce=nonce))
    assert len(mempool.select(8)) == 3


def test_refuses_beyond_its_limits(store: Store, chain: Chain, spec: ChainSpec) -> None:
    mempool = build_small(store, chain, max_per_sender=2, max_nonce_ahead=4)
    cases = [
        ({"nonce": 4}, PoolCode.NONCE_GAP_TOO_LARGE),
        ({"nonce": 3}, None),
        ({"nonce": 3, "amount": 7}, PoolCode.NONCE_TAKEN),
        ({"nonce": 0}, None),
        ({"nonce": 1}, PoolCode.SENDER_QUEUE_FULL),
    ]
    for options, code in cases:
        signed = build_transfer(spec, ALICE, BOB.public, **options)
        if code is None:
            mempool.add(signed)
            continue
        with pytest.raises(PoolRefusal) as caught:
            mempool.add(signed)
        assert caught.value.code is code
    assert mempool.get_next_nonce(ALICE.public) == 1
    assert [signed.transfer.nonce for signed in mempool.select(8)] == [0]


def test_full_pool_takes_only_what_pays_more(store: Store, chain: Chain, spec: ChainSpec) -> None:
    mempool = build_small(store, chain, max_count=3)
    cheap = [build_transfer(spec, ALICE, BOB.public, nonce=nonce, fee=2) for nonce in range(2)]
    for signed in (*cheap, build_transfer(spec, BOB, ALICE.public, fee=5)):
        mempool.add(signed)
    with pytest.raises(PoolRefusal) as caught:
        mempool.add(build_transfer(spec, CAROL, BOB.public, fee=2))
    assert str(caught.value) == f"mempool-full: {PoolCode.MEMPOOL_FULL.when}"
    mempool.add(build_transfer(spec, CAROL, BOB.public, fee=3))
    # The last of the cheapest sender went, so that no gap arose.
    assert [mempool.get(signed.tx_id) for signed in cheap] == [cheap[0], None]
    assert mempool.size == 3
    lonely = build_small(store, chain, max_count=0)
    assert lonely.size == 0
    with pytest.raises(PoolRefusal):
        lonely.add(build_transfer(spec, ALICE, BOB.public, fee=9))


def test_full_pool_prefers_what_can_be_mined(store: Store, chain: Chain, spec: ChainSpec) -> None:
    mempool = build_small(store, chain, max_count=3)
    # What waits behind a missing nonce costs nothing, whatever fee it names.
    for nonce in (1, 2, 3):
        mempool.add(build_transfer(spec, ALICE, BOB.public, nonce=nonce, fee=1_000))
    mempool.add(build_transfer(spec, BOB, ALICE.public, fee=1))
    mempool.add(build_transfer(spec, BOB, ALICE.public, nonce=1, fee=1))
    with pytest.raises(PoolRefusal) as caught:
        mempool.add(build_transfer(spec, CAROL, ALICE.public, nonce=1, fee=2_000))
    assert caught.value.code is PoolCode.MEMPOOL_FULL
    # A missing one that comes makes what waits behind it mineable.
    mempool.add(build_transfer(spec, ALICE, BOB.public, nonce=0, fee=2))
    assert [(s.transfer.nonce, s.transfer.fee) for s in mempool.select(8)] == [(0, 2), (1, 1_000), (0, 1)]


def test_selects_what_a_block_may_hold(
    chain: Chain, mempool: Mempool, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    for nonce in range(10):
        mempool.add(build_transfer(spec, ALICE, BOB.public, nonce=nonce))
    assert len(mempool.select(3)) == 3
    selected = mempool.select(1_000)
    assert len(selected) == spec.params.max_transactions
    mine_into(chain, mempool, mine_block(spec, genesis, selected))
    assert mempool.size == 2
    assert [signed.transfer.nonce for signed in mempool.select(9)] == [8, 9]


def test_selects_on_the_tip_of_a_snapshot(
    store: Store, chain: Chain, mempool: Mempool, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    signed = build_transfer(spec, ALICE, BOB.public)
    mempool.add(signed)
    with store.read() as view:
        assert view.get_tip().height == 0
        submit(chain, mine_block(spec, genesis, [signed]))
        assert mempool.select(8, view) == (signed,)
    assert mempool.select(8) == ()


def test_survives_a_restart(tmp_path: Path, spec: ChainSpec, genesis: BuiltBlock) -> None:
    store, chain = open_chain(tmp_path, spec)
    mempool = Mempool(store, chain, verify_signature)
    mined, kept = (build_transfer(spec, key, CAROL.public) for key in (ALICE, BOB))
    for signed in (mined, kept):
        mempool.add(signed)
    # Killed between the commit and the mempool's turn.
    submit(chain, mine_block(spec, genesis, [mined]))
    store.close()
    store, chain = open_chain(tmp_path, spec)
    for _ in range(2):
        mempool = Mempool(store, chain, verify_signature)
        assert mempool.list(None, 9) == ((kept,), None)
    mempool.add(build_transfer(spec, BOB, CAROL.public, nonce=1))
    assert mempool.size == 2
    store.close()


def test_disconnected_transfers_survive_a_restart(
    tmp_path: Path, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    store, chain = open_chain(tmp_path, spec)
    mempool = Mempool(store, chain, verify_signature)
    lost, both = (build_transfer(spec, key, CAROL.public) for key in (ALICE, BOB))
    late = build_transfer(spec, ALICE, CAROL.public, nonce=1)
    waiting = build_transfer(spec, CAROL, BOB.public)
    left = mine_block(spec, genesis, [lost, both])
    for block in (left, mine_block(spec, left, [late])):
        mine_into(chain, mempool, block)
    mempool.add(waiting)
    right = mine_blocks(spec, genesis, 2, nonce=1)
    for block in (*right, mine_block(spec, right[-1], [both])):
        # Killed between the commit and the mempool's turn.
        submit(chain, block)
    store.close()
    store, chain = open_chain(tmp_path, spec)
    for _ in range(2):
        mempool = Mempool(store, chain, verify_signature)
        assert mempool.list(None, 9)[0] == (waiting, lost, late)
    mempool.add(build_transfer(spec, CAROL, BOB.public, nonce=1))
    store.close()


def test_takes_a_disconnected_transfer_before_its_turn(
    store: Store, chain: Chain, mempool: Mempool, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    signed = build_transfer(spec, ALICE, BOB.public)
    mine_into(chain, mempool, mine_block(spec, genesis, [signed]))
    first, second = mine_blocks(spec, genesis, 2, nonce=1)
    mine_into(chain, mempool, first)
    commit = submit(chain, second)
    mempool.add(signed)
    mempool.apply(commit)
    assert mempool.list(None, 9)[0] == (signed,)
    assert Mempool(store, chain, verify_signature).list(None, 9)[0] == (signed,)


def test_reorganisation_brings_transfers_back(
    store: Store, chain: Chain, mempool: Mempool, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    both = build_transfer(spec, ALICE, BOB.public)
    lost = build_transfer(spec, BOB, CAROL.public)
    clash = build_transfer(spec, CAROL, BOB.public, 1)
    waiting = build_transfer(spec, BOB, CAROL.public, nonce=1)
    left = mine_block(spec, genesis, [both, lost, clash])
    mine_into(chain, mempool, left)
    mempool.add(waiting)
    right = mine_block(spec, genesis, [both, build_transfer(spec, CAROL, BOB.public, 2)], nonce=1)
    mine_into(chain, mempool, right)
    assert mempool.list(None, 9)[0] == (waiting,)
    mine_into(chain, mempool, mine_block(spec, right))
    assert mempool.list(None, 9)[0] == (waiting, lost)
    assert mempool.select(8) == (lost, waiting)
    # And forward again: the other branch mined it.
    for block in mine_blocks(spec, left, 2):
        mine_into(chain, mempool, block)
    assert mempool.list(None, 9)[0] == (waiting,)


def test_returned_transfer_replaces_its_rival(
    store: Store, chain: Chain, mempool: Mempool, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    mined = build_transfer(spec, ALICE, BOB.public, 1)
    rival = build_transfer(spec, ALICE, BOB.public, 2)
    mempool.add(rival)
    left, right = mine_block(spec, genesis, [mined]), mine_blocks(spec, genesis, 2, nonce=1)
    commit = submit(chain, left)
    for block in right:
        mempool.apply(submit(chain, block))
    assert commit.status == "active"
    assert mempool.list(None, 9)[0] == (mined,)


def test_drops_what_can_no_longer_be_paid(
    chain: Chain, mempool: Mempool, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    dear = build_transfer(spec, ALICE, BOB.public, INITIAL_BALANCE // 2, nonce=1)
    cheap = build_transfer(spec, ALICE, BOB.public, 1, nonce=2)
    for signed in (dear, cheap):
        mempool.add(signed)
    spent = build_transfer(spec, ALICE, CAROL.public, INITIAL_BALANCE * 3 // 4)
    mine_into(chain, mempool, mine_block(spec, genesis, [spent]))
    assert mempool.list(None, 9)[0] == (cheap,)
    assert mempool.select(8) == ()


def test_full_pool_takes_back_only_what_fits(
    store: Store, chain: Chain, spec: ChainSpec, genesis: BuiltBlock
) -> None:
    mempool = build_small(store, chain, max_count=1)
    left = mine_block(spec, genesis, [build_transfer(spec, ALICE, BOB.public)])
    mine_into(chain, mempool, left)
    waiting = build_transfer(spec, BOB, CAROL.public)
    mempool.add(waiting)
    for block in mine_blocks(spec, genesis, 2, nonce=1):
        mine_into(chain, mempool, block)
    assert mempool.list(None, 9)[0] == (waiting,)


def test_failed_write_leaves_memory_alone(store: Store, mempool: Mempool, spec: ChainSpec) -> None:
    with store.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    added = 0
    with pytest.raises(StoreError, match="full"):  # noqa: PT012
        for nonce in range(64):
            mempool.add(build_transfer(spec, ALICE, BOB.public, nonce=nonce))
            added += 1
    assert mempool.size == added < 64
    assert len(mempool.list(None, 100)[0]) == added


def test_many_threads_add(store: Store, chain: Chain, mempool: Mempool, spec: ChainSpec) -> None:
    transfers = {
        key.public: [build_transfer(spec, key, CAROL.public, nonce=nonce) for nonce in range(15)]
        for key in (ALICE, BOB, CAROL)
    }
    threads = [
        threading.Thread(target=lambda queue=queue: [mempool.add(signed) for signed in queue])
        for queue in transfers.values()
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(mempool.list(None, 100)[0]) <= 45
        assert len(mempool.select(8)) <= 8
    for thread in threads:
        thread.join(timeout=30)
    assert mempool.size == 45
    assert Mempool(store, chain, verify_signature).list(None, 100) == mempool.list(None, 100)
