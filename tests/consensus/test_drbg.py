"""Hash_DRBG against NIST's CAVP vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from consensus.drbg import HashDrbg

VECTORS = json.loads((Path(__file__).parent / "data" / "hash_drbg_sha256_cavp.json").read_text("utf-8"))


@pytest.mark.parametrize("vector", VECTORS)
def test_cavp_vector(vector: dict[str, str]) -> None:
    """Instantiate, generate, discard, generate, compare."""
    expected = bytes.fromhex(vector["ReturnedBits"])
    inputs = (bytes.fromhex(vector[name]) for name in ("EntropyInput", "Nonce", "PersonalizationString"))
    drbg = HashDrbg(*inputs)
    drbg.generate(len(expected))
    assert drbg.generate(len(expected)) == expected


def test_the_vectors_cover_personalisation() -> None:
    assert len(VECTORS) > 10
    assert any(vector["PersonalizationString"] for vector in VECTORS)


def derive(material: bytes) -> int:
    """Hash_df of §10.3.1 to 440 bits."""
    parts = (hashlib.sha256(bytes([i]) + (440).to_bytes(4, "big") + material).digest() for i in (1, 2))
    return int.from_bytes(b"".join(parts)[:55], "big")


def test_many_requests_equal_the_text_of_the_standard() -> None:
    """CAVP compares the second request; the counter of requests shows from the third on."""
    drbg = HashDrbg(b"entropy", b"nonce", b"text")
    value = derive(b"entropynoncetext")
    constant = derive(b"\x00" + value.to_bytes(55, "big"))
    for requests in range(1, 6):
        counters = (((value + i) % 2**440).to_bytes(55, "big") for i in range(3))
        assert drbg.generate(90) == b"".join(hashlib.sha256(data).digest() for data in counters)[:90]
        mixed = int.from_bytes(hashlib.sha256(b"\x03" + value.to_bytes(55, "big")).digest(), "big")
        value = (value + mixed + constant + requests) % 2**440


def test_a_shorter_request_is_a_prefix_and_advances_alike() -> None:
    short, long = HashDrbg(b"entropy", b"", b""), HashDrbg(b"entropy", b"", b"")
    assert long.generate(100).startswith(short.generate(33))
    assert short.generate(32) == long.generate(32)


@pytest.mark.parametrize("count", [-1, 65_537])
def test_rejects_a_request_out_of_range(count: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        HashDrbg(b"", b"", b"").generate(count)
