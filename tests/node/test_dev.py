"""`freezenet dev`: the golden vectors are what the code writes, and hold by every reading of the protocol."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from chain.signatures import verify_signature
from consensus.block import Block, decode_block, decode_witness
from consensus.dataset import Dataset, decode_dataset, decode_dataset_spec
from consensus.difficulty import get_required_rung
from consensus.evaluation import NormativeWorkVerifier
from consensus.params import ChainSpec, decode_params
from consensus.transaction import check_transfer_form, compute_transactions_root
from node.cli import main
from node.dev_vectors import build_vectors
from tools import independent_verifier

VECTORS = Path(__file__).parents[1] / "vectors"


def load_chain() -> tuple[dict[str, Any], ChainSpec, Dataset, list[Block]]:
    """chain.json, and what it says."""
    vector = json.loads((VECTORS / "chain.json").read_text("utf-8"))
    parts = {name: bytes.fromhex(vector[f"{name}_hex"]) for name in ("params", "dataset", "train", "eval")}
    dataset = decode_dataset(decode_dataset_spec(parts["dataset"]), parts["train"], parts["eval"])
    spec = ChainSpec.build(decode_params(parts["params"]), dataset.spec)
    blocks = [decode_block(bytes.fromhex(row["raw_hex"]), spec.limits) for row in vector["blocks"]]
    return vector, spec, dataset, blocks


def test_regenerating_gives_the_same_bytes() -> None:
    files = build_vectors()
    assert {path.name for path in VECTORS.iterdir()} == set(files)
    for name, text in files.items():
        assert (VECTORS / name).read_bytes() == text.encode("utf-8"), name


def test_the_independent_verifier_accepts_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert independent_verifier.main(["--vectors", str(VECTORS)]) == 0
    assert "chain.json: 1 checked" in capsys.readouterr().out


def test_every_witness_of_the_chain_and_every_twin_verifies() -> None:
    vector, spec, dataset, blocks = load_chain()
    verifier = NormativeWorkVerifier(dataset)
    twins = {row["id"]: row for row in vector["twins"]}
    assert twins
    for parent, block in pairwise(blocks):
        rung = get_required_rung(spec.params, block.header, parent.header.timestamp)
        assert block.witness is not None
        verifier.check(spec.task, rung, block.header, block.witness)
        if row := twins.pop(block.header.block_id.hex(), None):
            twin = decode_witness(bytes.fromhex(row["witness_hex"]), spec.limits)
            verifier.check(spec.task, rung, block.header, twin)
            assert twin.witness_id.hex() == row["witness_id"] != block.witness.witness_id.hex()
    assert not twins


def test_the_chain_covers_what_it_should() -> None:
    """Transfers, a self-transfer, a payout spent, an eased block, a halving, and a commitment to a twin."""
    vector, spec, _, blocks = load_chain()
    transfers = [signed for block in blocks for signed in block.transfers]
    for signed in transfers:
        check_transfer_form(signed, verify_signature)
    assert len(blocks) >= 5
    assert any(signed.transfer.sender == signed.transfer.recipient for signed in transfers)
    assert {row["id"] for row in vector["twins"]} <= {block.header.parent.hex() for block in blocks}
    late = [b.header.timestamp - a.header.timestamp for a, b in pairwise(blocks)]
    assert max(late) >= 8 * spec.params.target_interval
    assert min(late) == spec.params.target_interval // 4
    assert len(blocks) - 1 > spec.params.halving_interval
    assert all(
        block.header.transactions_root == compute_transactions_root(block.transfers) for block in blocks
    )


@pytest.fixture
def _kept_handler() -> Iterator[None]:
    """The command line sets a handler for SIGTERM; the test run gets its own back."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("_kept_handler")
def test_the_command_prints_the_interface_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dev", "openapi"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["openapi"].startswith("3.")
    assert "/v1/chain" in document["paths"]


@pytest.mark.usefixtures("_kept_handler")
def test_the_command_writes_checks_and_finds_a_changed_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "new")]
    assert main(["dev", "vectors", "--check", *out]) == 1
    assert not (tmp_path / "new").exists()
    assert main(["dev", "vectors", *out]) == 0
    assert main(["dev", "vectors", "--check", *out]) == 0
    (tmp_path / "new" / "merkle.json").write_bytes(b"\xff\n")
    capsys.readouterr()
    assert main(["dev", "vectors", "--check", *out]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "merkle.json" in printed.err
    assert "chain.json" not in printed.err
