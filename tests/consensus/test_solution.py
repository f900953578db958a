"""Solutions: their bytes, and every value that is out of range."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest

from consensus.errors import BadDelivery, Code
from consensus.network import NetworkSpec
from consensus.solution import (
    Solution,
    assemble_network,
    compute_solution_bytes,
    decode_solution,
    encode_solution,
    extract_solution,
)
from consensus.watermark import derive_watermark

SPEC = NetworkSpec(c=1, h=2, w=2, classes=2, blocks=1, filters=2, hidden=3)
"""54 + 6 + 6 = 66 weights, of which 40 are frozen: 26 free ones, then 7 pairs of M and B, then 2 biases."""
FROZEN_COUNT = 40
FREE = 26
LAYERS = (2, 2, 3)
FIRST_M, FIRST_B = FREE, FREE + 4 * 2
LAST_B = FREE + 12 * 7 - 8
BIAS = FREE + 12 * 7


def build_solution() -> Solution:
    """Distinct small values everywhere."""
    return Solution(
        free=np.arange(-13, 13).astype(np.int8),
        multipliers=tuple(np.arange(size, dtype=np.uint32) + 1_000 for size in LAYERS),
        offsets=tuple(np.arange(size, dtype=np.int64) - 2_000 for size in LAYERS),
        bias=np.array([-5, 6], np.int32),
    )


def patch(layout: str, position: int, value: int) -> bytes:
    """The valid bytes with one value replaced."""
    data = bytearray(encode_solution(build_solution()))
    struct.pack_into(layout, data, position, value)
    return bytes(data)


def test_the_layout_is_the_texts() -> None:
    data = encode_solution(build_solution())
    expected = struct.pack("<26b", *range(-13, 13))
    for size in LAYERS:
        expected += struct.pack(f"<{size}I", *range(1_000, 1_000 + size))
        expected += struct.pack(f"<{size}q", *range(-2_000, -2_000 + size))
    assert data == expected + struct.pack("<2i", -5, 6)
    assert len(data) == compute_solution_bytes(SPEC, FROZEN_COUNT)
    assert encode_solution(decode_solution(SPEC, FROZEN_COUNT, data)) == data


AT_THE_BOUNDS = [
    ("<b", 0, -127),
    ("<b", FREE - 1, 127),
    ("<I", FIRST_M, 0),
    ("<I", FIRST_M, 2**24 - 1),
    ("<q", FIRST_B, -(2**52)),
    ("<q", LAST_B, 2**52),
    ("<i", BIAS, -(2**30)),
    ("<i", BIAS + 4, 2**30),
]


@pytest.mark.parametrize(("layout", "position", "value"), AT_THE_BOUNDS)
def test_accepts_values_at_their_bounds(layout: str, position: int, value: int) -> None:
    data = patch(layout, position, value)
    assert encode_solution(decode_solution(SPEC, FROZEN_COUNT, data)) == data


OUT_OF_RANGE = [
    ("<b", 0, -128, Code.WEIGHT_OUT_OF_RANGE),
    ("<b", FREE - 1, -128, Code.WEIGHT_OUT_OF_RANGE),
    ("<I", FIRST_M, 2**24, Code.MULTIPLIER_OUT_OF_RANGE),
    ("<I", LAST_B - 2 * 8 - 4, 2**32 - 1, Code.MULTIPLIER_OUT_OF_RANGE),
    ("<q", FIRST_B, 2**52 + 1, Code.OFFSET_OUT_OF_RANGE),
    ("<q", FIRST_B, -(2**52) - 1, Code.OFFSET_OUT_OF_RANGE),
    ("<q", LAST_B, -(2**63), Code.OFFSET_OUT_OF_RANGE),
    ("<q", LAST_B, 2**63 - 1, Code.OFFSET_OUT_OF_RANGE),
    ("<i", BIAS, 2**30 + 1, Code.BIAS_OUT_OF_RANGE),
    ("<i", BIAS, -(2**30) - 1, Code.BIAS_OUT_OF_RANGE),
    ("<i", BIAS + 4, -(2**31), Code.BIAS_OUT_OF_RANGE),
]


@pytest.mark.parametrize(("layout", "position", "value", "code"), OUT_OF_RANGE)
def test_rejects_a_value_out_of_range(layout: str, position: int, value: int, code: Code) -> None:
    with pytest.raises(BadDelivery) as caught:
        decode_solution(SPEC, FROZEN_COUNT, patch(layout, position, value))
    assert caught.value.code is code


@pytest.mark.parametrize("change", [-120, -12, -1, 1, 4])
def test_rejects_another_length(change: int) -> None:
    data = encode_solution(build_solution())
    data = data[:change] if change < 0 else data + bytes(change)
    with pytest.raises(BadDelivery) as caught:
        decode_solution(SPEC, FROZEN_COUNT, data)
    assert caught.value.code is Code.SOLUTION_LENGTH


def test_a_network_is_its_watermark_and_its_solution() -> None:
    watermark = derive_watermark(b"header", SPEC.weight_count, FROZEN_COUNT)
    network = assemble_network(SPEC, watermark, build_solution())
    assert np.array_equal(network.weights[watermark.indices], watermark.values)
    assert encode_solution(extract_solution(network, watermark)) == encode_solution(build_solution())


def test_rejects_extracting_from_a_network_that_lost_its_watermark() -> None:
    watermark = derive_watermark(b"header", SPEC.weight_count, FROZEN_COUNT)
    network = assemble_network(SPEC, watermark, build_solution())
    weights = network.weights.copy()
    weights[watermark.indices[-1]] ^= 1
    with pytest.raises(ValueError, match="frozen weight"):
        extract_solution(replace(network, weights=weights), watermark)


def test_rejects_encoding_arrays_of_wider_types() -> None:
    with pytest.raises(TypeError):
        encode_solution(replace(build_solution(), free=np.zeros(FREE, np.int64)))
