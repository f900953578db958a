"""Which Ed25519 keys may send (protocol §7; RFC 8032 §5.1.3), and the seam that checks signatures.

Libraries disagree on keys of small order and on non-canonical encodings, so these are refused before any
library sees them. The signature equation itself is the caller's `VerifySignature`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from consensus.errors import Code, RuleViolation

VerifySignature = Callable[[bytes, bytes, bytes], bool]
"""(key[32], message, signature[64]) → whether the signature verifies by RFC 8032 §5.1.7 without cofactor."""

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)

Point = tuple[int, int]


def check_sender_key(key: bytes) -> None:
    """Raises RuleViolation(BAD_SENDER_KEY) for a key not canonical, off the curve or of small order."""
    if not _is_sender_key(key):
        raise RuleViolation(Code.BAD_SENDER_KEY, key.hex())


def is_canonical_scalar(signature: bytes) -> bool:
    """Whether the S of a signature[64] is below the group's order."""
    return int.from_bytes(signature[32:], "little") < GROUP_ORDER


@lru_cache(maxsize=4096)
def _is_sender_key(key: bytes) -> bool:
    point = _decompress(key)
    if point is None:
        return False
    for _ in range(3):
        point = _double(point)
    return point != (0, 1)


def _decompress(key: bytes) -> Point | None:
    """The point of RFC 8032 §5.1.3, or None where y is not canonical, not on the curve, or -0."""
    encoded = int.from_bytes(key, "little")
    sign, y = encoded >> 255, encoded & (1 << 255) - 1
    if len(key) != 32 or y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if v * x * x % _P == -u % _P:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if v * x * x % _P != u or (x == 0 and sign):
        return None
    return (_P - x if x & 1 != sign else x), y


def _double(point: Point) -> Point:
    x, y = point
    product = _D * x * x * y * y % _P
    return (
        2 * x * y * pow(1 + product, -1, _P) % _P,
        (y * y + x * x) * pow(1 - product, -1, _P) % _P,
    )
