"""Orders to a devnet from another process: state, end, partitions. They work after a killed supervisor too.

Owns running.json, which the supervisor writes through it and everyone else only reads.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from node.devnet.errors import DevnetError, DevnetUnreachable
from node.devnet.files import DevnetFiles, read_json, write_json
from node.devnet.plan import DevnetPlan, read_plan
from node.devnet.processes import ProcessIdentity, identify_process, is_alive, stop_marked
from node.devnet.service import Service, ServiceState

SUPERVISOR_STOP_SECONDS = 30.0
LEFTOVER_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A service as running.json tells of it."""

    name: str
    role: str
    url: str | None
    address: str | None
    state: str
    process: ProcessIdentity | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a devnet, present or past."""

    token: str
    supervisor: ProcessIdentity
    services: tuple[ServiceRecord, ...]


@contextmanager
def hold_lock(files: DevnetFiles) -> Iterator[None]:
    """Holds the directory for one supervisor; the system lets go when it dies. Raises DevnetError."""
    descriptor = os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(descriptor, files)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, files: DevnetFiles) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stop = f"freezenet devnet down --dir {files.root}"
        raise DevnetError(f"a devnet runs in {files.root} already; `{stop}` stops it") from None


def write_run(files: DevnetFiles, token: str, services: Iterable[Service]) -> None:
    """Keeps the state of the calling supervisor's run."""
    supervisor = identify_process(os.getpid())
    assert supervisor is not None
    records = [
        ServiceRecord(
            service.spec.name,
            service.spec.role,
            service.spec.url,
            service.spec.address,
            service.state.value,
            service.identity,
        )
        for service in services
    ]
    write_json(files.running, asdict(Run(token, supervisor, tuple(records))))


def read_run(files: DevnetFiles) -> Run | None:
    """The present or last run; None where there was none. Raises DevnetError."""
    fields = read_json(files.running)
    if fields is None:
        return None
    try:
        return _parse_run(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise DevnetError(f"{files.running} is damaged: {error!r}") from None


def list_services(files: DevnetFiles) -> list[dict[str, Any]]:
    """Name, role, URL, address and true state of every service. Raises DevnetError without a devnet."""
    run = read_run(files)
    if run is None:
        require_plan(files)
        return []
    is_supervised = is_alive(run.supervisor)
    return [
        {
            "name": record.name,
            "role": record.role,
            "url": record.url,
            "address": record.address,
            "state": _judge_state(record, is_supervised),
        }
        for record in run.services
    ]


def stop_devnet(files: DevnetFiles) -> bool:
    """Ends the supervisor and everything it started; False where nothing ran. Raises DevnetError."""
    run = read_run(files)
    if run is None:
        require_plan(files)
        return False
    is_supervised = is_alive(run.supervisor)
    if is_supervised:
        os.kill(run.supervisor.pid, signal.SIGTERM)
        deadline = time.monotonic() + SUPERVISOR_STOP_SECONDS
        while is_alive(run.supervisor):
            if time.monotonic() > deadline:
                os.kill(run.supervisor.pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
    return stop_marked(run.token, LEFTOVER_GRACE_SECONDS) > 0 or is_supervised


def partition_devnet(
    files: DevnetFiles, groups: Sequence[Sequence[str]], transport: httpx.BaseTransport | None = None
) -> tuple[tuple[str, ...], ...]:
    """Makes the nodes of each group refuse those of all others, both ways; returns the groups.

    Nodes that no group names are one more group. Raises DevnetError.
    """
    plan = require_plan(files)
    complete = complete_groups(plan, groups)
    for group in complete:
        blocked = [plan.get_url(name) for other in complete if other is not group for name in other]
        for name in group:
            _set_blocked(files, plan, name, blocked, transport)
    return complete


def heal_devnet(files: DevnetFiles, transport: httpx.BaseTransport | None = None) -> None:
    """Lets all nodes speak with all others again. Raises DevnetError."""
    plan = require_plan(files)
    for name in plan.node_names:
        _set_blocked(files, plan, name, [], transport)


def complete_groups(plan: DevnetPlan, groups: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """The groups with what they leave out. Raises DevnetError for a name that is unknown or named twice."""
    named = [name for group in groups for name in group]
    for name in named:
        if name not in plan.node_names:
            raise DevnetError(f"there is no node {name!r}; nodes: {', '.join(plan.node_names)}")
        if named.count(name) > 1:
            raise DevnetError(f"node {name} is named twice")
    rest = tuple(name for name in plan.node_names if name not in named)
    complete = tuple(group for group in (*map(tuple, groups), rest) if group)
    if len(complete) < 2:
        raise DevnetError("a partition needs nodes on two sides")
    return complete


def require_plan(files: DevnetFiles) -> DevnetPlan:
    """The plan. Raises DevnetError where there is no devnet, or none yet."""
    plan = read_plan(files)
    if plan is None and files.lock.exists():
        raise DevnetError(
            f"the devnet in {files.root} is not prepared yet; its first start measures the machine"
        )
    if plan is None:
        raise DevnetError(f"there is no devnet in {files.root}; --dir names another directory")
    return plan


def _set_blocked(
    files: DevnetFiles,
    plan: DevnetPlan,
    name: str,
    blocked: Sequence[str],
    transport: httpx.BaseTransport | None,
) -> None:
    try:
        token = files.get_admin_token(name).read_text(encoding="utf-8").strip()
        with httpx.Client(transport=transport, trust_env=False) as http:
            response = http.post(
                f"{plan.get_url(name)}/v1/admin/partition",
                json={"blocked": list(blocked)},
                headers={"authorization": f"Bearer {token}"},
            )
            response.raise_for_status()
    except (OSError, httpx.HTTPError) as error:
        raise DevnetUnreachable(f"node {name} cannot be reached: {error}") from None


def _judge_state(record: ServiceRecord, is_supervised: bool) -> str:
    """What the supervisor wrote, as far as it can still be true."""
    lives = record.process is not None and is_alive(record.process)
    if is_supervised:
        return record.state if lives or record.process is None else ServiceState.RESTARTING.value
    return "orphaned" if lives else ServiceState.STOPPED.value


def _parse_run(fields: Mapping[str, Any]) -> Run:
    services = [
        ServiceRecord(
            **{**entry, "process": ProcessIdentity(**entry["process"]) if entry["process"] else None}
        )
        for entry in fields["services"]
    ]
    return Run(str(fields["token"]), ProcessIdentity(**fields["supervisor"]), tuple(services))
