"""Transfers, keys, signatures and balances, on blocks whose work is right."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.independent.tiny_chain import (
    ALICE,
    BOB,
    CAROL,
    SETTLED,
    TinyChain,
    build_header,
    build_tiny_chain,
    compute_key,
    mine,
    sign,
    solve,
)
from tools import independent_verifier as verifier
from tools.independent_verifier import FIELD, Account, Block, Due, Refused, Stage, Transfer

ORDER = (1 << 252) + 27742317777372353535851937790883648493
Point = tuple[int, int]


@pytest.fixture
def tiny() -> TinyChain:
    return build_tiny_chain()


def build_transfer(tiny: TinyChain, **changes: Any) -> Transfer:
    """A transfer of Alice's that block 1 can hold, with some fields replaced."""
    fields = Transfer(1, tiny.chain.chain_id, compute_key(ALICE), compute_key(BOB), 10, 1, 0)._asdict()
    return Transfer(**fields | changes)


def expect_first_block(tiny: TinyChain, stage: Stage, *signed: bytes) -> None:
    raw = mine(tiny.chain, tiny.tips[0], 20, signed)
    with pytest.raises(Refused) as caught:
        verifier.check_block(tiny.chain, tiny.tips[0], raw, SETTLED)
    assert caught.value.stage is stage


def test_balances_after_the_tiny_chain(tiny: TinyChain) -> None:
    alice, bob, carol = map(compute_key, (ALICE, BOB, CAROL))
    tip = tiny.tips[-1]
    assert tip.accounts == {
        alice: Account(5_000 - 703 + 1_000, 3),
        carol: Account(0, 1),
        b"\xee" * 32: Account(600, 0),
        b"\x11" * 32: Account(1_001 + 500, 0),
        bob: Account(1_001 + 103 - 1_104, 1),
    }
    assert tip.dues == {4: Due(bob, 500 + 104), 5: Due(b"\x11" * 32, 500)}
    assert tip.work == 2_500 + 1_500 + 1_000 + 1_500 + 1_500


def test_reward_is_spendable_at_maturity_and_not_before(tiny: TinyChain) -> None:
    spend = sign(BOB, Transfer(1, tiny.chain.chain_id, compute_key(BOB), compute_key(ALICE), 1_104, 0, 0))
    early = mine(tiny.chain, tiny.tips[2], 20, [spend])
    with pytest.raises(Refused) as caught:
        verifier.check_block(tiny.chain, tiny.tips[2], early, SETTLED)
    assert caught.value.stage is Stage.LEDGER
    late = mine(tiny.chain, tiny.tips[3], 20, [spend])
    accounts = verifier.check_block(tiny.chain, tiny.tips[3], late, SETTLED).accounts
    assert accounts[compute_key(BOB)] == Account(0, 1)


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"version": 0}, Stage.SIGNATURE),
        ({"version": 2}, Stage.SIGNATURE),
        ({"chain_id": bytes(32)}, Stage.LEDGER),
        ({"nonce": 1}, Stage.LEDGER),
        ({"nonce": (1 << 64) - 1}, Stage.LEDGER),
        ({"amount": 5_000}, Stage.LEDGER),
        ({"amount": (1 << 64) - 1}, Stage.LEDGER),
        ({"fee": (1 << 64) - 1}, Stage.LEDGER),
    ],
    ids=str,
)
def test_rejects_a_signed_transfer_that_breaks_a_rule(
    tiny: TinyChain, changes: dict[str, Any], stage: Stage
) -> None:
    expect_first_block(tiny, stage, sign(ALICE, build_transfer(tiny, **changes)))


def test_rejects_a_transfer_twice(tiny: TinyChain) -> None:
    signed = sign(ALICE, build_transfer(tiny))
    expect_first_block(tiny, Stage.LEDGER, signed, signed)


