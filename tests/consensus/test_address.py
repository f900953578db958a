"""Addresses against the reference code of BIP 350, and the edges of its canonical form."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.address import decode_address, encode_address
from consensus.errors import Code, RuleViolation

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BECH32, BECH32M = 1, 0x2BC830A3
KEY = bytes(range(32))
ADDRESS = encode_address(KEY)

# Valid bech32m strings of BIP 350.
BIP_350_VALID = (
    "A1LQFN3A",
    "a1lqfn3a",
    "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
    "?1v759aa",
)


def compute_polymod(values: list[int]) -> int:
    """The checksum's remainder as BIP 173 writes it."""
    generators = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(generators):
            checksum ^= generator if top >> i & 1 else 0
    return checksum


def expand(prefix: str) -> list[int]:
    return [ord(x) >> 5 for x in prefix] + [0] + [ord(x) & 31 for x in prefix]


def write_bech32(symbols: list[int], prefix: str = "fz", constant: int = BECH32M) -> str:
    """The string of any symbols under any prefix."""
    remainder = compute_polymod(expand(prefix) + symbols + [0] * 6) ^ constant
    checksum = [remainder >> 5 * (5 - i) & 31 for i in range(6)]
    return f"{prefix}1" + "".join(ALPHABET[symbol] for symbol in symbols + checksum)


def regroup(key: bytes, padding: int = 0) -> list[int]:
    """8 → 5 bits by way of text, with these bits behind the last byte."""
    bits = "".join(f"{byte:08b}" for byte in key) + f"{padding:04b}"
    return [int(bits[i : i + 5], 2) for i in range(0, len(bits), 5)]


def refuse(address: str) -> None:
    with pytest.raises(RuleViolation) as caught:
        decode_address(address)
    assert caught.value.code is Code.BAD_ADDRESS


@pytest.mark.parametrize("text", BIP_350_VALID)
def test_the_reference_here_agrees_with_bip_350(text: str) -> None:
    prefix, _, body = text.lower().rpartition("1")
    assert compute_polymod(expand(prefix) + [ALPHABET.index(symbol) for symbol in body]) == BECH32M


@given(st.binary(min_size=32, max_size=32))
def test_addresses_equal_the_references_and_decode_to_the_key(key: bytes) -> None:
    address = encode_address(key)
    assert address == write_bech32(regroup(key))
    assert decode_address(address) == key


def test_an_address_has_61_characters() -> None:
    assert len(ADDRESS) == 61
    assert ADDRESS.startswith("fz1")


@pytest.mark.parametrize("position", range(3, 61))
def test_rejects_every_substitution(position: int) -> None:
    for symbol in set(ALPHABET) - {ADDRESS[position]}:
        refuse(ADDRESS[:position] + symbol + ADDRESS[position + 1 :])


@pytest.mark.parametrize("position", range(3, 60))
def test_rejects_swapped_neighbours(position: int) -> None:
    swapped = ADDRESS[:position] + ADDRESS[position + 1] + ADDRESS[position] + ADDRESS[position + 2 :]
    if swapped != ADDRESS:
        refuse(swapped)


def test_rejects_other_forms_of_the_same_key() -> None:
    refuse(write_bech32(regroup(KEY), constant=BECH32))
    refuse(write_bech32(regroup(KEY), prefix="fy"))
    refuse(write_bech32([0, *regroup(KEY)]))
    for padding in range(1, 16):
        refuse(write_bech32(regroup(KEY, padding)))


@pytest.mark.parametrize("size", [0, 1, 31, 33])
def test_rejects_a_key_of_another_length(size: int) -> None:
    bits = "".join(f"{byte:08b}" for byte in bytes(size))
    bits += "0" * (-len(bits) % 5)
    refuse(write_bech32([int(bits[i : i + 5], 2) for i in range(0, len(bits), 5)]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fz1",
        "1" + ADDRESS[3:],
        ADDRESS.upper(),
        ADDRESS.capitalize(),
        ADDRESS[:-1] + ADDRESS[-1].upper() if ADDRESS[-1].isalpha() else ADDRESS.title(),
        f" {ADDRESS}",
        f"{ADDRESS}\n",
        ADDRESS[:-1],
        f"{ADDRESS}q",
        ADDRESS[:20] + "1" + ADDRESS[21:],
        ADDRESS[:20] + "b" + ADDRESS[21:],
        ADDRESS[:20] + "é" + ADDRESS[21:],
        ADDRESS[:20] + "\u0000" + ADDRESS[21:],
        ADDRESS.replace("fz", "\uff46\uff5a"),
        *BIP_350_VALID,
    ],
)
def test_rejects_what_is_not_the_canonical_form(text: str) -> None:
    refuse(text)


@given(st.text() | st.text(ALPHABET, min_size=58, max_size=58).map(lambda body: f"fz1{body}"))
def test_any_text_is_refused_or_is_the_address_of_what_it_decodes_to(text: str) -> None:
    with suppress(RuleViolation):
        assert encode_address(decode_address(text)) == text


@pytest.mark.parametrize("size", [0, 31, 33])
def test_rejects_encoding_a_key_of_another_length(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        encode_address(bytes(size))
