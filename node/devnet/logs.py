"""The services' logs: their last lines, and what is added."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.devnet.control import require_plan
from node.devnet.errors import DevnetError
from node.devnet.files import DevnetFiles
from node.devnet.plan import DATASET

_LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class ServiceLog:
    """The log of one service."""

    name: str
    path: Path


def choose_logs(files: DevnetFiles, names: Sequence[str]) -> list[ServiceLog]:
    """The logs of these services, or of all. Raises DevnetError for a service that there is not."""
    plan = require_plan(files)
    known = (DATASET, *plan.node_names, *plan.miner_names)
    for name in names:
        if name not in known:
            raise DevnetError(f"there is no service {name!r}; services: {', '.join(known)}")
    return [ServiceLog(name, files.get_log(name)) for name in names or known]


def read_last_lines(log: ServiceLog, count: int) -> list[str]:
    """The last lines; none where nothing was logged."""
    try:
        lines = log.path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return lines[max(0, len(lines) - count) :]


async def follow_logs(logs: Sequence[ServiceLog], tell: Callable[[str], object]) -> None:
    """Tells every line that is added from now on, until it is cancelled."""
    positions = {log.name: _get_size(log.path) for log in logs}
    while True:
        for log in logs:
            for line in _read_added(log, positions):
                tell(f"{log.name}: {line}" if len(logs) > 1 else line)
        await asyncio.sleep(_LOOK_SECONDS)


def _read_added(log: ServiceLog, positions: dict[str, int]) -> list[str]:
    try:
        with log.path.open("rb") as file:
            file.seek(positions[log.name])
            data = file.read()
    except FileNotFoundError:
        return []
    whole = data[: data.rfind(b"\n") + 1]
    positions[log.name] += len(whole)
    return whole.decode("utf-8", errors="replace").splitlines()


def _get_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
