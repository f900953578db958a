"""A key pair that can sign transfers. Keeping it on disk is chain.keystore's."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from chain.signatures import compute_public_key, sign
from consensus.address import encode_address
from consensus.transaction import SignedTransfer, Transfer, compute_signing_hash

SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair; its text form never shows the seed."""

    seed: bytes = field(repr=False)
    """The 32 secret bytes."""
    public: bytes
    """The 32-byte public key."""

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """The key pair of a 32-byte seed. Raises ValueError for another length."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        return cls(seed, compute_public_key(seed))

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key pair from the system's random source."""
        return cls.from_seed(secrets.token_bytes(SEED_BYTES))

    @property
    def address(self) -> str:
        """The public key as an address."""
        return encode_address(self.public)

    def sign_transfer(self, transfer: Transfer) -> SignedTransfer:
        """The transfer with this key's signature. Raises ValueError where the sender is another key."""
        if transfer.sender != self.public:
            raise ValueError("the transfer's sender is another key")
        return SignedTransfer(transfer, sign(self.seed, compute_signing_hash(transfer)))
