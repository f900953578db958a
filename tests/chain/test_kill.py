"""kill -9 at every stage of a commit, and between the statements of its transaction."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chain.database import check_database
from chain.mempool import Mempool
from chain.signatures import verify_signature
from consensus.params import ChainSpec
from tests.builders import ALICE, BOB, CAROL, BuiltBlock, build_transfer, mine_block, open_chain, submit

ROOT = Path(__file__).parents[2]
STAGES = ("commit-begin", "commit-block-written", "commit-accounts-written", "commit-done")


@pytest.fixture(scope="module")
def fork(spec: ChainSpec, genesis: BuiltBlock) -> tuple[list[BuiltBlock], BuiltBlock]:
    """A chain with a side branch of equal work, and the block that makes the side branch the longer one."""
    left = mine_block(spec, genesis, [build_transfer(spec, ALICE, BOB.public, 40)])
    left_end = mine_block(spec, left, [build_transfer(spec, BOB, CAROL.public, 7)])
    right = mine_block(spec, genesis, [build_transfer(spec, CAROL, ALICE.public, 90)], nonce=1)
    right_end = mine_block(spec, right)
    return [left, left_end, right, right_end], mine_block(spec, right_end)


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, spec: ChainSpec, fork: tuple[list[BuiltBlock], BuiltBlock]
) -> Path:
    directory = tmp_path_factory.mktemp("prepared")
    store, chain = open_chain(directory, spec)
    for block in fork[0]:
        submit(chain, block)
    store.close()
    (directory / "block").write_bytes(fork[1].raw)
    return directory


def commit_and_die(directory: Path, point: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_commit.py")), str(directory), "block", point],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def assert_goes_on(
    directory: Path, spec: ChainSpec, fork: tuple[list[BuiltBlock], BuiltBlock], is_committed: bool
) -> None:
    """The database is sound, at the old tip or the new one as a whole, its transfers wait, import goes on."""
    before, block = fork
    assert check_database(directory / "chain.sqlite3", spec) == []
    store, chain = open_chain(directory, spec)
    disconnected = (*before[0].block.transfers, *before[1].block.transfers)
    waiting, _ = Mempool(store, chain, verify_signature).list(None, 9)
    assert waiting == (disconnected if is_committed else ())
    assert chain.tip.block_id == (block if is_committed else before[1]).block_id
    assert chain.is_known(block.block_id) is is_committed
    if not is_committed:
        assert len(submit(chain, block).disconnected) == 2
    assert submit(chain, mine_block(spec, block)).status == "active"
    assert check_database(directory / "chain.sqlite3", spec) == []
    store.close()


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_a_stage(
    tmp_path: Path,
    prepared: Path,
    spec: ChainSpec,
    fork: tuple[list[BuiltBlock], BuiltBlock],
    stage: str,
) -> None:
    directory = shutil.copytree(prepared, tmp_path / "chain")
    ended = commit_and_die(directory, stage)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert ended.stdout.split() == list(STAGES[: STAGES.index(stage) + 1])
    assert_goes_on(directory, spec, fork, is_committed=stage == "commit-done")


# Before the second write, within the undoing, before transfers wait again, within the redoing, and before the
# last write.
@pytest.mark.parametrize("number", [7, 10, 13, 14, 18, 22, 27, 28, 33])
def test_killed_between_two_statements(
    tmp_path: Path,
    prepared: Path,
    spec: ChainSpec,
    fork: tuple[list[BuiltBlock], BuiltBlock],
    number: int,
) -> None:
    directory = shutil.copytree(prepared, tmp_path / "chain")
    ended = commit_and_die(directory, str(number))
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert "commit-begin" in ended.stdout
    assert "commit-done" not in ended.stdout
    assert_goes_on(directory, spec, fork, is_committed=False)


def test_survives_where_nothing_kills_it(
    tmp_path: Path, prepared: Path, spec: ChainSpec, fork: tuple[list[BuiltBlock], BuiltBlock]
) -> None:
    directory = shutil.copytree(prepared, tmp_path / "chain")
    ended = commit_and_die(directory, "1000")
    assert (ended.returncode, ended.stdout.split()) == (0, [*STAGES, "ended"])
    assert_goes_on(directory, spec, fork, is_committed=True)
