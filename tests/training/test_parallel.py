"""Two processes of torchrun train one network and find a block that the normative evaluator accepts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from consensus.block import BlockLimits, decode_header, decode_witness
from consensus.dataset import Dataset
from consensus.evaluation import NormativeWorkVerifier
from dataset_server.files import write_dataset_file
from dataset_server.importers import import_digits
from tests.training.ranks import HEADER, RUNG
from tests.training.samples import build_recipe, build_task
from training.data import TrainingData
from training.parallel import ParallelAttempt

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both ranks wrote."""
    path = tmp_path_factory.mktemp("ranks")
    write_dataset_file(path / "digits.dataset", import_digits())
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["-m", "tests.training.ranks", str(path), str(path / "digits.dataset"), request.param]
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"
    }  # fmt: skip
    done = subprocess.run(
        [*torchrun, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return path


def test_ranks_end_with_equal_weights_and_counts(folder: Path) -> None:
    first, second = ((folder / f"weights-{rank}").read_text() for rank in range(2))
    assert first == second


def test_ranks_count_the_whole_batch(folder: Path) -> None:
    right = json.loads((folder / "weights-0").read_text().split("]")[0] + "]")
    assert len(right) == 20
    # More than a share of 32 records can have.
    assert 32 < max(right) <= 64


def test_witness_of_two_ranks_verifies(folder: Path, digits: Dataset) -> None:
    block = json.loads((folder / "block.json").read_text())
    assert block["outcome"] == "found"
    header = decode_header(bytes.fromhex(block["header"]))
    assert HEADER.nonce < header.nonce < HEADER.nonce + 8, "the header of the best promise"
    witness = decode_witness(bytes.fromhex(block["witness"]), BlockLimits(0, 2**20))
    NormativeWorkVerifier(digits).check(build_task(digits.spec, RUNG), RUNG, header, witness)


def test_cancelled_attempt_lets_the_other_rank_go(folder: Path) -> None:
    block = json.loads((folder / "block.json").read_text())
    assert block["cancelled"] == "cancelled"
    assert 0 < block["cancelled_samples"] < 11 * 64


def test_rejects_a_batch_without_equal_shares(
    digits: Dataset, digits_data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    with pytest.raises(ValueError, match="no 3 equal shares"):
        ParallelAttempt(build_task(digits.spec, RUNG), digits_data, build_recipe(1_280), "cpu")
