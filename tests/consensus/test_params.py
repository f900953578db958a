"""Chain parameters, genesis, and the bundle of what is fixed for one chain."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import Any

import pytest

from consensus.block import encode_block, encode_header
from consensus.encoding import compute_tagged_hash
from consensus.errors import BadDelivery, Code, RuleViolation
from consensus.ledger import Account
from consensus.params import ChainSpec, check_params, decode_params, encode_params
from consensus.task import encode_task
from node.dev_chain import ALICE, GENESIS_TIMESTAMP
from tests.consensus.golden import get_golden

SPEC = get_golden().spec
PARAMS = SPEC.params
KEYS = (bytes(32), b"\x00" * 31 + b"\x01", b"\x01" + bytes(31), b"\xff" * 32)


def test_the_layout_is_the_texts() -> None:
    task = encode_task(PARAMS.task)
    expected = struct.pack("<HB", 1, 8) + b"golden-1"
    expected += struct.pack("<IIQIIQQ", 20, 3, 1_001, 2, 4, GENESIS_TIMESTAMP, 2_600)
    expected += struct.pack("<I32sQ", 1, ALICE.public, 5_000) + struct.pack("<I", len(task)) + task
    assert encode_params(PARAMS) == expected == SPEC.params_bytes
    assert decode_params(expected) == PARAMS


def test_genesis_is_the_texts_and_commits_to_every_rule() -> None:
    expected = struct.pack("<HI", 1, 0) + compute_tagged_hash("FreezeNet/1/params", SPEC.params_bytes)
    expected += bytes(32) + struct.pack("<Q", GENESIS_TIMESTAMP) + hashlib.sha256().digest() + bytes(32)
    expected += struct.pack("<Q", 2_600) + PARAMS.task.task_id + bytes(8)
    assert encode_header(SPEC.genesis) == expected
    assert SPEC.chain_id == compute_tagged_hash("FreezeNet/1/block", expected)
    assert encode_block(SPEC.genesis_block) == expected + bytes(4)
    assert SPEC.genesis_accounts == {ALICE.public: Account(5_000)}


def test_the_limits_are_those_of_the_longest_solution() -> None:
    longest = 2_136 - 1_025 + 12 * 120 + 4 * 3
    assert SPEC.limits.max_solution_bytes == longest
    assert SPEC.limits.max_block_bytes == 190 + 4 + 4 * 186 + 12 + longest


VALID: dict[str, dict[str, Any]] = {
    "a name of one": {"name": "-"},
    "a name of 32": {"name": "az09-" * 6 + "xx"},
    "the shortest interval": {"target_interval": 16},
    "the longest interval": {"target_interval": 2**24 - 1},
    "no transactions": {"max_transactions": 0},
    "most transactions": {"max_transactions": 65_535},
    "no balances": {"balances": ()},
    "keys that increase in their last and first bytes": {"balances": tuple((key, 1) for key in KEYS)},
    "the largest supply": {"balances": ((KEYS[0], 2**63 - 1 - 2 * 1_001 * 3),)},
    "a balance of 0": {"balances": ((KEYS[0], 0),)},
    "no reward": {"initial_reward": 0},
    "the last rung's work": {"initial_difficulty": 4_000},
    "the first rung's work": {"initial_difficulty": 1_000},
    "the shortest halving interval": {"halving_interval": 1},
    "the smallest maturity": {"maturity": 1},
    "the largest maturity": {"maturity": 2**32 - 1},
}


@pytest.mark.parametrize("changes", VALID.values(), ids=VALID.keys())
def test_accepts_parameters_at_their_bounds(changes: dict[str, Any]) -> None:
    params = replace(PARAMS, **changes)
    check_params(params)
    assert decode_params(encode_params(params)) == params


INVALID: dict[str, dict[str, Any]] = {
    "no name": {"name": ""},
    "a name of 33": {"name": "a" * 33},
    "a name in upper case": {"name": "Golden"},
    "a name with a space": {"name": "golden 1"},
    "too short an interval": {"target_interval": 15},
    "too long an interval": {"target_interval": 2**24},
    "no halving interval": {"halving_interval": 0},
    "no maturity": {"maturity": 0},
    "too many transactions": {"max_transactions": 65_536},
    "equal keys": {"balances": ((KEYS[1], 1), (KEYS[1], 2))},
    "keys out of order": {"balances": ((KEYS[2], 1), (KEYS[1], 1))},
    "a supply of 2^63": {"balances": ((KEYS[0], 2**63 - 2 * 1_001 * 3),)},
    "balances whose sum passes 64 bits": {"balances": ((KEYS[0], 2**63), (KEYS[1], 2**63))},
    "rewards of 2^63": {"initial_reward": 2**62, "halving_interval": 1},
    "a reward that wraps to nothing": {"initial_reward": 2**63, "halving_interval": 2**31},
    "less than the first rung's work": {"initial_difficulty": 999},
    "more than the last rung's work": {"initial_difficulty": 4_001},
}


@pytest.mark.parametrize("changes", INVALID.values(), ids=INVALID.keys())
def test_rejects_parameters_that_break_a_rule(changes: dict[str, Any]) -> None:
    params = decode_params(encode_params(replace(PARAMS, **changes)))
    with pytest.raises(RuleViolation) as caught:
        ChainSpec.build(params, SPEC.dataset)
    assert caught.value.code is Code.BAD_PARAMS


def test_rejects_a_ladder_without_rungs() -> None:
    with pytest.raises(RuleViolation) as caught:
        check_params(replace(PARAMS, task=replace(PARAMS.task, rungs=())))
    assert caught.value.code is Code.BAD_PARAMS


def test_rejects_another_version() -> None:
    with pytest.raises(RuleViolation) as caught:
        decode_params(b"\x02" + SPEC.params_bytes[1:])
    assert caught.value.code is Code.BAD_PARAMS


@pytest.mark.parametrize(
    ("position", "replacement"),
    [
        (3, b"\xc3"),  # the name is not ASCII
        (11 + 40, b"\xff\xff\xff\xff"),  # more balances than bytes
        (11 + 40 + 4 + 40, b"\xff\xff\xff\xff"),  # a task longer than the bytes
    ],
)
def test_rejects_undecodable_parameters(position: int, replacement: bytes) -> None:
    data = bytearray(SPEC.params_bytes)
    data[position : position + len(replacement)] = replacement
    with pytest.raises(BadDelivery) as caught:
        decode_params(bytes(data))
    assert caught.value.code is Code.UNDECODABLE


def test_rejects_encoding_a_key_of_another_length() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        encode_params(replace(PARAMS, balances=((b"short", 1),)))


@pytest.mark.parametrize("name", ["gold\u00e9n", "a" * 256])
def test_rejects_encoding_a_name_that_does_not_fit(name: str) -> None:
    with pytest.raises(ValueError, match=r"ascii|range"):
        encode_params(replace(PARAMS, name=name))


def test_rejects_a_spec_whose_dataset_or_task_breaks_a_rule() -> None:
    for params, dataset, code in (
        (PARAMS, replace(SPEC.dataset, classes=1), Code.BAD_DATASET),
        (PARAMS, replace(SPEC.dataset, n_eval=121), Code.BAD_TASK),
    ):
        with pytest.raises(RuleViolation) as caught:
            ChainSpec.build(params, dataset)
        assert caught.value.code is code
