"""How single values stand in JSON: hashes in hex, keys as addresses, u64 as decimal strings.

Each type reads what it writes and refuses every other spelling of the same value.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, StringConstraints, ValidationInfo
from pydantic.functional_validators import BeforeValidator
from pydantic.json_schema import WithJsonSchema

from consensus.address import decode_address, encode_address
from consensus.encoding import U64_MAX
from consensus.errors import RuleViolation

_HASH_PATTERN = "^[0-9a-f]{64}$"
_DECIMAL_PATTERN = "^(0|[1-9][0-9]*)$"
_U64_PATTERN = "^(0|[1-9][0-9]{0,19})$"


def _require_bytes(value: object, length: int) -> bytes:
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else ""
    if len(text) != 2 * length or not set(text) <= set("0123456789abcdef"):
        raise ValueError(f"expected {2 * length} lower-case hex digits")
    return bytes.fromhex(text)


def _require_decimal(value: object, info: ValidationInfo) -> int:
    # Numbers are for our own code; in JSON, readers that know floats alone would round them.
    if isinstance(value, int) and info.mode == "python":
        return value
    text = value if isinstance(value, str) else ""
    is_canonical = text.isascii() and text.isdigit() and len(text) <= 100 and text == str(int(text))
    if not is_canonical:
        raise ValueError("expected an integer as a decimal string")
    return int(text)


def _require_key(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return decode_address(value if isinstance(value, str) else "")
    except RuleViolation as error:
        raise ValueError(error.detail) from None


def _require_u64(value: int) -> int:
    if not 0 <= value <= U64_MAX:
        raise ValueError("expected an unsigned 64-bit integer")
    return value


Hash = Annotated[
    bytes,
    BeforeValidator(lambda value: _require_bytes(value, 32)),
    PlainSerializer(bytes.hex, str),
    WithJsonSchema({"type": "string", "pattern": _HASH_PATTERN}),
]
"""32 bytes as lower-case hex."""

Signature = Annotated[
    bytes,
    BeforeValidator(lambda value: _require_bytes(value, 64)),
    PlainSerializer(bytes.hex, str),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{128}$"}),
]
"""64 bytes as lower-case hex."""

HexBytes = Annotated[
    bytes, PlainSerializer(bytes.hex, str), WithJsonSchema({"type": "string", "pattern": "^([0-9a-f]{2})*$"})
]
"""Canonical bytes as lower-case hex; in answers only."""

U64 = Annotated[
    int,
    BeforeValidator(_require_decimal),
    AfterValidator(_require_u64),
    PlainSerializer(str, str),
    WithJsonSchema({"type": "string", "pattern": _U64_PATTERN}),
]
"""An unsigned 64-bit integer as a decimal string."""

BigInteger = Annotated[
    int, PlainSerializer(str, str), WithJsonSchema({"type": "string", "pattern": _DECIMAL_PATTERN})
]
"""An integer of any size, as a decimal string: chain work passes 64 bits."""

Address = Annotated[
    bytes,
    BeforeValidator(_require_key),
    PlainSerializer(encode_address, str),
    WithJsonSchema({"type": "string", "pattern": "^fz1[02-9ac-hj-np-z]{58}$"}),
]
"""A 32-byte key as a bech32m address."""

Url = Annotated[str, StringConstraints(pattern="^https?://[^/]", max_length=256)]
