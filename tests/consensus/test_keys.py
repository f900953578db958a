"""Sender keys and signatures: RFC 8032's vectors, and every key and signature that libraries disagree on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.signatures import compute_public_key, sign, verify_signature
from consensus.errors import Code, RuleViolation
from consensus.keys import GROUP_ORDER, check_sender_key, is_canonical_scalar
from consensus.transaction import SignedTransfer, Transfer, check_transfer_form, compute_signing_hash
from tests.consensus import edwards
from tests.consensus.golden import one_field

# Seed, public key, message and signature of RFC 8032 §7.1, tests 1 to 3.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5"
        "f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2e"
        "aeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15"
        "e9716ed28dc027beceea1ec40a",
    ),
]
SMALL_ORDER = [edwards.encode(point) for point in edwards.get_small_order_points()]
NEVER_CANONICAL = [
    # y from p to 2^255 - 1, with either sign; and x = 0 with the sign of an odd x.
    *((edwards.P + y | sign_bit << 255).to_bytes(32, "little") for y in range(19) for sign_bit in (0, 1)),
    *((y | 1 << 255).to_bytes(32, "little") for y in (1, edwards.P - 1)),
]
# R is the identity and S is 0: [S]B - [k]A is the identity too wherever A has an order that divides k.
FIXED_SIGNATURE = edwards.encode(edwards.IDENTITY) + bytes(32)


def build_transfer(sender: bytes) -> Transfer:
    return Transfer(1, bytes(32), sender, bytes(32), amount=5, fee=1, nonce=0)


def get_code(sender: bytes, signature: bytes) -> Code:
    """The code with which a transfer is refused."""
    with pytest.raises(RuleViolation) as caught:
        check_transfer_form(SignedTransfer(build_transfer(sender), signature), verify_signature)
    return caught.value.code


@pytest.mark.parametrize(("seed", "key", "message", "signature"), RFC_8032)
def test_rfc_8032_vector(seed: str, key: str, message: str, signature: str) -> None:
    assert compute_public_key(bytes.fromhex(seed)).hex() == key
    assert sign(bytes.fromhex(seed), bytes.fromhex(message)).hex() == signature
    assert verify_signature(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))
    assert is_canonical_scalar(bytes.fromhex(signature))
    check_sender_key(bytes.fromhex(key))


@given(st.binary(min_size=32, max_size=32))
def test_accepts_every_honest_key(seed: bytes) -> None:
    check_sender_key(compute_public_key(seed))


def test_the_curve_of_the_tests_is_ed25519() -> None:
    assert edwards.encode(edwards.get_base()) == b"\x58" + b"\x66" * 31
    assert edwards.multiply(edwards.L, edwards.get_base()) == edwards.IDENTITY
    assert edwards.L == GROUP_ORDER
    assert len(set(SMALL_ORDER)) == 8


@pytest.mark.parametrize("key", SMALL_ORDER + NEVER_CANONICAL)
def test_rejects_a_key_of_small_order_or_not_canonical(key: bytes) -> None:
    assert get_code(key, FIXED_SIGNATURE) is Code.BAD_SENDER_KEY


def test_the_library_alone_would_take_one_signature_for_any_message() -> None:
    """Why these keys are refused before the library sees them."""
    messages = [bytes([i]) * 32 for i in range(32)]
    identity = edwards.encode(edwards.IDENTITY)
    assert all(verify_signature(identity, message, FIXED_SIGNATURE) for message in messages)
    for key in SMALL_ORDER:
        assert any(verify_signature(key, message, FIXED_SIGNATURE) for message in messages)
    assert any(verify_signature(key, messages[0], FIXED_SIGNATURE) for key in NEVER_CANONICAL)


@given(st.integers(2, edwards.P - 2), st.booleans())
def test_a_key_is_accepted_exactly_if_its_y_is_on_the_curve(y: int, is_odd: bool) -> None:
    key = (y | is_odd << 255).to_bytes(32, "little")
    if edwards.find_xs(y) and key not in SMALL_ORDER:
        check_sender_key(key)
    else:
        assert get_code(key, FIXED_SIGNATURE) is Code.BAD_SENDER_KEY


@pytest.mark.parametrize("size", [0, 31, 33])
def test_rejects_a_key_of_another_length(size: int) -> None:
    with pytest.raises(RuleViolation) as caught:
        check_sender_key(bytes(size))
    assert caught.value.code is Code.BAD_SENDER_KEY


SCALAR, NONCE = 0x1234567, 0x7654321
KEY = edwards.encode(edwards.multiply(SCALAR, edwards.get_base()))
MESSAGE = compute_signing_hash(build_transfer(KEY))
SIGNATURE = edwards.sign_with(SCALAR, KEY, NONCE, edwards.IDENTITY, MESSAGE)


def test_accepts_a_signature_made_by_arithmetic() -> None:
    check_transfer_form(SignedTransfer(build_transfer(KEY), SIGNATURE), verify_signature)


@pytest.mark.parametrize("times", [1, 2, 8])
def test_rejects_a_signature_whose_s_is_not_below_the_groups_order(times: int) -> None:
    s = int.from_bytes(SIGNATURE[32:], "little") + times * edwards.L
    assert get_code(KEY, SIGNATURE[:32] + s.to_bytes(32, "little")) is Code.BAD_SIGNATURE


def test_rejects_an_s_out_of_range_even_where_the_library_does_not() -> None:
    signed = SignedTransfer(build_transfer(KEY), SIGNATURE[:32] + edwards.L.to_bytes(32, "little"))
    with pytest.raises(RuleViolation) as caught:
        check_transfer_form(signed, lambda *_: True)
    assert caught.value.code is Code.BAD_SIGNATURE


@pytest.mark.parametrize("offset", edwards.get_small_order_points()[1:])
def test_rejects_a_signature_that_holds_only_with_the_cofactor(offset: edwards.Point) -> None:
    signature = edwards.sign_with(SCALAR, KEY, NONCE, offset, MESSAGE)
    challenge = edwards.compute_challenge(signature[:32], KEY, MESSAGE)
    key_part = edwards.multiply(challenge * SCALAR % edwards.L, edwards.get_base())
    s_part = edwards.multiply(int.from_bytes(signature[32:], "little"), edwards.get_base())
    moved = edwards.add(s_part, edwards.negate(key_part))
    expected = edwards.add(edwards.multiply(NONCE, edwards.get_base()), offset)
    assert moved != expected
    assert edwards.multiply(8, moved) == edwards.multiply(8, expected)
    assert get_code(KEY, signature) is Code.BAD_SIGNATURE


def test_a_key_with_a_part_of_small_order_is_judged_without_the_cofactor() -> None:
    """Of large order, so it may send; its signature holds exactly where k times that part vanishes."""
    torsion = edwards.get_small_order_points()[1]
    key = edwards.encode(edwards.add(edwards.multiply(SCALAR, edwards.get_base()), torsion))
    verdicts = set()
    for nonce in range(1, 40):
        message = compute_signing_hash(build_transfer(key))
        signature = edwards.sign_with(SCALAR, key, nonce, edwards.IDENTITY, message)
        holds = edwards.compute_challenge(signature[:32], key, message) % 8 == 0
        verdicts.add(holds)
        if holds:
            check_transfer_form(SignedTransfer(build_transfer(key), signature), verify_signature)
        else:
            assert get_code(key, signature) is Code.BAD_SIGNATURE
    assert verdicts == {True, False}


@pytest.mark.parametrize("position", [0, 31, 32, 63])
def test_rejects_a_signature_with_a_flipped_bit(position: int) -> None:
    altered = bytearray(SIGNATURE)
    altered[position] ^= 1
    assert get_code(KEY, bytes(altered)) is Code.BAD_SIGNATURE


@pytest.mark.parametrize("field", ["chain_id", "recipient", "amount", "fee", "nonce"])
def test_a_signature_covers_every_field(field: str) -> None:
    transfer = build_transfer(KEY)
    value = b"\x01" * 32 if field in ("chain_id", "recipient") else getattr(transfer, field) + 1
    with pytest.raises(RuleViolation) as caught:
        check_transfer_form(
            SignedTransfer(replace(transfer, **one_field(field, value)), SIGNATURE), verify_signature
        )
    assert caught.value.code is Code.BAD_SIGNATURE
