"""Hash_DRBG with SHA-256 (NIST SP 800-90A Rev. 1, §10.1.1), without reseeding or additional input."""

from __future__ import annotations

import hashlib

_SEED_BYTES = 55
_MODULUS = 1 << (8 * _SEED_BYTES)


class HashDrbg:
    """One instantiation; `generate` advances it.

    At most 65,536 bytes a request (SP 800-90A table 2), and 2^48 requests, which no watermark comes near.
    """

    __slots__ = ("_constant", "_requests", "_value")

    def __init__(self, entropy: bytes, nonce: bytes, personalisation: bytes) -> None:
        seed = _derive(entropy + nonce + personalisation)
        self._value = int.from_bytes(seed, "big")
        self._constant = int.from_bytes(_derive(b"\x00" + seed), "big")
        self._requests = 1

    def generate(self, count: int) -> bytes:
        """The next `count` bytes as one request. Raises ValueError above 65,536."""
        if not 0 <= count <= 65_536:
            raise ValueError(f"a request of {count} bytes is outside 0..65536")
        sha256, value, modulus = hashlib.sha256, self._value, _MODULUS
        blocks = [
            sha256(((value + i) % modulus).to_bytes(_SEED_BYTES, "big")).digest()
            for i in range(-(-count // 32))
        ]
        mixed = int.from_bytes(sha256(b"\x03" + value.to_bytes(_SEED_BYTES, "big")).digest(), "big")
        self._value = (value + mixed + self._constant + self._requests) % modulus
        self._requests += 1
        return b"".join(blocks)[:count]


def _derive(material: bytes) -> bytes:
    """Hash_df of §10.3.1 for 440 bits: two blocks of SHA-256(counter ‖ bits wanted ‖ material)."""
    bits = (8 * _SEED_BYTES).to_bytes(4, "big")
    blocks = [hashlib.sha256(bytes([counter]) + bits + material).digest() for counter in (1, 2)]
    return b"".join(blocks)[:_SEED_BYTES]
