"""Ed25519 by the cryptography package, behind the key rules that consensus.keys owns.

The package's verification is RFC 8032 §5.1.7 without cofactor: it encodes [S]B - [k]A and compares it with R
byte for byte. It takes keys of small order, so callers run `consensus.keys.check_sender_key` first.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def verify_signature(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether signature[64] of `message` verifies under key[32]; False for any malformed input."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def sign(seed: bytes, message: bytes) -> bytes:
    """The 64-byte signature of `message` by the private key of a 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def compute_public_key(seed: bytes) -> bytes:
    """The 32-byte public key of a 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