def test_rejects_a_self_transfer_of_more_than_the_balance(tiny: TinyChain) -> None:
    transfer = build_transfer(tiny, recipient=compute_key(ALICE), amount=5_000, fee=1)
    expect_first_block(tiny, Stage.LEDGER, sign(ALICE, transfer))


def test_rejects_more_transfers_than_a_block_may_hold(tiny: TinyChain) -> None:
    signed = [sign(ALICE, build_transfer(tiny, nonce=nonce)) for nonce in range(5)]
    expect_first_block(tiny, Stage.DECODING, *signed)


def test_rejects_the_last_nonce() -> None:
    key = compute_key(ALICE)
    accounts = {key: Account(100, (1 << 64) - 1)}
    with pytest.raises(Refused, match="last nonce"):
        verifier.apply_transfer(accounts, Transfer(1, bytes(32), key, key, 1, 1, (1 << 64) - 1), bytes(32))
    before = {key: Account(100, (1 << 64) - 2)}
    verifier.apply_transfer(before, Transfer(1, bytes(32), key, key, 1, 1, (1 << 64) - 2), bytes(32))
    assert before == {key: Account(99, (1 << 64) - 1)}


@pytest.mark.parametrize("other", [b"", b"\x07" * 32], ids=["zero", "another"])
def test_rejects_work_that_commits_to_no_witness_of_its_parent(tiny: TinyChain, other: bytes) -> None:
    chain, tip = tiny.chain, tiny.tips[2]
    header = build_header(chain, tip, 20)._replace(parent_witness=other or bytes(32))
    rung = chain.params.task.rungs[verifier.compute_rung(chain, tip, header)]
    raw = Block(header, (), solve(header.encode(), rung, chain.dataset)).encode()
    with pytest.raises(Refused) as caught:
        verifier.check_block(chain, tip, raw, SETTLED)
    assert caught.value.stage is Stage.PARENT_WITNESS


@pytest.mark.parametrize(("seconds", "stage"), [(3, Stage.TIMESTAMP), (36, Stage.FUTURE)])
def test_rejects_a_timestamp_beyond_either_bound(tiny: TinyChain, seconds: int, stage: Stage) -> None:
    now = tiny.tips[0].header.timestamp + 20
    raw = mine(tiny.chain, tiny.tips[0], seconds)
    with pytest.raises(Refused) as caught:
        verifier.check_block(tiny.chain, tiny.tips[0], raw, now)
    assert caught.value.stage is stage


@pytest.mark.parametrize("seconds", [4, 35])
def test_accepts_a_timestamp_at_either_bound(tiny: TinyChain, seconds: int) -> None:
    now = tiny.tips[0].header.timestamp + 20
    verifier.check_block(tiny.chain, tiny.tips[0], mine(tiny.chain, tiny.tips[0], seconds), now)


# ------------------------------------------------------------------------------- keys and signatures


def add(a: Point, b: Point) -> Point:
    """Sum of two points of edwards25519 (RFC 8032 §5.1.4, affine)."""
    product = verifier.EDWARDS_D * a[0] * b[0] * a[1] * b[1] % FIELD
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, FIELD) % FIELD
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, FIELD) % FIELD
    return x, y


def multiply(scalar: int, point: Point) -> Point:
    total = (0, 1)
    for bit in bin(scalar)[2:]:
        total = add(total, total)
        total = add(total, point) if bit == "1" else total
    return total


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decompress(y: int) -> Point:
    point = verifier.decompress(y.to_bytes(32, "little"))
    assert point is not None
    return point


BASE = decompress(4 * pow(5, -1, FIELD) % FIELD)


def find_torsion() -> Point:
    """A point of order eight."""
    for y in range(2, 100):
        point = verifier.decompress(y.to_bytes(32, "little"))
        if point and multiply(4, torsion := multiply(ORDER, point)) != (0, 1):
            return torsion
    raise AssertionError("no point of order eight")


TORSION = find_torsion()


