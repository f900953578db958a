"""The watermark against the words of §5, written out without speed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.drbg import HashDrbg
from consensus.watermark import compute_watermark_seed, derive_indices, derive_watermark, select_smallest

TAG = b"FreezeNet/1/watermark"


def derive_slowly(header: bytes, weights: int, frozen_count: int) -> tuple[list[int], list[int]]:
    """Frozen indices and their values."""
    seed = hashlib.sha256(bytes([len(TAG)]) + TAG + header).digest()
    drbg = HashDrbg(seed, b"", TAG)
    stream = b"".join(drbg.generate(65_536) for _ in range((5 * weights) // 65_536 + 2))
    keys = [int.from_bytes(stream[4 * i : 4 * i + 4], "little") for i in range(weights)]
    smallest = sorted((key, index) for index, key in enumerate(keys))[:frozen_count]
    values = [byte - 127 for byte in stream[4 * weights :] if byte != 255]
    return sorted(index for _, index in smallest), values[:frozen_count]


# 16,384 keys fill one request to its last byte; 13,200 leave some of it to the values, but not enough.
@pytest.mark.parametrize("weights", [1, 25, 1_031, 13_200, 16_383, 16_384, 16_385, 25_104])
@pytest.mark.parametrize("per_10000", [0, 1_000, 9_990, 10_000])
def test_derivation_equals_the_text(weights: int, per_10000: int) -> None:
    header = b"header of %d" % weights
    frozen_count = weights * per_10000 // 10_000
    watermark = derive_watermark(header, weights, frozen_count)
    indices, values = derive_slowly(header, weights, frozen_count)
    assert watermark.indices.tolist() == indices
    assert watermark.values.tolist() == values
    assert int(watermark.frozen_mask.sum()) == frozen_count
    assert derive_indices(header, weights, frozen_count).tolist() == indices


@given(st.lists(st.integers(0, 3) | st.sampled_from([2**31, 2**32 - 1]), min_size=1, max_size=60), st.data())
def test_equal_keys_go_by_their_index(keys: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(keys)))
    expected = sorted(index for _, index in sorted((key, index) for index, key in enumerate(keys))[:count])
    assert select_smallest(np.array(keys, np.uint32), count).tolist() == expected


def test_values_span_the_grid_and_are_never_minus_128() -> None:
    values = derive_watermark(b"", 25_104, 25_000).values
    assert values.dtype == np.int8
    assert set(values.tolist()) == set(range(-127, 128))


def test_every_bit_of_the_header_matters() -> None:
    seeds = {compute_watermark_seed((1 << bit).to_bytes(190, "little")) for bit in range(8 * 190)}
    assert len(seeds) == 8 * 190


def test_assembled_weights_are_frozen_where_marked_and_free_elsewhere() -> None:
    watermark = derive_watermark(b"", 1_000, 300)
    free = np.arange(700).astype(np.int8)
    weights = watermark.assemble(free)
    assert np.array_equal(weights[watermark.indices], watermark.values)
    assert np.array_equal(weights[~watermark.frozen_mask], free)
