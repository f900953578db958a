"""Canonical bytes: tagged hashes and a reader that refuses whatever is short, long or out of range.

Conventions of docs/protocol.md: integers little-endian and unsigned unless said otherwise.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from consensus.errors import BadDelivery, Code

Hash32 = bytes
Height = int

ZERO_HASH: Hash32 = bytes(32)
U16_MAX = 2**16 - 1
U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1


def compute_tagged_hash(tag: str, data: bytes) -> Hash32:
    """H(tag, data) = SHA-256(len(tag) as u8 ‖ tag in ASCII ‖ data)."""
    name = tag.encode("ascii")
    return hashlib.sha256(bytes([len(name)]) + name + data).digest()


def pack(layout: struct.Struct, *values: Any) -> bytes:
    """The bytes of `values`. Raises ValueError if one does not fit its field.

    Every field of bytes in a fixed layout is a hash or a key: struct itself would cut or fill a wrong one.
    """
    if any(isinstance(value, bytes) and len(value) != 32 for value in values):
        raise ValueError("a hash or key does not have 32 bytes")
    try:
        return layout.pack(*values)
    except struct.error as error:
        raise ValueError(f"a field is out of range: {error}") from None


class Reader:
    """A cursor over received bytes that never reads past the end: it raises BadDelivery(UNDECODABLE)."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._position

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > self.remaining:
            raise BadDelivery(Code.UNDECODABLE, f"{count} bytes wanted, {self.remaining} left")
        start, self._position = self._position, self._position + count
        return self._data[start : self._position]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next fields of a fixed layout."""
        return layout.unpack(self.take(layout.size))

    def take_u32(self) -> int:
        """The next u32."""
        return int.from_bytes(self.take(4), "little")

    def finish(self) -> None:
        """Raises BadDelivery(UNDECODABLE) unless every byte was read."""
        if self.remaining:
            raise BadDelivery(Code.UNDECODABLE, f"{self.remaining} bytes too many")
