"""Every decoder on any bytes: it never crashes, and what it accepts re-encodes to the same bytes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

import consensus
from consensus.block import (
    Block,
    Header,
    Witness,
    decode_block,
    decode_header,
    decode_witness,
    encode_block,
    encode_header,
    encode_witness,
)
from consensus.dataset import (
    DatasetSpec,
    decode_dataset,
    decode_dataset_spec,
    encode_dataset_spec,
    encode_split,
)
from consensus.errors import ConsensusError
from consensus.network import BIAS_BOUND, MULTIPLIER_LIMIT, OFFSET_BOUND, NetworkSpec
from consensus.params import ChainParams, ChainSpec, decode_params, encode_params
from consensus.solution import decode_solution, encode_solution
from consensus.task import Rung, Task, decode_task, encode_task
from consensus.transaction import SignedTransfer, Transfer, decode_signed, encode_signed
from tests.consensus.golden import get_golden

GOLDEN = get_golden()
SPEC = GOLDEN.spec
LAST = GOLDEN.blocks[2]
FROZEN_COUNT = SPEC.task.compute_frozen_count(SPEC.task.rungs[2])
assert LAST.witness is not None


@dataclass(frozen=True)
class Codec:
    """A decoder followed by its encoder, and one valid input."""

    recode: Callable[[bytes], bytes]
    valid: bytes


def recode_dataset(data: bytes) -> bytes:
    """Both splits in one: the train split, then the eval split."""
    size = SPEC.dataset.get_split_bytes("train")
    dataset = decode_dataset(SPEC.dataset, data[:size], data[size:])
    splits = (dataset.train, dataset.eval)
    return b"".join(encode_split(split.labels, split.pixels) for split in splits)


CODECS = {
    "decode_block": Codec(lambda data: encode_block(decode_block(data, SPEC.limits)), encode_block(LAST)),
    "decode_header": Codec(lambda data: encode_header(decode_header(data)), encode_header(LAST.header)),
    "decode_witness": Codec(
        lambda data: encode_witness(decode_witness(data, SPEC.limits)), encode_witness(LAST.witness)
    ),
    "decode_solution": Codec(
        lambda data: encode_solution(decode_solution(SPEC.task.network, FROZEN_COUNT, data)),
        LAST.witness.solution,
    ),
    "decode_signed": Codec(lambda data: encode_signed(decode_signed(data)), encode_signed(LAST.transfers[0])),
    "decode_task": Codec(lambda data: encode_task(decode_task(data)), encode_task(SPEC.task)),
    "decode_params": Codec(lambda data: encode_params(decode_params(data)), SPEC.params_bytes),
    "decode_dataset_spec": Codec(
        lambda data: encode_dataset_spec(decode_dataset_spec(data)), encode_dataset_spec(SPEC.dataset)
    ),
    "decode_dataset": Codec(
        recode_dataset,
        b"".join(encode_split(s.labels, s.pixels) for s in (GOLDEN.dataset.train, GOLDEN.dataset.eval)),
    ),
}
ELSEWHERE = {"decode_address"}
"""Decodes text: tests/consensus/test_address.py has its properties."""

codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())


def refuse_or_recode(codec: Codec, data: bytes) -> None:
    """Any exception but a ConsensusError is a crash."""
    try:
        recoded = codec.recode(data)
    except ConsensusError:
        return
    assert recoded == data


def test_no_decoder_is_left_out() -> None:
    found = set()
    for module in pkgutil.iter_modules(consensus.__path__, "consensus."):
        members = inspect.getmembers(importlib.import_module(module.name), inspect.isfunction)
        found |= {name for name, _ in members if name.startswith("decode_")}
    assert found == set(CODECS) | ELSEWHERE


@codecs
def test_a_valid_object_is_recoded_to_the_same_bytes(codec: Codec) -> None:
    assert codec.recode(codec.valid) == codec.valid


@codecs
@given(data=st.binary(max_size=400))
def test_any_bytes_are_refused_or_recoded(codec: Codec, data: bytes) -> None:
    refuse_or_recode(codec, data)


@codecs
@given(data=st.data())
def test_altered_bytes_are_refused_or_recoded(codec: Codec, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(codec.valid)), "start")
    removed = data.draw(st.sampled_from([0, 1, 2, 4, 8, 32]), "removed")
    inserted = data.draw(st.binary(max_size=8) | st.sampled_from([b"\xff" * 4, b"\xff" * 8]), "inserted")
    refuse_or_recode(codec, codec.valid[:start] + inserted + codec.valid[start + removed :])


@given(st.integers(0, len(SPEC.params_bytes) - 1), st.binary(min_size=1, max_size=4))
def test_altered_parameters_are_refused_or_fix_a_chain(start: int, replacement: bytes) -> None:
    data = SPEC.params_bytes[:start] + replacement + SPEC.params_bytes[start + len(replacement) :]
    with suppress(ConsensusError):
        spec = ChainSpec.build(decode_params(data), SPEC.dataset)
        assert (spec.chain_id == SPEC.chain_id) == (data == SPEC.params_bytes)
        assert spec.limits.max_solution_bytes > 0


@codecs
def test_rejects_every_truncation_and_a_byte_too_many(codec: Codec) -> None:
    step = max(1, len(codec.valid) // 500)
    for data in [*(codec.valid[:size] for size in range(0, len(codec.valid), step)), codec.valid + b"\0"]:
        with pytest.raises(ConsensusError):
            codec.recode(data)


u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
hashes = st.binary(min_size=32, max_size=32)
headers = st.builds(
    Header, u16, st.integers(1, 2**32 - 1), hashes, hashes, u64, hashes, hashes, u64, hashes, u64
)
signed_transfers = st.builds(
    SignedTransfer,
    st.builds(Transfer, u16, hashes, hashes, hashes, u64, u64, u64),
    st.binary(min_size=64, max_size=64),
)
witnesses = st.builds(Witness, u32, u32, st.binary(max_size=100))
tasks = st.builds(
    Task,
    hashes,
    st.builds(NetworkSpec, u16, u16, u16, u16, u16, u16, u16),
    st.lists(st.builds(Rung, u16, u32, u32, u64), max_size=5).map(tuple),
)
chain_params = st.builds(
    ChainParams,
    st.text(st.characters(max_codepoint=127), max_size=255),
    *(u32, u32, u64, u32, u32, u64, u64),
    st.lists(st.tuples(hashes, u64), max_size=4).map(tuple),
    tasks,
)


@given(headers)
def test_headers_make_the_round_trip(header: Header) -> None:
    assert decode_header(encode_header(header)) == header


@given(headers, st.lists(signed_transfers, max_size=4).map(tuple), witnesses)
def test_blocks_make_the_round_trip(
    header: Header, transfers: tuple[SignedTransfer, ...], witness: Witness
) -> None:
    block = Block(header, transfers, witness)
    assert decode_block(encode_block(block), SPEC.limits) == block


@given(tasks)
def test_tasks_make_the_round_trip(task: Task) -> None:
    assert decode_task(encode_task(task)) == task


@given(chain_params)
def test_parameters_make_the_round_trip(params: ChainParams) -> None:
    assert decode_params(encode_params(params)) == params


@given(
    st.builds(
        DatasetSpec,
        *(st.integers(1, 2**16 - 1),) * 3,
        st.integers(2, 256),
        *(st.integers(1, 2**32 - 1),) * 2,
        hashes,
        hashes,
    )
)
def test_dataset_descriptions_make_the_round_trip(spec: DatasetSpec) -> None:
    assert decode_dataset_spec(encode_dataset_spec(spec)) == spec


@given(st.data())
def test_solutions_make_the_round_trip(data: st.DataObject) -> None:
    """Values in range at drawn places of a solution of zeros."""
    network, free = SPEC.task.network, SPEC.task.network.weight_count - FROZEN_COUNT
    raw = bytearray(len(CODECS["decode_solution"].valid))
    raw[data.draw(st.integers(0, free - 1))] = data.draw(u8.filter(lambda byte: byte != 128))
    raw[free : free + 4] = data.draw(st.integers(0, MULTIPLIER_LIMIT - 1)).to_bytes(4, "little")
    start = free + 4 * network.normalised_outputs[0]
    offset = data.draw(st.integers(-OFFSET_BOUND, OFFSET_BOUND))
    raw[start : start + 8] = offset.to_bytes(8, "little", signed=True)
    raw[-4:] = data.draw(st.integers(-BIAS_BOUND, BIAS_BOUND)).to_bytes(4, "little", signed=True)
    solution = decode_solution(network, FROZEN_COUNT, bytes(raw))
    assert int(solution.offsets[0][0]) == offset
    assert encode_solution(solution) == bytes(raw)
