"""Golden vectors in the independent verifier: their format, and that each of their values is recomputed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.independent.tiny_chain import (
    DATASET_BYTES,
    EVAL,
    NETWORK,
    TRAIN,
    TinyChain,
    build_tiny_chain,
    encode_task,
)
from tools import independent_verifier as verifier


@pytest.fixture
def tiny() -> TinyChain:
    return build_tiny_chain()


def build_chain_vector(tiny: TinyChain) -> dict[str, Any]:
    genesis = {"raw_hex": tiny.genesis_block.hex(), "id": tiny.chain.chain_id.hex(), "height": 0}
    rows: list[dict[str, Any]] = [genesis]
    for at, raw in enumerate(tiny.blocks):
        witness, tip = tiny.decode(at).witness, tiny.tips[at + 1]
        row = {"raw_hex": raw.hex(), "id": tip.block_id.hex(), "height": at + 1, "chain_work": str(tip.work)}
        rows.append(row | {"train_correct": witness.train_correct, "eval_correct": witness.eval_correct})
    accounts = [
        {"key_hex": key.hex(), "balance": str(account.balance), "nonce": str(account.nonce)}
        for key, account in tiny.tips[-1].accounts.items()
    ]
    hexes = {
        "params": tiny.params,
        "task": encode_task(),
        "dataset": DATASET_BYTES,
        "train": TRAIN,
        "eval": EVAL,
    }
    return {f"{name}_hex": data.hex() for name, data in hexes.items()} | {
        "blocks": rows,
        "accounts": accounts,
    }


def build_vectors(tiny: TinyChain) -> dict[str, Any]:
    """One row of every kind of golden vector, from the tiny chain."""
    return {
        "chain": build_chain_vector(tiny),
        "watermark": [build_watermark_row(tiny)],
        "transfers": [build_transfer_row(tiny)],
        "merkle": [{"leaves_hex": [], "root": hashlib.sha256().hexdigest()}],
        "evaluation": [build_evaluation_row(tiny)],
        "difficulty": [build_difficulty_row(tiny)],
    }


def build_watermark_row(tiny: TinyChain) -> dict[str, Any]:
    header = tiny.decode(1).header.encode()
    indices, values = verifier.compute_watermark(header, 2_280, 1_254)
    return {
        "header_hex": header.hex(),
        "weights": 2_280,
        "frozen_count": 1_254,
        "indices_sha256": hashlib.sha256(indices.astype("<u4").tobytes()).hexdigest(),
        "values_sha256": hashlib.sha256(values.tobytes()).hexdigest(),
    }


def build_transfer_row(tiny: TinyChain) -> dict[str, Any]:
    signed = tiny.decode(1).signed[0]
    transfer = verifier.decode_transfer(signed)
    return {
        "signed_hex": signed.hex(),
        "tx_id": verifier.compute_transaction_id(signed).hex(),
        "sender_address": verifier.compute_address(transfer.sender),
        "recipient_address": verifier.compute_address(transfer.recipient),
    }


def build_evaluation_row(tiny: TinyChain) -> dict[str, Any]:
    block, task = tiny.decode(1), tiny.chain.params.task
    solution, rung = block.witness.solution, task.rungs[1]
    found = verifier.decode_solution(task, rung, solution)
    weights = verifier.compute_weights(task, rung, block.header.encode(), found.free)
    pixels = tiny.chain.dataset.train.pixels
    return {
        "task_hex": encode_task().hex(),
        "weights_hex": weights.tobytes().hex(),
        "norm_hex": solution[len(found.free) : -8].hex(),
        "bias_hex": solution[-8:].hex(),
        "records_hex": TRAIN.hex(),
        "classes": verifier.compute_classes(NETWORK, weights, found.norms, found.bias, pixels).tolist(),
    }


def build_difficulty_row(tiny: TinyChain) -> dict[str, Any]:
    tip, header = tiny.tips[2], tiny.decode(2).header
    parent = {"timestamp": str(tip.header.timestamp), "difficulty": str(tip.header.difficulty), "height": 2}
    return {
        "params_hex": tiny.params.hex(),
        "parent": parent,
        "grandparent_timestamp": str(tip.grandparent_timestamp),
        "timestamp": str(header.timestamp),
        "difficulty": str(header.difficulty),
        "eased": "1000",
        "rung_index": 0,
    }


def write_vectors(directory: Path, vectors: dict[str, Any]) -> list[str]:
    """Arguments that name the directory."""
    for name, rows in vectors.items():
        (directory / f"{name}.json").write_text(json.dumps(rows))
    return ["--vectors", str(directory)]


def test_verifies_vectors(tiny: TinyChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verifier.main(write_vectors(tmp_path, build_vectors(tiny))) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


def list_leaves(vectors: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of every number and string."""
    if isinstance(vectors, dict | list):
        for key in vectors if isinstance(vectors, dict) else range(len(vectors)):
            yield from list_leaves(vectors[key], (*path, key))
    else:
        yield path


def replace_leaf(value: Any, path: Sequence[Any]) -> Any:
    """The value with the leaf at a path replaced by another of its form."""
    if path:
        replaced = replace_leaf(value[path[0]], path[1:])
        if isinstance(value, dict):
            return value | {path[0]: replaced}
        return [*value[: path[0]], replaced, *value[path[0] + 1 :]]
    if isinstance(value, str):
        return value[:-1] + ("1" if value[-1] == "0" else "0")
    return value + 1


def is_accepted(name: str, rows: Any) -> bool:
    try:
        for row in [rows] if name == "chain" else rows:
            verifier.VECTOR_CHECKS[name](row)
    except (verifier.Refused, ValueError):
        return False
    return True


def test_rejects_a_vector_with_any_value_changed(tiny: TinyChain) -> None:
    vectors = build_vectors(tiny)
    paths = list(list_leaves(vectors))
    accepted = [path for path in paths if is_accepted(path[0], replace_leaf(vectors, path)[path[0]])]
    # Another second or one unit of difficulty changes nothing in a row that the ladder's ends clamp, nor does
    # the last pixel change a class.
    inputs = {"timestamp", "grandparent_timestamp", "parent", "records_hex"}
    assert len(paths) > 300
    assert [path for path in accepted if not inputs & set(path)] == []


def test_rejects_a_missing_vector(
    tiny: TinyChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_vectors(tmp_path, build_vectors(tiny))
    (tmp_path / "merkle.json").unlink()
    assert verifier.main(arguments) == 1
    assert "merkle.json" in capsys.readouterr().err


def test_rejects_a_vector_without_rows(
    tiny: TinyChain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verifier.main(write_vectors(tmp_path, build_vectors(tiny) | {"merkle": []})) == 1
    assert "no rows" in capsys.readouterr().err
