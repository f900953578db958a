"""Accounts, and how a block changes them (protocol §7).

The caller owns storage: it hands in a way to read accounts and gets back those that changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consensus.encoding import U64_MAX, Hash32
from consensus.errors import Code, RuleViolation
from consensus.transaction import SignedTransfer, Transfer


@dataclass(frozen=True, slots=True)
class Account:
    """What a key holds."""

    balance: int = 0
    """Below 2^63: the parameters bound the whole supply."""
    nonce: int = 0
    """u64: the nonce that its next transfer must bear."""


GetAccount = Callable[[bytes], Account]
"""key[32] → its account; the empty account for a key never seen."""


@dataclass(frozen=True, slots=True)
class Payout:
    """What the miner of a block earns, credited `maturity` blocks later."""

    miner: bytes
    """Key to credit, 32 bytes."""
    amount: int
    """Reward and fees of the block."""


def compute_reward(height: int, initial_reward: int, halving_interval: int) -> int:
    """initial_reward >> (height // halving_interval), 0 from the 64th halving on."""
    halvings = height // halving_interval
    return initial_reward >> halvings if halvings < 64 else 0


def compute_fees(transfers: Sequence[SignedTransfer]) -> int:
    """The sum of the transfers' fees."""
    return sum(signed.transfer.fee for signed in transfers)


def check_transfer(transfer: Transfer, sender: Account, chain_id: Hash32) -> None:
    """Whether the sender's account allows a transfer.

    Raises RuleViolation with WRONG_CHAIN, WRONG_NONCE, NONCE_EXHAUSTED or INSUFFICIENT_BALANCE.
    """
    if transfer.chain_id != chain_id:
        raise RuleViolation(Code.WRONG_CHAIN, transfer.chain_id.hex())
    if transfer.nonce == U64_MAX:
        raise RuleViolation(Code.NONCE_EXHAUSTED)
    if transfer.nonce != sender.nonce:
        raise RuleViolation(Code.WRONG_NONCE, f"nonce {transfer.nonce}, expected {sender.nonce}")
    if sender.balance < transfer.amount + transfer.fee:
        raise RuleViolation(
            Code.INSUFFICIENT_BALANCE,
            f"balance {sender.balance}, amount {transfer.amount}, fee {transfer.fee}",
        )


def apply_transfers(
    get_account: GetAccount, matured: Payout | None, transfers: Sequence[SignedTransfer], chain_id: Hash32
) -> dict[bytes, Account]:
    """The accounts that a block changes, after it: first the matured payout, then its transfers in order.

    `matured` is the payout of the block `maturity` below on the same branch, None where there is none.
    Raises what `check_transfer` raises.
    """
    changed: dict[bytes, Account] = {}

    def read(key: bytes) -> Account:
        return changed[key] if key in changed else get_account(key)

    if matured is not None:
        changed[matured.miner] = _credit(read(matured.miner), matured.amount)
    for signed in transfers:
        transfer = signed.transfer
        sender = read(transfer.sender)
        check_transfer(transfer, sender, chain_id)
        # The sender's change is stored before the recipient is read: they may be the same account.
        changed[transfer.sender] = Account(sender.balance - transfer.amount - transfer.fee, sender.nonce + 1)
        changed[transfer.recipient] = _credit(read(transfer.recipient), transfer.amount)
    return changed


def _credit(account: Account, amount: int) -> Account:
    return Account(account.balance + amount, account.nonce)
