"""Ed25519 by the equations of RFC 8032 §5.1, in affine integers: what the tests make vectors with."""

from __future__ import annotations

import hashlib
from functools import cache

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    return x, (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P


def multiply(scalar: int, point: Point) -> Point:
    result = IDENTITY
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def negate(point: Point) -> Point:
    return -point[0] % P, point[1]


def find_xs(y: int) -> list[int]:
    """Every x with (x, y) on the curve -x² + y² = 1 + d·x²·y², smallest first."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    candidates = {root, root * pow(2, (P - 1) // 4, P) % P}
    return sorted({x for c in candidates for x in (c, -c % P) if x * x % P == square})


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


@cache
def get_base() -> Point:
    """B: y = 4/5, x even."""
    y = 4 * pow(5, -1, P) % P
    return next(x for x in find_xs(y) if x % 2 == 0), y


@cache
def get_small_order_points() -> tuple[Point, ...]:
    """All eight points whose order divides 8: multiples of the first L·Q that has order 8."""
    for y in range(2, 100):
        for x in find_xs(y):
            generator = multiply(L, (x, y))
            points = tuple(multiply(k, generator) for k in range(8))
            if len(set(points)) == 8:
                return points
    raise AssertionError("no point of order 8 below y = 100")


def compute_challenge(r: bytes, key: bytes, message: bytes) -> int:
    """k of §5.1.7."""
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L


def sign_with(scalar: int, key: bytes, nonce: int, offset: Point, message: bytes) -> bytes:
    """A signature whose R is [nonce]B moved by `offset`: valid where `offset` is the identity."""
    r = encode(add(multiply(nonce, get_base()), offset))
    s = (nonce + compute_challenge(r, key, message) * scalar) % L
    return r + s.to_bytes(32, "little")
