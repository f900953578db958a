"""Tagged hashes, packing and the reader."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.encoding import Reader, compute_tagged_hash, pack
from consensus.errors import BadDelivery, Code

LAYOUT = struct.Struct("<H32sQ")


def test_tagged_hash_is_sha256_of_length_tag_and_data() -> None:
    assert compute_tagged_hash("ab", b"c") == hashlib.sha256(b"\x02abc").digest()


def test_a_tag_and_its_data_do_not_run_together() -> None:
    assert compute_tagged_hash("ab", b"c") != compute_tagged_hash("a", b"bc")


@given(st.integers(0, 2**16 - 1), st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1))
def test_what_is_packed_is_read_back(small: int, middle: bytes, large: int) -> None:
    reader = Reader(pack(LAYOUT, small, middle, large))
    assert reader.unpack(LAYOUT) == (small, middle, large)
    reader.finish()


@pytest.mark.parametrize(
    "values",
    [(2**16, bytes(32), 0), (-1, bytes(32), 0), (0, bytes(31), 0), (0, bytes(33), 0), (0, bytes(32), 2**64)],
)
def test_rejects_packing_what_does_not_fit(values: tuple[int, bytes, int]) -> None:
    with pytest.raises(ValueError, match=r"32 bytes|out of range"):
        pack(LAYOUT, *values)


def test_rejects_reading_past_the_end() -> None:
    with pytest.raises(BadDelivery) as caught:
        Reader(bytes(3)).take_u32()
    assert caught.value.code is Code.UNDECODABLE


def test_rejects_bytes_left_over() -> None:
    reader = Reader(bytes(5))
    assert reader.take_u32() == 0
    assert reader.remaining == 1
    with pytest.raises(BadDelivery) as caught:
        reader.finish()
    assert caught.value.code is Code.UNDECODABLE
