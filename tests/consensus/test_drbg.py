"""Hash_DRBG against NIST's CAVP vectors."""

from __future__ import annotations

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


def test_a_shorter_request_is_a_prefix_and_advances_alike() -> None:
    short, long = HashDrbg(b"entropy", b"", b""), HashDrbg(b"entropy", b"", b"")
    assert long.generate(100).startswith(short.generate(33))
    assert short.generate(32) == long.generate(32)


@pytest.mark.parametrize("count", [-1, 65_537])
def test_rejects_a_request_out_of_range(count: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        HashDrbg(b"", b"", b"").generate(count)
