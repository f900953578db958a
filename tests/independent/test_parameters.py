"""Rules of datasets, networks, ladders and chain parameters: one valid object, one mutation, one stage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.independent.mutations import flip
from tests.independent.tiny_chain import (
    ALICE,
    DATASET_BYTES,
    DESCRIPTION,
    EVAL,
    NETWORK,
    RUNGS,
    TRAIN,
    ParamsFields,
    build_tiny_chain,
    compute_key,
    encode_task,
)
from tools import independent_verifier as verifier
from tools.independent_verifier import Network, Refused, Rung, Stage

KEY = compute_key(ALICE)


def expect(stage: Stage, call: Callable[[], object]) -> None:
    with pytest.raises(Refused) as caught:
        call()
    assert caught.value.stage is stage


def test_paper_network_has_its_weights() -> None:
    assert Network(3, 32, 32, 10, 4, 32, 128).weights == 1_303_648
    assert Network(1, 8, 8, 10, 2, 16, 64).weights == 25_104


def test_merkle_root_is_that_of_rfc_6962() -> None:
    def node(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\x01" + left + right).digest()

    a, b, c, d, e = (verifier.merkle_leaf(bytes([at])) for at in range(5))
    assert a == hashlib.sha256(b"\x00\x00").digest()
    assert verifier.merkle_root([]) == hashlib.sha256(b"").digest()
    assert verifier.merkle_root([a]) == a
    assert verifier.merkle_root([a, b, c]) == node(node(a, b), c)
    assert verifier.merkle_root([a, b, c, d, e]) == node(node(node(a, b), node(c, d)), e)


def test_split_is_cut_into_chunks_of_a_mebibyte() -> None:
    chunks = [b"\x01" * 1_048_576, b"\x02" * 1_048_576, b"\x03"]
    expected = verifier.merkle_root([verifier.merkle_leaf(chunk) for chunk in chunks])
    assert verifier.split_root(b"".join(chunks)) == expected


def test_accepts_a_dataset_in_one_file() -> None:
    dataset = verifier.decode_dataset_file(DATASET_BYTES + TRAIN + EVAL)
    assert dataset.description == DESCRIPTION
    assert dataset.train.pixels.shape == (240, 1, 4, 4)
    assert dataset.eval.labels.shape == (120,)


@pytest.mark.parametrize(
    "change", [{"c": 0}, {"classes": 1}, {"classes": 257}, {"n_train": 0}, {"n_eval": 0}]
)
def test_rejects_a_description_out_of_range(change: dict[str, int]) -> None:
    data = verifier.DESCRIPTION.pack(*DESCRIPTION._replace(**change))  # type: ignore[arg-type]
    expect(Stage.DATASET, lambda: verifier.decode_description(data))


@pytest.mark.parametrize("data", [DATASET_BYTES[:-1], DATASET_BYTES + b"\x00"], ids=["short", "long"])
def test_rejects_a_description_of_another_size(data: bytes) -> None:
    expect(Stage.DATASET, lambda: verifier.decode_description(data))


@pytest.mark.parametrize("at", [0, 80, 81, 80 + len(TRAIN) - 1, 80 + len(TRAIN), -1])
def test_rejects_a_dataset_with_a_wrong_byte(at: int) -> None:
    data = DATASET_BYTES + TRAIN + EVAL
    expect(Stage.DATASET, lambda: verifier.decode_dataset_file(flip(data, at % len(data))))


@pytest.mark.parametrize("data", [TRAIN + EVAL[:-1], TRAIN + EVAL + b"\x00"], ids=["short", "long"])
def test_rejects_splits_of_another_size(data: bytes) -> None:
    expect(Stage.DATASET, lambda: verifier.decode_dataset_file(DATASET_BYTES + data))


def test_rejects_a_label_that_is_no_class() -> None:
    train = b"\x02" + TRAIN[1:]
    description = DESCRIPTION._replace(train_root=verifier.split_root(train))
    packed = verifier.DESCRIPTION.pack(*description)
    expect(Stage.DATASET, lambda: verifier.decode_dataset(packed, train, EVAL))


@pytest.mark.parametrize(
    "network",
    [
        *(NETWORK._replace(**{name: 0}) for name in Network._fields),
        NETWORK._replace(blocks=3),
        Network(1, 512, 512, 2, 9, 1, 1),
        Network(1, 256, 262, 2, 1, 1, 1),
        NETWORK._replace(hidden=16_641),
        NETWORK._replace(c=1_849),
        Network(1, 64, 64, 2, 1, 16, 4_097),
    ],
    ids=str,
)
def test_rejects_a_network_out_of_range(network: Network) -> None:
    expect(Stage.TASK, lambda: verifier.check_network(network))


@pytest.mark.parametrize(
    "network",
    [
        NETWORK,
        Network(1, 256, 260, 2, 1, 1, 1),
        NETWORK._replace(hidden=16_640),
        Network(1, 2, 3, 2, 1, 1, 1),
    ],
)
def test_accepts_a_network_at_the_bounds(network: Network) -> None:
    verifier.check_network(network)


LADDERS: dict[str, tuple[Rung, ...]] = {
    "none": (),
    "too many": tuple(Rung(5_000, 0, 0, 1_000 + at) for at in range(257)),
    "work below 1,000": (RUNGS[0]._replace(work=999),),
    "work above 2^56": tuple(Rung(5_000, 0, 0, 1_000 << at) for at in range(48)),
    "work not increasing": (RUNGS[0], RUNGS[0]),
    "work more than doubled": (RUNGS[0], RUNGS[1]._replace(work=2_001)),
    "frozen below 1,000": (RUNGS[0]._replace(frozen=999),),
    "frozen above 9,990": (RUNGS[0]._replace(frozen=9_991),),
    "too few frozen weights": (RUNGS[0]._replace(frozen=4_490),),
}


@pytest.mark.parametrize("name", LADDERS)
def test_rejects_a_ladder_out_of_range(name: str) -> None:
    expect(Stage.TASK, lambda: verifier.decode_task(encode_task(rungs=LADDERS[name])))


def test_accepts_a_ladder_at_the_bounds() -> None:
    rungs = (Rung(4_492, 237, 120, 1_000), Rung(9_990, 0, 0, 2_000))
    task = verifier.decode_task(encode_task(rungs=rungs))
    assert task.compute_frozen_count(rungs[0]) == 1_024
    verifier.check_task_fits(task, DESCRIPTION)


def test_rung_is_the_last_whose_work_is_within_the_difficulty() -> None:
    task = verifier.decode_task(encode_task())
    found = [
        task.compute_rung_index(difficulty) for difficulty in (1_000, 1_499, 1_500, 2_499, 2_500, 1 << 60)
    ]
    assert found == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "task",
    [
        encode_task(dataset_id=bytes(32)),
        encode_task(network=NETWORK._replace(h=5)),
        encode_task(network=NETWORK._replace(classes=3)),
        encode_task(rungs=(RUNGS[0]._replace(min_train_correct=238),)),
        encode_task(rungs=(RUNGS[0]._replace(min_eval_correct=121),)),
    ],
    ids=["dataset", "height", "classes", "train target", "eval target"],
)
def test_rejects_a_task_that_is_not_for_the_dataset(task: bytes) -> None:
    expect(Stage.TASK, lambda: verifier.check_task_fits(verifier.decode_task(task), DESCRIPTION))


@pytest.mark.parametrize("task", [encode_task()[:-1], encode_task() + b"\x00"], ids=["short", "long"])
def test_rejects_a_task_of_another_size(task: bytes) -> None:
    expect(Stage.TASK, lambda: verifier.decode_task(task))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": 2},
        {"name": b""},
        {"name": b"a" * 33},
        {"name": b"Tiny"},
        {"name": b"tiny_1"},
        {"name": "t\u00efny".encode()},
        {"target_interval": 15},
        {"target_interval": 1 << 24},
        {"halving_interval": 0},
        {"maturity": 0},
        {"max_transactions": 65_536},
        {"initial_difficulty": 999},
        {"initial_difficulty": 2_501},
        {"accounts": [(KEY, 1), (KEY, 1)]},
        {"accounts": [(b"\xff" * 32, 1), (KEY, 1)]},
        {"accounts": [], "initial_reward": 1 << 61, "halving_interval": 2},
        {"accounts": [(KEY, (1 << 63) - 6)], "initial_reward": 1, "halving_interval": 3},
    ],
    ids=str,
)
def test_rejects_parameters_out_of_range(change: dict[str, Any]) -> None:
    expect(Stage.PARAMS, lambda: verifier.decode_params(replace(ParamsFields(), **change).encode()))


@pytest.mark.parametrize(
    "change",
    [
        {"name": b"a" * 32},
        {"target_interval": (1 << 24) - 1},
        {"max_transactions": 0},
        {"max_transactions": 65_535},
        {"initial_difficulty": 1_000},
        {"accounts": []},
        {"accounts": [(KEY, (1 << 63) - 7)], "initial_reward": 1, "halving_interval": 3},
    ],
    ids=str,
)
def test_accepts_parameters_at_the_bounds(change: dict[str, Any]) -> None:
    verifier.decode_params(replace(ParamsFields(), **change).encode())


def check_first_block(params: bytes) -> None:
    """Put the tiny chain's first block on the genesis of other parameters."""
    tiny = build_tiny_chain()
    chain, genesis = verifier.open_chain(params, tiny.chain.dataset)
    verifier.check_block(chain, genesis, tiny.blocks[0], 1 << 40)


