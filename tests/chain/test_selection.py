"""The order of transfers in a block: by fee, each sender's by nonce, and valid from first to last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chain.selection import PoolEntry, select_entries
from consensus.ledger import Account, Payout, apply_transfers
from consensus.transaction import SignedTransfer
from tests.builders import ALICE, BOB, CAROL, build_spec, build_transfer

SPEC = build_spec()
KEYS = (ALICE, BOB, CAROL)


def build_queues(transfers: list[SignedTransfer]) -> dict[bytes, list[PoolEntry]]:
    queues: dict[bytes, list[PoolEntry]] = {}
    for sequence, signed in enumerate(transfers):
        queues.setdefault(signed.transfer.sender, []).append(PoolEntry(sequence, signed.tx_id, signed))
    return {key: sorted(queue, key=lambda entry: entry.nonce) for key, queue in queues.items()}


def select(
    transfers: list[SignedTransfer],
    accounts: dict[bytes, Account],
    matured: Payout | None = None,
    max_count: int = 100,
) -> list[SignedTransfer]:
    return select_entries(build_queues(transfers), accounts, matured, SPEC.chain_id, max_count)


def test_dearest_heads_go_first() -> None:
    first = build_transfer(SPEC, ALICE, CAROL.public, fee=1)
    second = build_transfer(SPEC, ALICE, CAROL.public, fee=9, nonce=1)
    other = build_transfer(SPEC, BOB, CAROL.public, fee=5)
    rich = {key.public: Account(1_000) for key in KEYS}
    assert select([first, second, other], rich) == [other, first, second]
    assert select([first, second, other], rich, max_count=2) == [other, first]
    assert select([], rich) == []


def test_equal_fees_go_by_arrival() -> None:
    transfers = [build_transfer(SPEC, key, key.public) for key in (CAROL, ALICE, BOB)]
    assert select(transfers, {key.public: Account(1_000) for key in KEYS}) == transfers


def test_a_credit_of_the_block_can_be_spent() -> None:
    spend = build_transfer(SPEC, BOB, CAROL.public, 90, fee=9)
    credit = build_transfer(SPEC, ALICE, BOB.public, 200, fee=1)
    poor = {ALICE.public: Account(1_000), BOB.public: Account()}
    assert select([spend, credit], poor) == [credit, spend]
    assert select([spend], poor) == []


def test_matured_payout_can_be_spent() -> None:
    spend = build_transfer(SPEC, BOB, CAROL.public, 90, fee=9)
    assert select([spend], {BOB.public: Account()}, Payout(BOB.public, 99)) == [spend]
    assert select([spend], {BOB.public: Account()}, Payout(BOB.public, 98)) == []


def test_a_gap_ends_a_queue() -> None:
    transfers = [build_transfer(SPEC, ALICE, BOB.public, nonce=nonce) for nonce in (0, 2)]
    assert select(transfers, {ALICE.public: Account(1_000)}) == transfers[:1]


PLANS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 400), st.integers(0, 5)), max_size=14
)


@given(PLANS, st.integers(0, 14))
def test_whatever_is_selected_is_valid(plans: list[tuple[int, int, int, int]], max_count: int) -> None:
    nonces = dict.fromkeys(range(3), 0)
    transfers = []
    for sender, recipient, amount, fee in plans:
        nonce, nonces[sender] = nonces[sender], nonces[sender] + 1
        transfers.append(
            build_transfer(SPEC, KEYS[sender], KEYS[recipient].public, amount, fee=fee, nonce=nonce)
        )
    accounts = {key.public: Account(500) for key in KEYS}
    selected = select(transfers, accounts, None, max_count)
    assert len(selected) <= max_count
    apply_transfers(lambda key: accounts.get(key, Account()), None, selected, SPEC.chain_id)
    if len(selected) < max_count:
        # Nothing is left that could still be appended.
        state = accounts | apply_transfers(accounts.__getitem__, None, selected, SPEC.chain_id)
        for signed in transfers:
            account = state[signed.transfer.sender]
            is_next = signed.transfer.nonce == account.nonce
            assert not is_next or account.balance < signed.transfer.amount + signed.transfer.fee
