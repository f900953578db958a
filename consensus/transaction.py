"""Transfers: canonical bytes, ids, and the checks that need no ledger (protocol §7)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from consensus.encoding import Hash32, Reader, compute_tagged_hash, pack
from consensus.errors import Code, RuleViolation
from consensus.keys import VerifySignature, check_sender_key, is_canonical_scalar
from consensus.merkle import compute_merkle_root

_LAYOUT = struct.Struct("<H32s32s32sQQQ")
TRANSFER_BYTES = _LAYOUT.size
SIGNED_BYTES = TRANSFER_BYTES + 64
TRANSFER_VERSION = 1


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a sender signs."""

    version: int
    """u16, 1."""
    chain_id: Hash32
    """The genesis block's id."""
    sender: bytes
    """Ed25519 key that pays, 32 bytes."""
    recipient: bytes
    """Any 32 bytes to credit."""
    amount: int
    """u64."""
    fee: int
    """u64, paid to the block's miner."""
    nonce: int
    """u64, the sender's next one."""


@dataclass(frozen=True, slots=True)
class SignedTransfer:
    """A transfer with its signature."""

    transfer: Transfer
    signature: bytes
    """Ed25519 over `compute_signing_hash(transfer)`, 64 bytes."""

    @property
    def tx_id(self) -> Hash32:
        """H("FreezeNet/1/transaction", signed): covers the signature too."""
        return compute_tagged_hash("FreezeNet/1/transaction", encode_signed(self))


def encode_transfer(transfer: Transfer) -> bytes:
    """The 122 bytes of a transfer. Raises ValueError if a field is out of range."""
    t = transfer
    return pack(_LAYOUT, t.version, t.chain_id, t.sender, t.recipient, t.amount, t.fee, t.nonce)


def encode_signed(signed: SignedTransfer) -> bytes:
    """The 186 bytes of a signed transfer."""
    if len(signed.signature) != 64:
        raise ValueError(f"a signature has 64 bytes, not {len(signed.signature)}")
    return encode_transfer(signed.transfer) + signed.signature


def read_signed(reader: Reader) -> SignedTransfer:
    """The next signed transfer."""
    return SignedTransfer(Transfer(*reader.unpack(_LAYOUT)), reader.take(64))


def decode_signed(data: bytes) -> SignedTransfer:
    """The signed transfer in exactly these bytes. Raises BadDelivery(UNDECODABLE)."""
    reader = Reader(data)
    signed = read_signed(reader)
    reader.finish()
    return signed


def compute_signing_hash(transfer: Transfer) -> Hash32:
    """H("FreezeNet/1/sign", transfer): what the signature covers."""
    return compute_tagged_hash("FreezeNet/1/sign", encode_transfer(transfer))


def compute_transactions_root(transfers: Sequence[SignedTransfer]) -> Hash32:
    """RFC 6962 root over the ids in block order."""
    return compute_merkle_root([signed.tx_id for signed in transfers])


def check_transfer_form(signed: SignedTransfer, verify_signature: VerifySignature) -> None:
    """What can be said of a transfer without a ledger.

    Raises RuleViolation with WRONG_TRANSFER_VERSION, BAD_SENDER_KEY or BAD_SIGNATURE.
    """
    transfer = signed.transfer
    if transfer.version != TRANSFER_VERSION:
        raise RuleViolation(Code.WRONG_TRANSFER_VERSION, f"version {transfer.version}")
    check_sender_key(transfer.sender)
    message = compute_signing_hash(transfer)
    if not is_canonical_scalar(signed.signature) or not verify_signature(
        transfer.sender, message, signed.signature
    ):
        raise RuleViolation(Code.BAD_SIGNATURE, f"transaction {signed.tx_id.hex()}")
