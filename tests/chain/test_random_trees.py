"""Random trees of blocks in random orders of arrival: the tip and every account are those of a replay."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.chain import Chain
from chain.database import check_database
from chain.store import Store
from consensus.ledger import Account
from consensus.params import ChainSpec
from consensus.transaction import SignedTransfer
from tests.builders import (
    ALICE,
    BOB,
    CAROL,
    MINER,
    BuiltBlock,
    build_genesis,
    build_spec,
    build_transfer,
    mine_block,
    open_chain,
    replay_accounts,
    submit,
)

SPEC = build_spec(maturity=2)
KEYS = (ALICE, BOB, CAROL)


@dataclass(frozen=True)
class Growth:
    """One block to be: where it stands, what it moves, and when it arrives."""

    parent: int
    seconds: int
    miner: int
    transfers: tuple[tuple[int, int, int], ...]
    priority: int


GROWTHS = st.builds(
    Growth,
    parent=st.integers(0, 30),
    seconds=st.sampled_from([5, 20, 400]),
    miner=st.integers(0, 3),
    transfers=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 700_000)), max_size=3
    ).map(tuple),
    priority=st.integers(0, 1_000),
)


def build_transfers(spec: ChainSpec, parent: BuiltBlock, growth: Growth) -> list[SignedTransfer]:
    """Those of the growth's transfers that the branch can pay, each sender once."""
    accounts = replay_accounts(spec, parent)
    chosen: dict[bytes, SignedTransfer] = {}
    for sender, recipient, amount in growth.transfers:
        key = KEYS[sender]
        account = accounts.get(key.public, Account())
        if account.balance > amount:
            target = KEYS[recipient].public
            chosen[key.public] = build_transfer(spec, key, target, amount, nonce=account.nonce)
    return list(chosen.values())


def grow_tree(spec: ChainSpec, growths: list[Growth]) -> list[tuple[int, BuiltBlock]]:
    """(priority, block) of a tree, parents before their children; parents counted from the newest back."""
    tree = [(0, build_genesis(spec))]
    miners = (MINER, *(key.public for key in KEYS))
    for nonce, growth in enumerate(growths):
        # Small numbers stand for recent blocks, so that shrunk examples are long branches.
        parent = tree[-1 - growth.parent % min(len(tree), 4)][1]
        transfers = build_transfers(spec, parent, growth)
        block = mine_block(
            spec, parent, transfers, miner=miners[growth.miner], seconds=growth.seconds, nonce=nonce
        )
        tree.append((growth.priority, block))
    return tree[1:]


def order_arrivals(tree: list[tuple[int, BuiltBlock]]) -> list[BuiltBlock]:
    """The blocks by priority, but none before its parent."""
    known, arrivals, waiting = {SPEC.chain_id}, [], sorted(tree, key=lambda item: item[0])
    while waiting:
        ready = next(item for item in waiting if item[1].header.parent in known)
        waiting.remove(ready)
        known.add(ready[1].block_id)
        arrivals.append(ready[1])
    return arrivals


def assert_equals_replay(store: Store, chain: Chain, arrivals: list[BuiltBlock]) -> None:
    best = max(arrivals, key=lambda block: (block.chain_work, -arrivals.index(block)))
    assert chain.tip.block_id == best.block_id
    with store.read() as view:
        keys = {key.public for key in KEYS} | {MINER}
        found = {key: account for key, account in view.get_accounts(keys).items() if account != Account()}
        assert found == replay_accounts(SPEC, best)
        for block in arrivals:
            expected = replay_accounts(SPEC, block)
            for key in keys:
                assert view.get_account_at(block.block_id, key) == expected.get(key, Account())
    assert check_database(store.path, SPEC) == []


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(GROWTHS, min_size=1, max_size=14), st.integers(0, 14))
def test_any_order_equals_a_replay(growths: list[Growth], restart_after: int) -> None:
    arrivals = order_arrivals(grow_tree(SPEC, growths))
    with tempfile.TemporaryDirectory() as directory:
        store, chain = open_chain(Path(directory), SPEC)
        for place, block in enumerate(arrivals):
            submit(chain, block)
            if place == restart_after:
                store.close()
                store, chain = open_chain(Path(directory), SPEC)
        assert_equals_replay(store, chain, arrivals)
        store.close()