def test_rejects_parameters_with_any_bit_changed_or_a_byte_more_or_less() -> None:
    params = build_tiny_chain().params
    spoiled = [flip(params, at) for at in range(len(params))]
    spoiled += [params[:size] for size in range(len(params))]
    for other in [*spoiled, params + b"\x00"]:
        with pytest.raises(Refused):
            check_first_block(other)


def test_reward_halves_and_ends() -> None:
    params = verifier.decode_params(ParamsFields().encode())
    assert [params.compute_reward(height) for height in (1, 2, 3, 6, 27, 30, 192)] == [
        1_001,
        1_001,
        500,
        250,
        1,
        0,
        0,
    ]


def test_difficulty_follows_the_last_interval() -> None:
    params = verifier.decode_params(ParamsFields().encode())
    parent = params.compute_genesis()._replace(timestamp=1_000, difficulty=2_000)
    found = {took: verifier.compute_difficulty(params, parent, 1_000 - took) for took in (4, 16, 20, 999)}
    assert verifier.compute_difficulty(params, parent, None) == 2_000
    assert found == {4: 2_000 * 256 // 244, 16: 2_000, 20: 2_000 * 256 // 260, 999: 1_000}


def test_difficulty_counts_at_most_64_intervals_and_stays_on_the_ladder() -> None:
    rungs = tuple(Rung(5_000, 0, 0, 1_000 << at) for at in range(12))
    fields = ParamsFields(task=encode_task(rungs=rungs))
    params = verifier.decode_params(fields.encode())
    parent = params.compute_genesis()._replace(timestamp=10_000, difficulty=rungs[-1].work)
    assert verifier.compute_difficulty(params, parent, 0) == rungs[-1].work * 256 // (240 + 1_024)
    assert verifier.compute_difficulty(params, parent, 9_996) == rungs[-1].work


@pytest.mark.parametrize(
    ("waited", "eased"), [(4, 2_500), (96, 2_500), (127, 2_500), (128, 1_250), (160, 1_000), (1 << 40, 1_000)]
)
def test_difficulty_eases_with_the_time_waited(waited: int, eased: int) -> None:
    params = verifier.decode_params(ParamsFields().encode())
    assert verifier.compute_eased(params, 7, 7 + waited, 2_500) == eased