def test_base_point_has_the_known_order_and_public_keys_are_its_multiples() -> None:
    digest = hashlib.sha512(ALICE.private_bytes_raw()).digest()[:32]
    scalar = int.from_bytes(digest, "little") & ((1 << 254) - 8) | 1 << 254
    assert multiply(ORDER, BASE) == (0, 1)
    assert encode(multiply(scalar, BASE)) == compute_key(ALICE)
    assert verifier.is_acceptable_key(compute_key(ALICE))


def test_rejects_every_key_of_small_order() -> None:
    keys = {encode(multiply(at, TORSION)) for at in range(8)}
    assert len(keys) == 8
    assert not any(map(verifier.is_acceptable_key, keys))


def test_rejects_every_encoding_that_is_not_canonical() -> None:
    sign_bit = 1 << 255
    numbers = [FIELD + at for at in range(19)] + [1, FIELD - 1]
    encodings = [(number | sign_bit).to_bytes(32, "little") for number in numbers]
    encodings += [number.to_bytes(32, "little") for number in numbers[:19]]
    assert not any(map(verifier.is_acceptable_key, encodings))


def test_rejects_an_encoding_of_no_point() -> None:
    assert not verifier.is_acceptable_key((2).to_bytes(32, "little"))


def test_accepts_a_key_of_mixed_order_and_checks_it_without_cofactor() -> None:
    secret, nonce = 12_345, 67_890
    key = encode(add(multiply(secret, BASE), TORSION))
    commitment = encode(multiply(nonce, BASE))
    assert verifier.is_acceptable_key(key)
    verdicts = set()
    for at in range(64):
        message = bytes([at])
        k = int.from_bytes(hashlib.sha512(commitment + key + message).digest(), "little") % ORDER
        signature = commitment + ((nonce + k * secret) % ORDER).to_bytes(32, "little")
        # [S]B - [k]A is R less k times the torsion point: equal to R only if eight divides k, reduced by L.
        expected = k % 8 == 0
        assert verifier.is_signature_valid(key, message, signature) == expected
        verdicts.add(expected)
    assert verdicts == {True, False}


def test_rejects_a_signature_whose_scalar_is_not_reduced() -> None:
    signature = ALICE.sign(b"message")
    scalar = int.from_bytes(signature[32:], "little")
    assert verifier.is_signature_valid(compute_key(ALICE), b"message", signature)
    shifted = signature[:32] + (scalar + ORDER).to_bytes(32, "little")
    assert not verifier.is_signature_valid(compute_key(ALICE), b"message", shifted)


def test_accepts_the_vector_of_rfc_8032() -> None:
    signer = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
    key = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    assert compute_key(signer) == key
    assert verifier.is_signature_valid(key, b"\x72", signer.sign(b"\x72"))


# Valid strings of BIP 350, cut into their three parts.
@pytest.mark.parametrize(
    ("hrp", "data", "checksum"),
    [
        ("a", "", "lqfn3a"),
        ("abcdef", "l7aum6echk45nj3s0wdvt2fg8x9yrzpq", "zd3ryx"),
        ("split", "checkupstagehandshakeupstreamerranterredcaperred", "lc445v"),
        ("?", "", "v759aa"),
    ],
)
def test_checksum_is_that_of_bech32m(hrp: str, data: str, checksum: str) -> None:
    symbols = [verifier.BECH32.index(letter) for letter in data]
    found = verifier.compute_bech32m_checksum(hrp, symbols)
    assert "".join(verifier.BECH32[symbol] for symbol in found) == checksum


def test_address_is_the_key_in_five_bit_groups() -> None:
    assert len(verifier.compute_address(bytes(32))) == 61
    assert verifier.compute_address(bytes(32)).startswith("fz1" + 52 * "q")
    assert verifier.compute_address(b"\xff" * 32).startswith("fz1" + 51 * "l" + "s")
    assert verifier.compute_address(b"\x08" + bytes(31)).startswith("fz1p" + 51 * "q")
