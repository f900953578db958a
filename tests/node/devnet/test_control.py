"""Orders from outside: the state of services, the end of a run, partitions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from node.devnet.control import (
    complete_groups,
    heal_devnet,
    hold_lock,
    list_services,
    partition_devnet,
    read_run,
    stop_devnet,
    write_run,
)
from node.devnet.errors import DevnetError, DevnetUnreachable
from node.devnet.files import DevnetFiles, read_json, write_json
from node.devnet.plan import ServiceSpec, write_plan
from node.devnet.processes import identify_process
from node.devnet.service import Service, ServiceState
from tests.node.devnet.test_plan import PLAN
from tests.node.devnet.test_processes import OURS, SLEEP, child
from tests.node.devnet.waiting import is_running


def build_service(state: ServiceState, pid: int | None = None) -> Service:
    spec = ServiceSpec("n1", "node", (), "http://n1", None)
    service = Service(spec, Path("log"), OURS, lambda _: None)
    service.state = state
    service.identity = identify_process(pid) if pid is not None else None
    return service


def pretend_dead_supervisor(files: DevnetFiles) -> None:
    """As after a kill -9: the process id may even be somebody else's by now."""
    fields = read_json(files.running)
    assert fields is not None
    fields["supervisor"] = {"pid": os.getpid(), "started": "long ago"}
    write_json(files.running, fields)


def get_state(files: DevnetFiles) -> str:
    (service,) = list_services(files)
    return str(service["state"])


def test_services_are_listed_as_they_are(tmp_path: Path) -> None:
    files = DevnetFiles(tmp_path)
    with child(SLEEP, OURS) as (process, _):
        write_run(files, OURS, [build_service(ServiceState.RUNNING, process.pid)])
        assert list_services(files) == [
            {"name": "n1", "role": "node", "url": "http://n1", "address": None, "state": "running"}
        ]
        pretend_dead_supervisor(files)
        assert get_state(files) == "orphaned"
    assert get_state(files) == "stopped"


def test_a_service_that_just_died_is_not_said_to_run(tmp_path: Path) -> None:
    files = DevnetFiles(tmp_path)
    with child(SLEEP, OURS) as (process, _):
        write_run(files, OURS, [build_service(ServiceState.RUNNING, process.pid)])
    assert get_state(files) == "restarting"


def test_down_after_a_killed_supervisor_ends_what_is_left(tmp_path: Path) -> None:
    files = DevnetFiles(tmp_path)
    with child(SLEEP, OURS) as (process, _), child(SLEEP, None) as (stranger, _):
        write_run(files, OURS, [build_service(ServiceState.RUNNING, process.pid)])
        pretend_dead_supervisor(files)
        assert stop_devnet(files)
        assert process.wait() == -15
        assert is_running(stranger.pid)
    assert not stop_devnet(files)


def test_down_never_signals_a_process_that_took_over_an_id(tmp_path: Path) -> None:
    files = DevnetFiles(tmp_path)
    with child(SLEEP, None) as (stranger, _):
        service = build_service(ServiceState.RUNNING, stranger.pid)
        assert service.identity is not None
        service.identity = replace(service.identity, started="long ago")
        write_run(files, OURS, [service])
        pretend_dead_supervisor(files)
        assert not stop_devnet(files)
        assert is_running(stranger.pid)


HOLDER = """
import sys
from pathlib import Path
from node.devnet.control import hold_lock
from node.devnet.files import DevnetFiles
with hold_lock(DevnetFiles(Path(sys.argv[1]))):
    print(flush=True)
    sys.stdin.read()
"""


def test_one_directory_has_one_supervisor(tmp_path: Path) -> None:
    files = DevnetFiles(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(DevnetError, match=r"runs in .* already"), hold_lock(files):
            pass
        holder.kill()
    with hold_lock(files):
        pass


def test_orders_need_a_devnet(tmp_path: Path) -> None:
    files = DevnetFiles(tmp_path)
    for order in (list_services, stop_devnet, heal_devnet):
        with pytest.raises(DevnetError, match="there is no devnet in"):
            order(files)


def test_rejects_a_damaged_state(tmp_path: Path) -> None:
    files = DevnetFiles(tmp_path)
    files.running.write_text('{"token": "t"}', encoding="utf-8")
    with pytest.raises(DevnetError, match=r"running\.json is damaged"):
        read_run(files)


def test_groups_are_completed() -> None:
    assert complete_groups(PLAN, [["n1", "n2"], ["n3"]]) == (("n1", "n2"), ("n3",))
    assert complete_groups(PLAN, [["n2"]]) == (("n2",), ("n1", "n3"))


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ([["n1"], ["n9"]], "no node 'n9'"),
        ([["n1"], ["n1", "n2"]], "named twice"),
        ([["n1", "n2", "n3"]], "two sides"),
    ],
)
def test_rejects_groups(groups: list[list[str]], reason: str) -> None:
    with pytest.raises(DevnetError, match=reason):
        complete_groups(PLAN, groups)


class Nodes:
    """What the nodes were told."""

    def __init__(self) -> None:
        self.blocked: dict[int | None, Any] = {}
        self.tokens: set[str] = set()

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/admin/partition"
        self.blocked[request.url.port] = json.loads(request.content)["blocked"]
        self.tokens.add(request.headers["authorization"])
        return httpx.Response(200, json={})


def build_files(tmp_path: Path) -> DevnetFiles:
    files = DevnetFiles(tmp_path)
    write_plan(files, PLAN)
    for name in PLAN.node_names:
        files.get_service(name).mkdir()
        files.get_admin_token(name).write_text(f"secret-{name}\n", encoding="utf-8")
    return files


def test_a_partition_is_told_to_both_sides_and_healed(tmp_path: Path) -> None:
    files, nodes = build_files(tmp_path), Nodes()
    assert partition_devnet(files, [["n1", "n2"], ["n3"]], nodes.transport) == (("n1", "n2"), ("n3",))
    n1, n2, n3 = (PLAN.get_url(name) for name in PLAN.node_names)
    assert nodes.blocked == {2: [n3], 3: [n3], 4: [n1, n2]}
    assert nodes.tokens == {"Bearer secret-n1", "Bearer secret-n2", "Bearer secret-n3"}
    heal_devnet(files, nodes.transport)
    assert nodes.blocked == {2: [], 3: [], 4: []}


def test_a_node_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    files = build_files(tmp_path)
    files.get_admin_token("n2").unlink()
    with pytest.raises(DevnetUnreachable, match="node n2 cannot be reached"):
        heal_devnet(files, Nodes().transport)
