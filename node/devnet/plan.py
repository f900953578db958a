"""The plan of a devnet: which services it has, where they listen and how they are started.

Owns names, ports and command lines. Fixing the chain is `node.devnet.creation`'s, running the supervisor's.
"""

from __future__ import annotations

import errno
import re
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Literal

from node.devnet.accounts import build_key
from node.devnet.errors import DevnetError
from node.devnet.files import DevnetFiles, read_json, write_json

Role = Literal["dataset", "node", "miner"]

HOST = "127.0.0.1"
FIRST_PORT = 8600
"""Where the search for free ports begins."""
_LAST_PORT = 60_000
DATASET = "dataset"
_NUMBERED = re.compile(r"[nm][1-9][0-9]*")
"""Nodes and miners."""
# -P: what lies in the directory of the caller must never pass for one of our packages.
_FREEZENET = (sys.executable, "-P", "-m", "node")


@dataclass(frozen=True, slots=True)
class DevnetPlan:
    """What was asked for, and the ports that were found for it."""

    task: str
    seed: str
    """Of every key."""
    nodes: int
    miners: int
    base_port: int | None
    """The first of consecutive ports, where the operator named one."""
    ports: dict[str, int]
    """Service name → port, for the dataset server and the nodes."""

    @property
    def node_names(self) -> tuple[str, ...]:
        """n1, n2, …"""
        return tuple(f"n{number}" for number in range(1, self.nodes + 1))

    @property
    def miner_names(self) -> tuple[str, ...]:
        """m1, m2, …"""
        return tuple(f"m{number}" for number in range(1, self.miners + 1))

    def get_url(self, name: str) -> str:
        """The URL of a service that listens."""
        return f"http://{HOST}:{self.ports[name]}"


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One process of the devnet."""

    name: str
    role: Role
    command: tuple[str, ...]
    url: str | None
    """Where it listens; a miner does not."""
    address: str | None
    """Whom a miner credits."""


def is_service_name(name: str) -> bool:
    """Whether a plan may have a service of this name, and a directory for it."""
    return name == DATASET or _NUMBERED.fullmatch(name) is not None


def read_plan(files: DevnetFiles) -> DevnetPlan | None:
    """The plan of a devnet that was created; None where there is none. Raises DevnetError."""
    fields = read_json(files.plan)
    if fields is None:
        return None
    try:
        return DevnetPlan(**fields)
    except TypeError as error:
        raise DevnetError(f"{files.plan} is damaged: {error}") from None


def write_plan(files: DevnetFiles, plan: DevnetPlan) -> None:
    """Keeps the plan for the next run."""
    write_json(files.plan, asdict(plan))


def assign_ports(plan: DevnetPlan) -> DevnetPlan:
    """The plan with a port for every service that listens.

    From a named base port on they are consecutive, and one that is taken raises DevnetError. Otherwise a kept
    port stays where it is free, and free ones are searched for the rest.
    """
    names = (DATASET, *plan.node_names)
    if plan.base_port is not None:
        ports = {name: plan.base_port + place for place, name in enumerate(names)}
        for name, port in ports.items():
            _check_port(name, port)
        return replace(plan, ports=ports)
    kept = {name: port for name, port in plan.ports.items() if name in names and is_port_free(port)}
    searched = _search_ports(set(kept.values()))
    return replace(plan, ports={name: kept.get(name) or next(searched) for name in names})


def is_port_free(port: int) -> bool:
    """Whether a server could listen there now."""
    return _try_port(port) is None


def build_services(plan: DevnetPlan, files: DevnetFiles) -> tuple[ServiceSpec, ...]:
    """Every service in the order in which they are started."""
    root = DevnetFiles(files.root.resolve())
    return (
        _build_dataset(plan, root),
        *(_build_node(plan, root, name) for name in plan.node_names),
        *(_build_miner(plan, root, number) for number in range(plan.miners)),
    )


def _build_dataset(plan: DevnetPlan, files: DevnetFiles) -> ServiceSpec:
    place = ("--host", HOST, "--port", str(plan.ports[DATASET]))
    command = (*_FREEZENET, "dataset", "serve", "--dir", str(files.dataset_store), *place)
    return ServiceSpec(DATASET, "dataset", command, plan.get_url(DATASET), None)


def _build_node(plan: DevnetPlan, files: DevnetFiles, name: str) -> ServiceSpec:
    peers = (plan.get_url(other) for other in plan.node_names if other != name)
    command = (
        *(*_FREEZENET, "node", "run", "--dir", str(files.get_service(name)), "--chain", str(files.chain)),
        *("--host", HOST, "--port", str(plan.ports[name]), "--allow-private-peers"),
        *_repeat("--peer", peers),
        *("--dataset-source", plan.get_url(DATASET)),
    )
    return ServiceSpec(name, "node", command, plan.get_url(name), None)


def _build_miner(plan: DevnetPlan, files: DevnetFiles, number: int) -> ServiceSpec:
    """Each miner has a node of its own, and the others for when that one is gone."""
    name = plan.miner_names[number]
    address = build_key(plan.seed, name).address
    home = number % plan.nodes
    urls = [plan.get_url(node) for node in plan.node_names[home:] + plan.node_names[:home]]
    command = (
        *(*_FREEZENET, "miner", "run", "--dir", str(files.get_service(name)), "--address", address),
        *_repeat("--node", urls),
        *("--threads", "1"),
    )
    return ServiceSpec(name, "miner", command, None, address)


def _repeat(option: str, values: Iterable[str]) -> tuple[str, ...]:
    return tuple(word for value in values for word in (option, value))


def _search_ports(taken: set[int]) -> Iterator[int]:
    for port in range(FIRST_PORT, _LAST_PORT):
        if port not in taken and is_port_free(port):
            yield port
    raise DevnetError("no free port was found")


def _check_port(name: str, port: int) -> None:
    error = _try_port(port)
    if error is None:
        return
    if error.errno == errno.EADDRINUSE:
        raise DevnetError(f"port {port}, wanted for {name}, is taken: choose another --base-port")
    raise DevnetError(f"port {port}, wanted for {name}, cannot be used: {error.strerror or error}")


def _try_port(port: int) -> OSError | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # As servers do: a port whose last connections linger is free all the same.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError) as error:
            return error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))
    return None
