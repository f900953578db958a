"""Accounts and transfers: order, edges, and the conservation of coins."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import U64_MAX
from consensus.errors import Code, RuleViolation
from consensus.ledger import Account, Payout, apply_transfers, check_transfer, compute_fees, compute_reward
from consensus.transaction import SignedTransfer, Transfer

CHAIN_ID = b"\x09" * 32
A, B, C = (bytes([key]) * 32 for key in (1, 2, 3))


def pay(sender: bytes, recipient: bytes, amount: int, fee: int = 0, nonce: int = 0) -> SignedTransfer:
    """A transfer whose signature nobody looks at."""
    return SignedTransfer(Transfer(1, CHAIN_ID, sender, recipient, amount, fee, nonce), bytes(64))


def apply(
    accounts: dict[bytes, Account], *transfers: SignedTransfer, matured: Payout | None = None
) -> dict[bytes, Account]:
    return apply_transfers(lambda key: accounts.get(key, Account()), matured, transfers, CHAIN_ID)


def get_code(accounts: dict[bytes, Account], *transfers: SignedTransfer) -> Code:
    with pytest.raises(RuleViolation) as caught:
        apply(accounts, *transfers)
    return caught.value.code


def test_a_transfer_debits_amount_and_fee_and_credits_the_amount() -> None:
    changed = apply({A: Account(10, 4)}, pay(A, B, 6, 3, nonce=4))
    assert changed == {A: Account(1, 5), B: Account(6, 0)}


def test_a_self_transfer_costs_its_fee_alone() -> None:
    assert apply({A: Account(10)}, pay(A, A, 7, 3)) == {A: Account(7, 1)}
    assert apply({A: Account(10)}, pay(A, A, 10)) == {A: Account(10, 1)}


def test_rejects_a_self_transfer_above_the_balance() -> None:
    assert get_code({A: Account(10)}, pay(A, A, 8, 3)) is Code.INSUFFICIENT_BALANCE


def test_a_credit_is_spent_later_in_the_same_block_but_not_earlier() -> None:
    first, second = pay(A, B, 10), pay(B, C, 10)
    expected = {A: Account(0, 1), B: Account(0, 1), C: Account(10)}
    assert apply({A: Account(10)}, first, second) == expected
    assert get_code({A: Account(10)}, second, first) is Code.INSUFFICIENT_BALANCE


def test_a_matured_payout_comes_before_the_transfers() -> None:
    assert apply({}, pay(A, B, 5), matured=Payout(A, 5)) == {A: Account(0, 1), B: Account(5)}
    assert apply({A: Account(1, 2)}, matured=Payout(A, 5)) == {A: Account(6, 2)}


def test_transfers_of_nothing_are_valid() -> None:
    assert apply({}, pay(A, B, 0)) == {A: Account(0, 1), B: Account(0)}


def test_rejects_another_chain() -> None:
    signed = pay(A, B, 1)
    other = replace(signed, transfer=replace(signed.transfer, chain_id=bytes(32)))
    assert get_code({A: Account(10)}, other) is Code.WRONG_CHAIN


@pytest.mark.parametrize("nonce", [0, 6, 8, U64_MAX - 1])
def test_rejects_a_nonce_that_is_not_the_next(nonce: int) -> None:
    assert get_code({A: Account(10, 7)}, pay(A, B, 1, nonce=nonce)) is Code.WRONG_NONCE


def test_rejects_the_same_transfer_twice() -> None:
    assert get_code({A: Account(10)}, pay(A, B, 1), pay(A, B, 1)) is Code.WRONG_NONCE


def test_the_last_nonce_but_one_is_the_last_that_can_be_used() -> None:
    assert apply({A: Account(10, U64_MAX - 1)}, pay(A, B, 1, nonce=U64_MAX - 1))[A] == Account(9, U64_MAX)
    assert get_code({A: Account(10, U64_MAX)}, pay(A, B, 1, nonce=U64_MAX)) is Code.NONCE_EXHAUSTED


@pytest.mark.parametrize(
    ("amount", "fee"), [(11, 0), (0, 11), (10, 1), (1, 10), (U64_MAX, 1), (U64_MAX, U64_MAX), (2**63, 2**63)]
)
def test_rejects_more_than_the_balance_without_wrapping(amount: int, fee: int) -> None:
    assert get_code({A: Account(10)}, pay(A, B, amount, fee)) is Code.INSUFFICIENT_BALANCE


def test_accepts_the_whole_balance() -> None:
    check_transfer(pay(A, B, 2**63 - 3, 2).transfer, Account(2**63 - 1), CHAIN_ID)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([A, B, C]), st.sampled_from([A, B, C]), st.integers(0, 40), st.integers(0, 5)
        ),
        max_size=12,
    )
)
def test_coins_are_neither_made_nor_lost(moves: list[tuple[bytes, bytes, int, int]]) -> None:
    """Against the text step by step: debit, nonce, credit; what breaks a rule changes nothing before it."""
    accounts = {key: Account(50) for key in (A, B, C)}
    balances, nonces = dict.fromkeys(accounts, 50), dict.fromkeys(accounts, 0)
    transfers: list[SignedTransfer] = []
    for sender, recipient, amount, fee in moves:
        if balances[sender] < amount + fee:
            refused = pay(sender, recipient, amount, fee, nonces[sender])
            assert get_code(accounts, *transfers, refused) is Code.INSUFFICIENT_BALANCE
            continue
        transfers.append(pay(sender, recipient, amount, fee, nonces[sender]))
        balances[sender] -= amount + fee
        nonces[sender] += 1
        balances[recipient] += amount
    after = accounts | apply(accounts, *transfers)
    assert after == {key: Account(balances[key], nonces[key]) for key in accounts}
    assert sum(account.balance for account in after.values()) == 150 - compute_fees(transfers)


@pytest.mark.parametrize(
    ("height", "reward"),
    [(0, 2**62), (1, 2**62), (2, 2**62), (3, 2**61), (5, 2**61), (6, 2**60), (186, 1), (188, 1), (189, 0)],
)
def test_the_reward_halves(height: int, reward: int) -> None:
    assert compute_reward(height, 2**62, 3) == reward


def test_the_reward_is_0_from_the_64th_halving_on() -> None:
    assert compute_reward(63, U64_MAX, 1) == 1
    assert compute_reward(64, U64_MAX, 1) == 0
    assert compute_reward(2**32 - 1, U64_MAX, 1) == 0


@given(st.integers(1, 40), st.integers(1, 10_000))
def test_all_rewards_together_stay_below_what_the_parameters_count(interval: int, initial: int) -> None:
    rewards = (compute_reward(height, initial, interval) for height in range(1, 64 * interval + 1))
    assert sum(rewards) < 2 * initial * interval
