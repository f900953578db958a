"""Builds the image, runs the composed devnet until it agrees on a few blocks, and takes it down again.

    python3 docker/check.py [--height 3] [--timeout 600]

Needs a container engine, docker-compose and nothing of ours. Prints a line a stage; exit code 0 where every
node reached the height on one tip, over the ports that the composition publishes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NODES = {"node1": "http://127.0.0.1:8645", "node2": "http://127.0.0.1:8646", "node3": "http://127.0.0.1:8647"}
PROJECT = "freezenet-check"


def main() -> int:
    """Runs the check; the composition is taken down whatever happens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--height", type=int, default=3, help="blocks that every node must have")
    parser.add_argument(
        "--timeout", type=float, default=600, help="seconds for those blocks, building not counted"
    )
    arguments = parser.parse_args()
    started = time.monotonic()
    engine = read("docker", "version", "--format", "{{.Server.Version}}")
    say(f"engine {engine}, {read('docker-compose', '--version')}")
    compose("build", "--quiet")
    say(f"image built in {time.monotonic() - started:.0f} s: {describe_image()}")
    try:
        compose("up", "--detach", "--no-build")
        chains = wait_for_agreement(arguments.height, arguments.timeout)
        report(chains)
        return 0
    except TimeoutError as error:
        say(f"failed: {error}")
        compose("ps")
        compose("logs", "--tail", "20")
        return 1
    finally:
        compose("down", "--volumes", "--timeout", "10")
        say("taken down")


def wait_for_agreement(height: int, timeout_seconds: float) -> dict[str, Any]:
    """What each node says of its chain once all are at `height` on one tip. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_seconds
    chains: dict[str, Any] = {}
    lowest = -1
    while time.monotonic() < deadline:
        chains = {name: get(f"{url}/v1/chain") for name, url in NODES.items()}
        heights = [-1 if chain is None else chain["height"] for chain in chains.values()]
        if min(heights) > lowest:
            lowest = min(heights)
            say(f"every node at height {lowest}")
        if lowest >= height and len({chain["tip"] for chain in chains.values()}) == 1:
            return chains
        time.sleep(1)
    raise TimeoutError(f"no agreement at height {height} within {timeout_seconds:.0f} s: {chains}")


def report(chains: dict[str, Any]) -> None:
    """The tips, the blocks below them, and who runs as which user."""
    for name, chain in chains.items():
        say(f"{name}: height {chain['height']}, tip {chain['tip']}, chain work {chain['chain_work']}")
    for block in (get(f"{NODES['node1']}/v1/blocks") or {"items": []})["items"]:
        if block["height"] == 0:
            continue  # genesis has no network
        counts = f"{block['train_correct']} train and {block['eval_correct']} eval records right"
        say(f"block {block['height']} {block['id'][:12]} by {block['miner'][:12]}: {counts}")
    for path in ("/", "/static/explorer.js"):
        with urllib.request.urlopen(NODES["node1"] + path, timeout=5) as response:
            kind, size = response.headers["Content-Type"], len(response.read())
        say(f"{path}: {response.status}, {kind}, {size:,} bytes")
    say(f"node1 runs as {read(*compose_command('exec', '-T', 'node1', 'id'))}")


def describe_image() -> str:
    """The image's size."""
    size_bytes = int(read("docker", "image", "inspect", "freezenet", "--format", "{{.Size}}"))
    return f"{size_bytes / 2**30:.1f} GiB"


def get(url: str) -> Any:
    """The JSON behind a URL; None where nothing answers yet."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.load(response)
    except (urllib.error.URLError, OSError, ValueError):
        return None


def compose_command(*words: str) -> list[str]:
    """A docker-compose command on a project of its own, so that no other devnet is touched."""
    return ["docker-compose", "--project-name", PROJECT, *words]


def compose(*words: str) -> None:
    """Runs docker-compose; its output goes to stderr. Raises CalledProcessError."""
    subprocess.run(compose_command(*words), cwd=ROOT, check=True, stdout=sys.stderr)


def read(*command: str) -> str:
    """The output of a command. Raises CalledProcessError."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def say(line: str) -> None:
    """A line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
