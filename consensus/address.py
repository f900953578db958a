"""Addresses: the bech32m form (BIP 350) of a 32-byte key, hrp "fz", no version symbol (protocol §7)."""

from __future__ import annotations

from consensus.errors import Code, RuleViolation

_HRP = "fz"
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CHECKSUM_CONSTANT = 0x2BC830A3
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_KEY_BITS = 256
_SYMBOLS = 52
"""ceil(256 / 5) symbols for the key, the last four bits of the last being zero."""


def encode_address(key: bytes) -> str:
    """The address of a 32-byte key."""
    if len(key) != 32:
        raise ValueError(f"a key has 32 bytes, not {len(key)}")
    padded = int.from_bytes(key, "big") << (5 * _SYMBOLS - _KEY_BITS)
    symbols = [padded >> 5 * place & 31 for place in reversed(range(_SYMBOLS))]
    return f"{_HRP}1" + "".join(_ALPHABET[s] for s in symbols + _compute_checksum(symbols))


def decode_address(address: str) -> bytes:
    """The 32-byte key of an address.

    Raises RuleViolation(BAD_ADDRESS) for all but the lower-case canonical form.
    """
    prefix, body = address[: len(_HRP) + 1], address[len(_HRP) + 1 :]
    if prefix != f"{_HRP}1" or len(body) != _SYMBOLS + 6:
        raise RuleViolation(Code.BAD_ADDRESS, f"not {_HRP}1 and {_SYMBOLS + 6} symbols")
    symbols = [_ALPHABET.find(symbol) for symbol in body]
    if -1 in symbols:
        raise RuleViolation(Code.BAD_ADDRESS, "a character outside the bech32 alphabet")
    if _compute_checksum(symbols[:_SYMBOLS]) != symbols[_SYMBOLS:]:
        raise RuleViolation(Code.BAD_ADDRESS, "the checksum does not match")
    value = 0
    for symbol in symbols[:_SYMBOLS]:
        value = value << 5 | symbol
    padding = 5 * _SYMBOLS - _KEY_BITS
    if value & (1 << padding) - 1:
        raise RuleViolation(Code.BAD_ADDRESS, "the padding is not zero")
    return (value >> padding).to_bytes(32, "big")


def _compute_checksum(symbols: list[int]) -> list[int]:
    expanded = [ord(c) >> 5 for c in _HRP] + [0] + [ord(c) & 31 for c in _HRP]
    remainder = 1
    for symbol in expanded + symbols + [0] * 6:
        top, remainder = remainder >> 25, (remainder & 0x1FFFFFF) << 5 ^ symbol
        for bit, generator in enumerate(_GENERATORS):
            if top >> bit & 1:
                remainder ^= generator
    return [(remainder ^ _CHECKSUM_CONSTANT) >> 5 * place & 31 for place in reversed(range(6))]
