"""A devnet of stubs; as a process, python -m tests.node.devnet.stub_devnet DIR, it prints the pids."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from node.cli.running import run_until_interrupted
from node.devnet.files import DevnetFiles
from node.devnet.plan import ServiceSpec
from node.devnet.screen import LineScreen
from node.devnet.service import Service, ServiceState
from node.devnet.supervisor import Goal, Supervisor
from node.devnet.view import Scene
from tests.node.devnet.fake_network import SPEC
from tests.node.devnet.test_processes import PARENT
from tests.node.miner.fake_node import ADDRESS

MINER = f"""
import json, pathlib, sys
event = {{"event": "attempt", "parent": sys.argv[1], "attempt": 1, "height": 1}}
with pathlib.Path(sys.argv[2]).open("a") as file:
    print(json.dumps(event), file=file)
{PARENT}
"""


def find_port() -> int:
    """A port that is free now; the system hands out others for a while."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def build_node(name: str, blocks: int) -> ServiceSpec:
    """A node that has so many blocks at once."""
    port = find_port()
    command = (sys.executable, "-m", "tests.node.devnet.stub_node", str(port), str(blocks))
    return ServiceSpec(name, "node", command, f"http://127.0.0.1:{port}", None)


def build_dataset() -> ServiceSpec:
    """A server of nothing."""
    port = find_port()
    command = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port))
    return ServiceSpec("dataset", "dataset", command, f"http://127.0.0.1:{port}", None)


def build_miner(files: DevnetFiles) -> ServiceSpec:
    """A miner with a child that ignores SIGTERM; it makes one attempt on genesis."""
    status = files.get_status("m1")
    status.parent.mkdir(parents=True, exist_ok=True)
    command = (sys.executable, "-c", MINER, SPEC.chain_id.hex(), str(status))
    return ServiceSpec("m1", "miner", command, None, ADDRESS)


class RecordingScreen(LineScreen):
    """Keeps every line, and tells when all services run."""

    def __init__(self, services: Iterable[ServiceSpec]) -> None:
        super().__init__(Console(quiet=True), Scene(SPEC, tuple(services), "digits"))
        self.lines: list[str] = []
        self.pids: dict[str, int] = {}

    def tell(self, line: str) -> None:
        self.lines.append(line)

    def note_service(self, service: Service) -> None:
        super().note_service(service)
        if service.state is ServiceState.RUNNING and service.identity is not None:
            self.pids[service.spec.name] = service.identity.pid


class PrintingScreen(RecordingScreen):
    """Prints the process ids once all services run."""

    def note_service(self, service: Service) -> None:
        super().note_service(service)
        if len(self.pids) == 4:
            print(*self.pids.values(), flush=True)


def build_stub_services(files: DevnetFiles, heights: Iterable[int]) -> list[ServiceSpec]:
    """A dataset server, a node for each height, and a miner."""
    nodes = [build_node(f"n{number}", height) for number, height in enumerate(heights, 1)]
    return [build_dataset(), *nodes, build_miner(files)]


async def run_stubs(
    files: DevnetFiles, services: list[ServiceSpec], screen: RecordingScreen, goal: Goal | None
) -> object:
    """One run to the goal, or until it is cancelled."""
    async with asyncio.timeout(60):
        return await Supervisor(files, SPEC, services, screen, look_seconds=0.05).run(goal)


async def main(directory: Path) -> None:
    files = DevnetFiles(directory)
    services = build_stub_services(files, (2, 2))
    await run_stubs(files, services, PrintingScreen(services), None)


if __name__ == "__main__":
    run_until_interrupted(main(Path(sys.argv[1])))
