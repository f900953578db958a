"""Real nodes against a lying peer and against twins, and their chain before the independent verifier."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from consensus.block import Witness
from consensus.transaction import SignedTransfer
from tests.acceptance.forged_peer import ForgedPeer
from tests.acceptance.node_process import ROOT, NodeProcess
from tests.acceptance.real_network import RealNetwork, run_network
from tests.acceptance.real_work import build_twin, finish_real_block, mine_real_block
from tests.acceptance.scene import Scene
from tests.builders import ALICE, BOB, CAROL, INITIAL_BALANCE, build_header, build_transfer, mine_block


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, scene: Scene) -> Iterator[RealNetwork]:
    with run_network(
        tmp_path_factory.mktemp("network"), scene.spec, [scene.first, scene.tip], size=3
    ) as nodes:
        yield nodes


@dataclass(frozen=True, slots=True)
class Lie:
    """What a peer pretends, and what becomes of it."""

    name: str
    code: str
    forge: Callable[[RealNetwork], ForgedPeer]
    is_evaluated: bool
    """Whether it takes an evaluation to find out."""


def forge_claim(network: RealNetwork) -> ForgedPeer:
    """Real work that claims one right record too many."""
    honest = network.mine()
    claimed = replace(honest.witness, train_correct=honest.witness.train_correct + 1)
    return ForgedPeer(network.spec, honest.with_witness(claimed))


def forge_solution(network: RealNetwork) -> ForgedPeer:
    """A network with a weight that the grid does not have."""
    honest = network.mine()
    spoilt = replace(honest.witness, solution=b"\x80" + honest.witness.solution[1:])
    return ForgedPeer(network.spec, honest.with_witness(spoilt))


def forge_header(network: RealNetwork) -> ForgedPeer:
    """Real work for another difficulty than the chain demands."""
    header = build_header(network.spec, network.tip)
    easier = replace(header, difficulty=header.difficulty - 1)
    return ForgedPeer(network.spec, finish_real_block(network.spec, network.tip, easier))


def forge_payment(network: RealNetwork) -> ForgedPeer:
    """Real work for a block that spends more than there is."""
    return ForgedPeer(network.spec, network.mine([overspend(network)]))


def forge_side_branch(network: RealNetwork) -> ForgedPeer:
    """The same beside the tip, below a header that claims enough work to be followed."""
    parent = network.tip.parent
    assert parent is not None
    side = mine_real_block(network.spec, parent, [overspend(network)], nonce=2)
    return ForgedPeer(network.spec, mine_block(network.spec, side))


def forge_parent_witness(network: RealNetwork) -> ForgedPeer:
    """Real work that commits to a witness of the tip which does not verify, and that witness."""
    tip = network.tip
    false = Witness(tip.witness.train_correct + 1, tip.witness.eval_correct, tip.witness.solution)
    peer = ForgedPeer(network.spec, network.mine(parent_witness=false.witness_id))
    peer.serve_witness(tip, false.witness_id, false)
    return peer


def forge_delivery(network: RealNetwork) -> ForgedPeer:
    """Another block's bytes instead of those asked for."""
    honest = network.mine()
    peer = ForgedPeer(network.spec, honest)
    peer.serve(honest.block_id, network.tip.raw)
    return peer


def forge_length(network: RealNetwork) -> ForgedPeer:
    """A block without its last byte."""
    honest = network.mine()
    peer = ForgedPeer(network.spec, honest)
    peer.serve(honest.block_id, honest.raw[:-1])
    return peer


def overspend(network: RealNetwork) -> SignedTransfer:
    """A transfer of more than BOB ever had."""
    return build_transfer(network.spec, BOB, ALICE.public, 2 * INITIAL_BALANCE)


LIES = (
    Lie("a claim one too high", "wrong-train-count", forge_claim, is_evaluated=True),
    Lie("a weight of -128", "weight-out-of-range", forge_solution, is_evaluated=True),
    Lie("a header of another difficulty", "wrong-difficulty", forge_header, is_evaluated=False),
    Lie("an uncovered payment", "insufficient-balance", forge_payment, is_evaluated=False),
    Lie("an uncovered payment aside", "insufficient-balance", forge_side_branch, is_evaluated=True),
    Lie("a false witness of the parent", "wrong-parent-witness", forge_parent_witness, is_evaluated=True),
    Lie("another block", "wrong-block", forge_delivery, is_evaluated=False),
    Lie("a block cut short", "undecodable", forge_length, is_evaluated=False),
)


def count_evaluated(node: NodeProcess) -> int:
    return node.get_metric("blocks_evaluated_total")


def count_twins(node: NodeProcess) -> int:
    return node.get_metric("twins_evaluated_total")


def verify_independently(url: str) -> str:
    """What the independent verifier prints of a live node's whole chain."""
    run = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "independent_verifier.py"), "--node", url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.name)
def test_all_nodes_refuse_what_a_peer_forged(network: RealNetwork, lie: Lie) -> None:
    evaluated = network.read(count_evaluated)
    with lie.forge(network) as peer:
        peer.greet(network.urls)
        for node in network.nodes:
            node.wait_for_log(f"peer {peer.url} lied ({lie.code}")
    assert {node.get_tip() for node in network.nodes} == {network.tip.block_id.hex()}
    spent = [after > before for after, before in zip(network.read(count_evaluated), evaluated, strict=True)]
    assert spent == [lie.is_evaluated] * len(network.nodes)
    network.extend(network.mine(nonce=1), network.nodes[0])


def test_a_twin_is_evaluated_only_for_the_sake_of_a_child_with_real_work(network: RealNetwork) -> None:
    first, second, third = network.nodes
    built = network.mine()
    twin = built.with_witness(build_twin(network.spec, built))
    evaluated, twins = network.read(count_evaluated), network.read(count_twins)
    network.partition(second)
    assert first.post_block(built.raw).status_code == 201
    assert second.post_block(twin.raw).status_code == 201
    network.tip = built
    network.wait_for_tip()
    network.heal()
    with ForgedPeer(network.spec, built.with_witness(build_twin(network.spec, built, 2))) as peer:
        peer.greet(network.urls)
        for node in network.nodes:
            node.wait_until_connected([peer.url])
        peer.announce(network.urls, built.block_id)
        for node, other in ((first, twin), (second, built), (third, twin)):
            assert node.post_block(other.raw).json()["code"] == "duplicate"
        assert network.read(count_evaluated) == [number + 1 for number in evaluated]
        assert network.read(count_twins) == twins

        # The first node does not have the witness that this child commits to, and gets it from the second.
        child = network.mine(parent_witness=twin.witness.witness_id)
        network.extend(child, first)
        assert (built.block_id, None) not in peer.asked
    assert network.read(count_evaluated) == [number + 2 for number in evaluated]
    assert network.read(count_twins) == [twins[0] + 1, twins[1], twins[2] + 1]
    assert [node.get_raw_block(built.block_id) for node in network.nodes] == [twin.raw] * 3


def test_the_independent_verifier_accepts_the_chain_of_every_node(network: RealNetwork) -> None:
    network.extend(network.mine([build_transfer(network.spec, CAROL, ALICE.public)]), network.nodes[2])
    for url in network.urls:
        assert (
            f"tip {network.tip.block_id.hex()}, chain work {network.tip.chain_work}"
            in verify_independently(url)
        )
