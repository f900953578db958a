"""kill -9 of nodes of a running network at random: `python tests/acceptance/random_kill.py --times 5`.

Three real nodes agree on blocks that flow without pause. Again and again one of them is killed, its
database checked by `freezenet db check`, started with the real command, and waited for until it has caught
up. Prints a line for each; exits 1 where a database is unsound, a node does not come back, or the nodes
disagree at the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from chain.database import check_database
from tests.acceptance.block_feed import BlockFeed
from tests.acceptance.node_process import NodeProcess, run_command, wait_until
from tests.acceptance.real_network import RealNetwork, run_network
from tests.acceptance.scene import build_scene

NODES = 3
MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 4.0
CATCH_UP_SECONDS = 90.0
HEADING = (
    f"{'kill':>4}  {'node':4}  {'after':>7}  {'height':>6}  {'within a commit':15}  {'db check':8}  caught up"
)


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill and what came after it."""

    number: int
    node: str
    after_seconds: float
    height: int
    """Of the chain when the node was killed."""
    is_within_commit: bool
    """Whether its log ends between the beginning and the end of a commit."""
    problems: str
    """What the check of its database found; empty where it is sound."""
    caught_up_height: int
    caught_up_seconds: float

    def __str__(self) -> str:
        within = "yes" if self.is_within_commit else "no"
        checked = "unsound" if self.problems else "sound"
        return (
            f"{self.number:>4}  {self.node:4}  {self.after_seconds:>5.1f} s  {self.height:>6}  {within:15}"
            f"  {checked:8}  at {self.caught_up_height} in {self.caught_up_seconds:.1f} s"
        )


def kill_and_revive(number: int, network: RealNetwork, feed: BlockFeed, random: Random) -> Kill:
    """Kill a random node after a random time, check it, start it, and wait until it has caught up."""
    index = random.randrange(len(network.nodes))
    node, wait_seconds = network.nodes[index], random.uniform(MIN_WAIT_SECONDS, MAX_WAIT_SECONDS)
    time.sleep(wait_seconds)
    height = feed.tip.height
    node.kill()
    within, problems = is_within_commit(node), check(node)
    began, target = time.monotonic(), feed.tip
    node.start()
    wait_until(
        lambda: node.get("/v1/chain")["height"] >= target.height or feed.failure is not None,
        f"{node.url} catches up with height {target.height}\n{node.log}",
        CATCH_UP_SECONDS,
    )
    if feed.failure is not None:
        raise feed.failure
    seconds, reached = time.monotonic() - began, int(node.get("/v1/chain")["height"])
    return Kill(number, f"n{index + 1}", wait_seconds, height, within, problems, reached, seconds)


def is_within_commit(node: NodeProcess) -> bool:
    """Whether a killed node's log ends within a commit."""
    return node.log.rfind("commit-begin ") > node.log.rfind("commit-done ")


def check(node: NodeProcess) -> str:
    """What `freezenet db check` has to say about a node that does not run."""
    checked = run_command("db", "check", "--dir", str(node.directory))
    return checked.stdout + checked.stderr if checked.returncode else ""


def run(directory: Path, times: int, random: Random) -> list[str]:
    """Print a line for each kill; returns everything that is wrong."""
    scene, wrong = build_scene(), []
    with run_network(directory, scene.spec, [scene.first, scene.tip], NODES) as network:
        print(HEADING)
        with BlockFeed(network, random) as feed:
            for number in range(1, times + 1):
                kill = kill_and_revive(number, network, feed, random)
                print(kill, flush=True)
                wrong += [kill.problems] if kill.problems else []
        network.tip = feed.tip
        network.wait_for_tip()
        print(f"all nodes at height {network.tip.height}, tip {network.tip.block_id.hex()}")
    for node in network.nodes:
        wrong += check_database(node.database_path, scene.spec)
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every node came back sound and all agree, else 1."""
    parser = argparse.ArgumentParser(description="Kill nodes of a running network at random moments.")
    parser.add_argument("--times", type=int, default=5, help="kills, 5 by default")
    parser.add_argument(
        "--seed", type=int, help="of the choice of nodes and moments; a random one by default"
    )
    options = parser.parse_args(arguments)
    seed = Random().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="freezenet-kill-") as directory:
        try:
            wrong = run(Path(directory), options.times, Random(seed))
        except AssertionError as error:
            wrong = [str(error)]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
