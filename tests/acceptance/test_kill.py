"""kill -9 of a real node while it imports blocks from a peer: it comes back sound, and catches up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from chain.database import check_database
from chain.store import open_store
from consensus.encoding import Hash32
from tests.acceptance.node_process import NodeProcess, prepare_directory, run_command
from tests.acceptance.real_work import mine_real_block
from tests.acceptance.scene import Scene
from tests.builders import BOB, CAROL, BuiltBlock, build_transfer

DOOMED_NODE = Path(__file__).with_name("doomed_node.py")


@dataclass(frozen=True, slots=True)
class Fork:
    """A chain, and a branch of equal work that a node holds instead of its last block but one."""

    chain: tuple[BuiltBlock, ...]
    branch: tuple[BuiltBlock, ...]
    """Importing the chain's second block leaves it aside, importing its third reorganises."""

    @property
    def tip(self) -> BuiltBlock:
        return self.chain[-1]


@pytest.fixture(scope="module")
def fork(scene: Scene) -> Fork:
    last = mine_real_block(scene.spec, scene.tip, [scene.pay(BOB)])
    aside = mine_real_block(scene.spec, scene.first, [build_transfer(scene.spec, CAROL, BOB.public, 7)])
    return Fork((scene.first, scene.tip, last), (scene.first, aside))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory, scene: Scene, fork: Fork) -> Iterator[NodeProcess]:
    """A node that has the whole chain."""
    directory = prepare_directory(tmp_path_factory.mktemp("healthy") / "node", scene.spec, fork.chain)
    with NodeProcess(directory) as node:
        node.start()
        yield node


def read_tip(directory: Path, scene: Scene) -> Hash32:
    """The tip of a node that does not run."""
    with closing(open_store(directory / "chain.sqlite3", scene.spec)) as store, store.read() as view:
        return view.get_tip().block_id


def connect(node: NodeProcess, peer: NodeProcess) -> None:
    """Connect a node that can judge blocks by now, so that it imports at once."""
    node.wait_until_evaluating()
    node.order("peers", {"url": peer.url})


# (stage, which commit): the first is of a block aside, the second a reorganisation. The stage
# commit-block-written lies between two statements of the transaction.
@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("commit-begin", 1),
        ("commit-block-written", 2),
        ("commit-accounts-written", 2),
        ("commit-done", 2),
    ],
)
def test_killed_while_importing(
    tmp_path: Path, scene: Scene, fork: Fork, healthy: NodeProcess, stage: str, number: int
) -> None:
    directory = prepare_directory(tmp_path / "victim", scene.spec, fork.branch)
    imported, is_committed = fork.chain[number].block_id, stage == "commit-done"
    with NodeProcess(directory) as node:
        node.start([sys.executable, str(DOOMED_NODE), stage, str(number)])
        connect(node, healthy)
        node.wait_for_kill()
        assert f"{stage} {imported.hex()}" in node.log
        assert ("commit-done " + imported.hex() in node.log) is is_committed

        checked = run_command("db", "check", "--dir", str(directory))
        assert checked.returncode == 0, checked.stdout + checked.stderr
        expected = fork.tip if is_committed else fork.branch[-1]
        assert read_tip(directory, scene) == expected.block_id

        node.start()
        connect(node, healthy)
        node.wait_for_tip(fork.tip.block_id)
    assert check_database(directory / "chain.sqlite3", scene.spec) == []
