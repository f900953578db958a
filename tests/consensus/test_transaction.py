"""Transfers: their bytes, ids, root, and the checks that need no ledger."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from chain.signatures import verify_signature
from consensus.encoding import U64_MAX, compute_tagged_hash
from consensus.errors import BadDelivery, Code, RuleViolation
from consensus.merkle import compute_merkle_root
from consensus.transaction import (
    SIGNED_BYTES,
    TRANSFER_BYTES,
    SignedTransfer,
    Transfer,
    check_transfer_form,
    compute_signing_hash,
    compute_transactions_root,
    decode_signed,
    encode_signed,
    encode_transfer,
)
from node.dev_chain import ALICE
from tests.consensus.golden import one_field

TRANSFER = Transfer(1, b"\x01" * 32, ALICE.public, b"\x03" * 32, amount=4, fee=5, nonce=U64_MAX)
SIGNED = ALICE.sign_transfer(TRANSFER)


def test_the_layout_is_the_texts() -> None:
    expected = struct.pack("<H", 1) + b"\x01" * 32 + ALICE.public + b"\x03" * 32
    expected += struct.pack("<QQQ", 4, 5, U64_MAX)
    assert encode_transfer(TRANSFER) == expected
    assert encode_signed(SIGNED) == expected + SIGNED.signature
    assert (TRANSFER_BYTES, SIGNED_BYTES) == (len(expected), len(expected) + 64) == (122, 186)
    assert decode_signed(expected + SIGNED.signature) == SIGNED


def test_ids_and_signing_hash_have_their_own_tags() -> None:
    assert compute_signing_hash(TRANSFER) == compute_tagged_hash(
        "FreezeNet/1/sign", encode_transfer(TRANSFER)
    )
    assert SIGNED.tx_id == compute_tagged_hash("FreezeNet/1/transaction", encode_signed(SIGNED))


def test_the_id_covers_the_signature() -> None:
    assert replace(SIGNED, signature=bytes(64)).tx_id != SIGNED.tx_id


def test_the_root_is_over_the_ids_in_block_order() -> None:
    other = ALICE.sign_transfer(replace(TRANSFER, nonce=0))
    assert compute_transactions_root([SIGNED, other]) == compute_merkle_root([SIGNED.tx_id, other.tx_id])
    assert compute_transactions_root([SIGNED, other]) != compute_transactions_root([other, SIGNED])
    assert compute_transactions_root([]) == compute_merkle_root([])


def test_accepts_a_signed_transfer() -> None:
    check_transfer_form(SIGNED, verify_signature)


@pytest.mark.parametrize("version", [0, 2, 65_535])
def test_rejects_another_version_before_its_signature(version: int) -> None:
    signed = SignedTransfer(replace(TRANSFER, version=version), bytes(64))
    with pytest.raises(RuleViolation) as caught:
        check_transfer_form(signed, verify_signature)
    assert caught.value.code is Code.WRONG_TRANSFER_VERSION


@pytest.mark.parametrize("change", [-186, -64, -1, 1])
def test_rejects_another_length(change: int) -> None:
    data = encode_signed(SIGNED)
    with pytest.raises(BadDelivery) as caught:
        decode_signed(data[:change] if change < 0 else data + b"\0")
    assert caught.value.code is Code.UNDECODABLE


@pytest.mark.parametrize("field", ["chain_id", "sender", "recipient"])
def test_rejects_encoding_a_key_of_another_length(field: str) -> None:
    for size in (31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            encode_transfer(replace(TRANSFER, **one_field(field, bytes(size))))


@pytest.mark.parametrize("field", ["version", "amount", "fee", "nonce"])
def test_rejects_encoding_a_number_out_of_range(field: str) -> None:
    for value in (-1, U64_MAX + 1):
        with pytest.raises(ValueError, match="out of range"):
            encode_transfer(replace(TRANSFER, **one_field(field, value)))


def test_rejects_encoding_a_signature_of_another_length() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        encode_signed(replace(SIGNED, signature=bytes(63)))
