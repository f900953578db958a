"""The supervisor: starts a devnet's services in order, looks on, tells the screen, and ends them in reverse.

However it ends, nothing that it started goes on: by itself, by Ctrl-C, and through the guard by kill -9.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from consensus.params import ChainSpec
from node.devnet.blocks import NodeSilent
from node.devnet.control import write_run
from node.devnet.errors import DevnetError
from node.devnet.files import DevnetFiles
from node.devnet.plan import Role, ServiceSpec
from node.devnet.processes import guarding, stop_marked
from node.devnet.report import build_report, find_disagreement
from node.devnet.screen import Screen
from node.devnet.service import Service, ServiceState
from node.devnet.watch import Snapshot, Watch

LOOK_SECONDS = 1.0
DATASET_START_SECONDS = 20.0
_START_ORDER: tuple[Role, ...] = ("dataset", "node", "miner")


@dataclass(frozen=True, slots=True)
class Goal:
    """When a headless run is done."""

    blocks: int
    """Height that every node must reach."""
    timeout_seconds: float


class Supervisor:
    """One run of a devnet."""

    def __init__(
        self,
        files: DevnetFiles,
        spec: ChainSpec,
        services: Sequence[ServiceSpec],
        screen: Screen,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._files = files
        self._spec = spec
        self._screen = screen
        self._look_seconds = look_seconds
        self._token = secrets.token_hex(16)
        self._trouble: OSError | None = None
        self.services = tuple(
            Service(service, files.get_log(service.name), self._token, self._note_change)
            for service in services
        )

    async def run(self, goal: Goal | None) -> dict[str, Any] | None:
        """Runs until the goal is reached, which gives the report, or until it is cancelled.

        Raises DevnetError, and OSError where the directory cannot be written.
        """
        with guarding(self._token), self._screen:
            self._screen.show_services(self.services)
            watch = Watch(self._spec, self._files, self.services)
            try:
                async with self._running(watch):
                    return await self._look_on(watch, goal)
            finally:
                await watch.close()

    @asynccontextmanager
    async def _running(self, watch: Watch) -> AsyncIterator[None]:
        try:
            self._start("dataset")
            await self._wait_for_dataset(watch)
            self._start("node")
            self._start("miner")
            yield
        finally:
            await self._stop_all()

    def _start(self, role: Role) -> None:
        for service in self._get_services(role):
            service.start()

    async def _wait_for_dataset(self, watch: Watch) -> None:
        """The nodes ask for the dataset as soon as they live."""
        deadline = time.monotonic() + DATASET_START_SECONDS
        while not all(s.state is ServiceState.RUNNING for s in self._get_services("dataset")):
            if time.monotonic() > deadline:
                return
            await watch.look()
            await asyncio.sleep(0.1)

    async def _look_on(self, watch: Watch, goal: Goal | None) -> dict[str, Any] | None:
        deadline = time.monotonic() + goal.timeout_seconds if goal else 0.0
        while True:
            snapshot = await watch.look()
            self._screen.show(snapshot)
            if self._trouble is not None:
                raise self._trouble
            if goal is not None:
                self._check_services()
                reason = find_disagreement(snapshot.nodes, goal.blocks)
                if reason is None:
                    return await self._build_report(watch, snapshot)
                if time.monotonic() > deadline:
                    raise DevnetError(f"after {goal.timeout_seconds:g} s {reason}")
            await asyncio.sleep(self._look_seconds)

    def _check_services(self) -> None:
        for service in self.services:
            if service.state is ServiceState.FAILED:
                raise DevnetError(f"{service.spec.role} {service.spec.name} failed: {service.reason}")

    async def _build_report(self, watch: Watch, snapshot: Snapshot) -> dict[str, Any]:
        specs = [service.spec for service in self.services]
        try:
            return await build_report(
                watch.http, self._spec, specs, snapshot.nodes, watch.count_miner_attempts()
            )
        except NodeSilent as error:
            raise DevnetError(f"the nodes agree, but the report cannot be made: {error}") from None

    async def _stop_all(self) -> None:
        """Miners first: they would report nodes that are gone."""
        self._screen.tell("stopping every process")
        for role in reversed(_START_ORDER):
            await asyncio.gather(*(service.stop() for service in self._get_services(role)))
        await asyncio.to_thread(stop_marked, self._token, 0.0)
        self._screen.tell("every process has stopped")

    def _get_services(self, role: Role) -> list[Service]:
        return [service for service in self.services if service.spec.role == role]

    def _note_change(self, service: Service) -> None:
        try:
            write_run(self._files, self._token, self.services)
        except OSError as error:
            self._trouble = error
        self._screen.note_service(service)
