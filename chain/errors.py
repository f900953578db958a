"""What can go wrong in the local chain beside the protocol's own codes (consensus.errors).

Exception
├── StoreError      the database cannot be opened, read or written: one clear line for the operator
├── KeystoreError   a keystore cannot be written, read or unlocked
└── PoolRefusal     a transfer breaks no rule, yet this node's mempool does not take it
"""

from __future__ import annotations

from enum import Enum


class StoreError(Exception):
    """The database is missing, broken, full, locked or another chain's; the message says which and where."""


class KeystoreError(Exception):
    """A keystore file is missing, malformed or does not open with this password."""


class PoolCode(Enum):
    """Why a mempool refuses a transfer that breaks no rule, with a line saying exactly when."""

    MEMPOOL_FULL = ("mempool-full", "the mempool is full and the fee is not above its cheapest")
    SENDER_QUEUE_FULL = ("sender-queue-full", "the sender has as many transfers waiting as this node keeps")
    NONCE_GAP_TOO_LARGE = ("nonce-gap-too-large", "the nonce is too far ahead of the sender's next one")
    NONCE_TAKEN = ("nonce-taken", "another transfer of this sender waits with the same nonce")

    def __init__(self, text: str, when: str) -> None:
        self.text = text
        self.when = when

    def __str__(self) -> str:
        return self.text


class PoolRefusal(Exception):
    """A transfer that this node's mempool does not take now; another node may, and so may this one later."""

    def __init__(self, code: PoolCode, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail or self.code.when}"
