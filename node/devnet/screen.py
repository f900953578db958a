"""Screens of a devnet: a live view on a terminal, a line an event elsewhere. Both are told, neither looks."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live

from node.devnet.service import Service, ServiceState
from node.devnet.view import (
    Scene,
    build_hint,
    build_live_view,
    build_service_table,
    format_block,
    format_service,
)
from node.devnet.watch import Snapshot


class Screen(Protocol):
    """Shows a devnet while it is entered."""

    def __enter__(self) -> Self:
        """Begins."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends, leaving the terminal as it was."""

    def tell(self, line: str) -> None:
        """Shows a line."""

    def show_services(self, services: Iterable[Service]) -> None:
        """Shows the service table."""

    def note_service(self, service: Service) -> None:
        """A service's state changed."""

    def show(self, snapshot: Snapshot) -> None:
        """Shows what is new in a snapshot."""


class LineScreen:
    """A line an event."""

    def __init__(self, console: Console, scene: Scene) -> None:
        self._console = console
        self._scene = scene

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def tell(self, line: str) -> None:
        """Prints a line."""
        print_line(self._console, line)

    def show_services(self, services: Iterable[Service]) -> None:
        """Prints a line a service, with its whole address."""
        for service in services:
            spec = service.spec
            self.tell(" ".join(filter(None, (spec.name, spec.role, spec.url, spec.address))))

    def note_service(self, service: Service) -> None:
        """Prints the change."""
        self.tell(format_service(service))

    def show(self, snapshot: Snapshot) -> None:
        """Prints a line a block."""
        for line in list_news(self._scene, snapshot):
            self.tell(line)


class LiveScreen:
    """The service table, then a view that is drawn anew, with a line a block scrolling above it."""

    def __init__(self, console: Console, scene: Scene) -> None:
        self._console = console
        self._scene = scene
        self._began = time.monotonic()
        self._live = Live(console=console, refresh_per_second=4, vertical_overflow="crop")
        self._is_table_kept = False
        self._view: RenderableType | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._view is not None:
            self._live.update(self._view)
        self._live.stop()

    def tell(self, line: str) -> None:
        """Prints a line above the view."""
        print_line(self._console, line)

    def show_services(self, services: Iterable[Service]) -> None:
        """Shows the table until every service runs; it then stays above the view."""
        self._live.update(build_service_table(services, self._console.width))

    def note_service(self, service: Service) -> None:
        """Prints what went wrong; the rest is in the view."""
        if service.state in (ServiceState.RESTARTING, ServiceState.FAILED):
            self.tell(format_service(service))

    def show(self, snapshot: Snapshot) -> None:
        """Draws the view, and prints a line a block above it."""
        for line in list_news(self._scene, snapshot):
            self.tell(line)
        if not self._is_table_kept and not self._keep_table(snapshot):
            self.show_services(snapshot.services)
            return
        up_seconds = time.monotonic() - self._began
        self._view = build_live_view(self._scene, snapshot, time.time(), up_seconds)
        self._live.update(Group(self._view, build_hint()))

    def _keep_table(self, snapshot: Snapshot) -> bool:
        """Prints the table for good once nothing in it is about to change."""
        states = {service.state for service in snapshot.services}
        self._is_table_kept = states <= {ServiceState.RUNNING, ServiceState.FAILED}
        if self._is_table_kept:
            table = build_service_table(snapshot.services, self._console.width)
            self._console.print("", table, "", sep="\n")
        return self._is_table_kept


def choose_screen(console: Console, scene: Scene) -> Screen:
    """The live view where the console is a terminal, lines elsewhere."""
    return LiveScreen(console, scene) if console.is_terminal else LineScreen(console, scene)


def print_line(console: Console, line: str) -> None:
    """One line, unwrapped and without styles of its own; with the time where nobody looks on."""
    stamp = "" if console.is_terminal else time.strftime("%H:%M:%S ")
    console.print(f"{stamp}{line}", markup=False, highlight=False, soft_wrap=True)


def list_news(scene: Scene, snapshot: Snapshot) -> list[str]:
    """What is new on the chain, a line each."""
    news = snapshot.news
    lines = []
    if news.resumed_height:
        lines.append(f"the chain goes on from block {news.resumed_height}")
    if news.replaced_height is not None:
        lines.append(f"another branch won from block {news.replaced_height} on")
    lines += [format_block(scene, block, snapshot.attempts_by_parent) for block in news.blocks]
    return lines
