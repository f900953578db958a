"""The manifest: one valid object, one mutation, one code; its decoder never does anything else but refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.dataset import CHUNK_BYTES
from consensus.encoding import compute_tagged_hash
from consensus.errors import BadDelivery, Code, ConsensusError, RuleViolation
from dataset_server.manifest import (
    ChunkKey,
    build_manifest,
    check_chunk,
    decode_manifest,
    describe_manifest,
    encode_manifest,
)
from tests.dataset_server.samples import build_dataset

DATASET = build_dataset()
DATASET_ID = DATASET.spec.dataset_id
MANIFEST = build_manifest(DATASET)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
VALID: dict[str, Any] = describe_manifest(MANIFEST)


def test_chunks_cover_both_splits() -> None:
    keys = list(MANIFEST.get_keys())
    assert keys == [ChunkKey("train", 0), ChunkKey("train", 1), ChunkKey("train", 2), ChunkKey("eval", 0)]
    assert MANIFEST.get_chunk_bytes(keys[0]) == CHUNK_BYTES
    assert sum(map(MANIFEST.get_chunk_bytes, keys)) == MANIFEST.total_bytes == 41_000 * 65


def test_round_trip() -> None:
    assert decode_manifest(encode_manifest(MANIFEST), DATASET_ID) == MANIFEST


def test_accepts_unknown_fields() -> None:
    assert decode_manifest(json.dumps(VALID | {"later": 1}).encode(), DATASET_ID) == MANIFEST


@pytest.mark.parametrize(
    ("mutate", "code"),
    [
        (lambda answer: answer.pop("dataset_hex"), Code.UNDECODABLE),
        (lambda answer: answer.update(dataset_hex=5), Code.UNDECODABLE),
        (lambda answer: answer.update(dataset_hex=answer["dataset_hex"].upper()), Code.UNDECODABLE),
        (lambda answer: answer.update(dataset_hex=answer["dataset_hex"] + " "), Code.UNDECODABLE),
        (lambda answer: answer.update(dataset_hex=answer["dataset_hex"] + "00"), Code.WRONG_CHUNK),
        (lambda answer: answer.update(dataset_hex=""), Code.WRONG_CHUNK),
        (lambda answer: answer.pop("eval"), Code.UNDECODABLE),
        (lambda answer: answer["train"].update(bytes=True), Code.UNDECODABLE),
        (lambda answer: answer["train"].update(bytes=1), Code.WRONG_CHUNK),
        (lambda answer: answer["train"].update(chunks="00"), Code.UNDECODABLE),
        (lambda answer: answer["train"]["chunks"].append(7), Code.UNDECODABLE),
        (lambda answer: answer["train"]["chunks"].append("00"), Code.UNDECODABLE),
        (lambda answer: answer["train"]["chunks"].append("00" * 32), Code.WRONG_CHUNK),
        (lambda answer: answer["train"]["chunks"].pop(), Code.WRONG_CHUNK),
        (lambda answer: answer["train"]["chunks"].reverse(), Code.WRONG_CHUNK),
        (lambda answer: answer["eval"]["chunks"].__setitem__(0, "00" * 32), Code.WRONG_CHUNK),
    ],
)
def test_rejects_a_mutated_manifest(mutate: Callable[[dict[str, Any]], object], code: Code) -> None:
    answer = json.loads(encode_manifest(MANIFEST))
    mutate(answer)
    with pytest.raises(BadDelivery) as refusal:
        decode_manifest(json.dumps(answer).encode(), DATASET_ID)
    assert refusal.value.code is code


def test_rejects_a_description_that_breaks_the_rules() -> None:
    description = bytes(80)
    answer = VALID | {"dataset_hex": description.hex()}
    with pytest.raises(RuleViolation) as refusal:
        decode_manifest(json.dumps(answer).encode(), compute_tagged_hash("FreezeNet/1/dataset", description))
    assert refusal.value.code is Code.BAD_DATASET


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"null", b"9" * 5_000])
def test_rejects_what_is_no_manifest(data: bytes) -> None:
    with pytest.raises(BadDelivery) as refusal:
        decode_manifest(data, DATASET_ID)
    assert refusal.value.code is Code.UNDECODABLE


@given(data=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_decoder_never_crashes(data: bytes) -> None:
    with pytest.raises(BadDelivery):
        decode_manifest(data, DATASET_ID)


@given(field=st.sampled_from(["dataset_hex", "train", "eval"]), value=JSON)
def test_decoder_never_crashes_on_a_field(field: str, value: object) -> None:
    with pytest.raises(BadDelivery):
        decode_manifest(json.dumps(VALID | {field: value}).encode(), DATASET_ID)


@given(field=st.sampled_from(["bytes", "chunks"]), value=JSON | st.lists(st.binary().map(bytes.hex)))
def test_decoder_never_crashes_on_a_field_of_a_split(field: str, value: object) -> None:
    with pytest.raises(BadDelivery):
        decode_manifest(json.dumps(VALID | {"eval": VALID["eval"] | {field: value}}).encode(), DATASET_ID)


@pytest.mark.parametrize(
    "mutate",
    [lambda chunk: chunk[:-1], lambda chunk: chunk + b"\0", lambda chunk: b"\xff" + chunk[1:]],
    ids=["short", "long", "changed"],
)
def test_rejects_a_wrong_chunk(mutate: Callable[[bytes], bytes]) -> None:
    chunk = DATASET.train[2 * CHUNK_BYTES :]
    check_chunk(MANIFEST, ChunkKey("train", 2), chunk)
    with pytest.raises(ConsensusError) as refusal:
        check_chunk(MANIFEST, ChunkKey("train", 2), mutate(chunk))
    assert refusal.value.code is Code.WRONG_CHUNK
