"""Headers, witnesses and blocks: bytes, ids, and what a decoder refuses."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from consensus.block import (
    HEADER_BYTES,
    Block,
    BlockLimits,
    Header,
    Witness,
    decode_block,
    decode_header,
    decode_witness,
    encode_block,
    encode_header,
    encode_witness,
)
from consensus.encoding import U64_MAX, compute_tagged_hash
from consensus.errors import BadDelivery, Code
from consensus.transaction import encode_signed
from tests.consensus.golden import get_golden, one_field

HEADER = Header(
    version=1,
    height=2,
    parent=b"\x03" * 32,
    parent_witness=b"\x04" * 32,
    timestamp=5,
    transactions_root=b"\x06" * 32,
    miner=b"\x07" * 32,
    difficulty=8,
    task_id=b"\x09" * 32,
    nonce=U64_MAX,
)
WITNESS = Witness(10, 11, b"solution")
LIMITS = BlockLimits(max_transactions=2, max_solution_bytes=8)
TRANSFERS = get_golden().blocks[2].transfers[:2]
BLOCK = Block(HEADER, TRANSFERS, WITNESS)
RAW = encode_block(BLOCK)


def get_code(data: bytes, limits: BlockLimits = LIMITS) -> Code:
    """The code with which a block is refused."""
    with pytest.raises(BadDelivery) as caught:
        decode_block(data, limits)
    return caught.value.code


def test_the_layout_is_the_texts() -> None:
    header = struct.pack("<HI", 1, 2) + b"\x03" * 32 + b"\x04" * 32 + struct.pack("<Q", 5) + b"\x06" * 32
    header += b"\x07" * 32 + struct.pack("<Q", 8) + b"\x09" * 32 + struct.pack("<Q", U64_MAX)
    witness = struct.pack("<III", 10, 11, 8) + b"solution"
    transfers = b"".join(encode_signed(signed) for signed in TRANSFERS)
    assert (encode_header(HEADER), len(header)) == (header, HEADER_BYTES)
    assert HEADER_BYTES == 190
    assert encode_witness(WITNESS) == witness
    assert header + struct.pack("<I", 2) + transfers + witness == RAW
    assert len(RAW) == LIMITS.max_block_bytes


def test_ids_have_their_own_tags() -> None:
    assert HEADER.block_id == compute_tagged_hash("FreezeNet/1/block", encode_header(HEADER))
    assert WITNESS.witness_id == compute_tagged_hash("FreezeNet/1/witness", encode_witness(WITNESS))


def test_decoding_gives_back_what_was_encoded() -> None:
    assert decode_block(RAW, LIMITS) == BLOCK
    assert decode_header(RAW[:190]) == HEADER
    assert decode_witness(encode_witness(WITNESS), LIMITS) == WITNESS


def test_the_golden_chain_decodes_within_its_limits() -> None:
    golden = get_golden()
    for block in golden.blocks:
        assert decode_block(encode_block(block), golden.spec.limits) == block


def test_the_genesis_block_ends_after_its_count() -> None:
    genesis = get_golden().spec.genesis_block
    raw = encode_block(genesis)
    assert len(raw) == 194
    assert decode_block(raw, LIMITS) == genesis
    assert get_code(raw + b"\0") is Code.UNDECODABLE
    assert get_code(raw + encode_witness(WITNESS)) is Code.UNDECODABLE
    assert get_code(raw[:190] + b"\1\0\0\0" + encode_signed(TRANSFERS[0])) is Code.UNDECODABLE


@pytest.mark.parametrize("size", [0, 1, 189, 190, 193, 194, 195, 194 + 186, 194 + 2 * 186 + 11, len(RAW) - 1])
def test_rejects_a_block_cut_short(size: int) -> None:
    assert get_code(RAW[:size]) is Code.UNDECODABLE


def test_rejects_a_byte_behind_the_witness() -> None:
    assert get_code(RAW + b"\0") is Code.UNDECODABLE


@pytest.mark.parametrize("count", [3, 2**31, 2**32 - 1])
def test_rejects_more_transfers_than_the_chain_allows(count: int) -> None:
    assert get_code(RAW[:190] + struct.pack("<I", count) + RAW[194:]) is Code.TOO_LARGE
    assert get_code(RAW[:190] + struct.pack("<I", count)) is Code.TOO_LARGE


@pytest.mark.parametrize("count", [0, 1])
def test_rejects_a_count_that_is_not_the_transfers(count: int) -> None:
    assert get_code(RAW[:190] + struct.pack("<I", count) + RAW[194:]) in (Code.UNDECODABLE, Code.TOO_LARGE)


@pytest.mark.parametrize("length", [9, 2**31, 2**32 - 1])
def test_rejects_a_solution_longer_than_the_longest(length: int) -> None:
    position = len(RAW) - 12
    assert get_code(RAW[:position] + struct.pack("<I", length) + RAW[position + 4 :]) is Code.TOO_LARGE
    with pytest.raises(BadDelivery) as caught:
        decode_witness(encode_witness(replace(WITNESS, solution=bytes(9))), LIMITS)
    assert caught.value.code is Code.TOO_LARGE


@pytest.mark.parametrize("length", [0, 7])
def test_rejects_a_length_that_is_not_what_remains(length: int) -> None:
    position = len(RAW) - 12
    assert get_code(RAW[:position] + struct.pack("<I", length) + RAW[position + 4 :]) is Code.UNDECODABLE


@pytest.mark.parametrize("change", [-1, 1])
def test_rejects_a_header_of_another_length(change: int) -> None:
    with pytest.raises(BadDelivery) as caught:
        decode_header(RAW[: 190 + change])
    assert caught.value.code is Code.UNDECODABLE


@pytest.mark.parametrize("field", ["parent", "parent_witness", "transactions_root", "miner", "task_id"])
def test_rejects_encoding_a_hash_of_another_length(field: str) -> None:
    for size in (31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            encode_header(replace(HEADER, **one_field(field, bytes(size))))


@pytest.mark.parametrize("field", ["version", "height", "timestamp", "difficulty", "nonce"])
def test_rejects_encoding_a_number_out_of_range(field: str) -> None:
    for value in (-1, U64_MAX + 1):
        with pytest.raises(ValueError, match="out of range"):
            encode_header(replace(HEADER, **one_field(field, value)))


@pytest.mark.parametrize(
    "block",
    [
        replace(BLOCK, witness=None),
        replace(BLOCK, header=replace(HEADER, height=0)),
        Block(replace(HEADER, height=0), (), WITNESS),
        Block(replace(HEADER, height=0), TRANSFERS, None),
    ],
)
def test_rejects_encoding_a_block_whose_height_does_not_allow_what_it_holds(block: Block) -> None:
    with pytest.raises(ValueError, match="height 0"):
        encode_block(block)
