"""Names, ports and command lines."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from node.devnet.accounts import build_key
from node.devnet.errors import DevnetError
from node.devnet.files import DevnetFiles
from node.devnet.plan import (
    HOST,
    DevnetPlan,
    assign_ports,
    build_services,
    is_port_free,
    read_plan,
    write_plan,
)

PLAN = DevnetPlan("digits", "devnet", 3, 2, None, {"dataset": 1, "n1": 2, "n2": 3, "n3": 4})


@contextmanager
def listener() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_plan_is_kept(tmp_path: Path) -> None:
    files = DevnetFiles(tmp_path)
    assert read_plan(files) is None
    write_plan(files, PLAN)
    assert read_plan(files) == PLAN


@pytest.mark.parametrize("text", ["{", "[]", '{"task": "digits"}'])
def test_rejects_a_damaged_plan(tmp_path: Path, text: str) -> None:
    files = DevnetFiles(tmp_path)
    files.plan.write_text(text, encoding="utf-8")
    with pytest.raises(DevnetError, match=r"devnet\.json is damaged"):
        read_plan(files)


def test_free_ports_are_found_and_differ() -> None:
    ports = assign_ports(replace(PLAN, ports={})).ports
    assert list(ports) == ["dataset", "n1", "n2", "n3"]
    assert len(set(ports.values())) == 4
    assert all(is_port_free(port) for port in ports.values())


def test_kept_ports_stay_unless_they_are_taken() -> None:
    first = assign_ports(replace(PLAN, ports={})).ports
    with listener() as taken:
        again = assign_ports(replace(PLAN, ports={**first, "n2": taken})).ports
    assert {name: port for name, port in again.items() if name != "n2"} == {
        name: port for name, port in first.items() if name != "n2"
    }
    assert again["n2"] not in (taken, *(port for name, port in first.items() if name != "n2"))


def test_named_ports_are_consecutive() -> None:
    base = assign_ports(replace(PLAN, ports={})).ports["n3"] + 10_000
    ports = assign_ports(replace(PLAN, base_port=base)).ports
    assert list(ports.values()) == [base, base + 1, base + 2, base + 3]


def test_rejects_a_named_port_that_is_taken() -> None:
    with listener() as taken, pytest.raises(DevnetError, match=f"port {taken}, wanted for dataset, is taken"):
        assign_ports(replace(PLAN, base_port=taken))


def test_rejects_a_port_that_does_not_exist() -> None:
    with pytest.raises(DevnetError, match="cannot be used"):
        assign_ports(replace(PLAN, base_port=65_534))


def test_services_know_each_other(tmp_path: Path) -> None:
    services = {service.name: service for service in build_services(PLAN, DevnetFiles(tmp_path))}
    assert [service.role for service in services.values()] == ["dataset", *["node"] * 3, *["miner"] * 2]
    node = services["n2"].command
    assert [node[place + 1] for place, word in enumerate(node) if word == "--peer"] == [
        "http://127.0.0.1:2",
        "http://127.0.0.1:4",
    ]
    assert node[node.index("--dataset-source") + 1] == services["dataset"].url
    assert node[node.index("--port") + 1] == "3"
    assert str(tmp_path / "chain.json") in node


def test_each_miner_has_its_own_node_first(tmp_path: Path) -> None:
    services = {service.name: service for service in build_services(PLAN, DevnetFiles(tmp_path))}
    miner = services["m2"]
    urls = [miner.command[p + 1] for p, word in enumerate(miner.command) if word == "--node"]
    assert urls == ["http://127.0.0.1:3", "http://127.0.0.1:4", "http://127.0.0.1:2"]
    assert miner.url is None
    assert miner.address == build_key("devnet", "m2").address


def test_commands_hold_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for service in build_services(PLAN, DevnetFiles(Path("d"))):
        place = service.command.index("--dir")
        assert Path(service.command[place + 1]).is_absolute()
