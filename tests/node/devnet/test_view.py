"""What the screen shows, rendered to text."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from node.devnet.blocks import BlockFacts, describe_block
from node.devnet.plan import ServiceSpec
from node.devnet.screen import LineScreen, LiveScreen, choose_screen
from node.devnet.service import Service, ServiceState
from node.devnet.view import (
    Scene,
    build_live_view,
    build_node_table,
    build_service_table,
    format_block,
    format_duration,
    shorten,
)
from node.devnet.watch import News, NodeStatus, Snapshot
from node.miner.journal import MinerStatus
from tests.node.devnet.fake_network import SPEC, build_block
from tests.node.miner.fake_node import ADDRESS, MINER

SPECS = (
    ServiceSpec("dataset", "dataset", (), "http://127.0.0.1:8600", None),
    ServiceSpec("n1", "node", (), "http://127.0.0.1:8601", None),
    ServiceSpec("m1", "miner", (), None, ADDRESS),
)
SCENE = Scene(SPEC, SPECS, "digits")
BLOCK = describe_block(SPEC, build_block(SPEC.genesis, MINER), SPEC.genesis.timestamp)


def build_services() -> tuple[Service, ...]:
    services = tuple(Service(spec, Path("log"), "token", lambda _: None) for spec in SPECS)
    for service in services:
        service.state = ServiceState.RUNNING
    return services


def build_node(name: str, **changes: object) -> NodeStatus:
    node = NodeStatus(name, ServiceState.RUNNING, True, 12, "ab" * 32, 2, 5, True, True)
    return replace(node, **changes)  # type: ignore[arg-type]


def build_snapshot(*blocks: BlockFacts) -> Snapshot:
    miner = MinerStatus("training", 7, 13, 9_000, 500, 1_000, 3, 4, 5, 4, 6, "ab", 2)
    return Snapshot(
        services=build_services(),
        nodes=(build_node("n1"), build_node("n2", is_answering=False, state=ServiceState.STARTING)),
        miners={"m1": miner},
        news=News(blocks),
        tip=BLOCK,
        attempts_by_parent={BLOCK.parent: 9},
    )


def get_text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def render(view: RenderableType, columns: int = 100, is_terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=columns, force_terminal=is_terminal)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("columns", [80, 140])
def test_the_service_table_fits_and_shows_the_address(columns: int) -> None:
    text = render(build_service_table(build_services(), columns), columns)
    assert "http://127.0.0.1:8601" in text
    assert (ADDRESS if columns == 140 else shorten(ADDRESS)) in text
    assert max(len(line) for line in text.splitlines()) <= columns


def test_the_live_view_shows_nodes_and_attempts() -> None:
    screen = render(build_live_view(SCENE, build_snapshot(), BLOCK.timestamp + 75.0, 3_725.0), 80)
    text = " ".join(screen.split())
    for words in (
        SPEC.chain_id.hex()[:12],
        "up 1:02:05",
        "block 1 1:15 ago",
        "n1 running 12 abababababab 2 5",
        "n2 starting",
        "m1 training 13 7 75.0 37.5 / 50.0 62.5 / 50.0 2",
    ):
        assert words in text, screen


def test_trouble_is_in_the_view() -> None:
    snapshot = build_snapshot()
    snapshot.services[1].reason = "killed by SIGKILL"
    snapshot.services[1].state = ServiceState.RESTARTING
    assert "n1: killed by SIGKILL" in render(build_live_view(SCENE, snapshot, 0.0, 0.0))


def test_a_fork_has_two_colours() -> None:
    same = render(build_node_table([build_node("n1"), build_node("n2")]), is_terminal=True)
    fork = render(build_node_table([build_node("n1"), build_node("n2", tip="cd" * 32)]), is_terminal=True)
    assert same.count("\x1b[36mabababababab") == 2
    assert "\x1b[36mabababababab" in fork
    assert "\x1b[35mcdcdcdcdcdcd" in fork


def test_a_node_that_lags_says_why() -> None:
    table = build_node_table([build_node("n1", is_synced=False), build_node("n2", has_dataset=False)])
    text = render(table)
    assert "syncing" in text
    assert "no dataset" in text


def test_a_block_has_its_line() -> None:
    assert format_block(SCENE, BLOCK, {BLOCK.parent: 1}) == (
        f"block 1 {BLOCK.block_id[:12]} by m1 · train 62.5 / 50.0 % · eval 50.0 / 37.5 % · 90 % frozen"
        " · 1 attempt · 20 s"
    )
    assert "· 2 transactions" in format_block(SCENE, replace(BLOCK, transactions=2), {})


def test_a_strange_miner_is_shown_by_its_address() -> None:
    assert SCENE.get_miner_name("fz1" + "q" * 58) == "fz1qqqqqqq…qqqqqq"


def test_durations() -> None:
    assert [format_duration(seconds) for seconds in (0.9, 61, 3_600)] == ["0:00", "1:01", "1:00:00"]


def test_without_a_terminal_each_event_is_a_line() -> None:
    console = Console(file=io.StringIO(), width=40)
    snapshot = build_snapshot(BLOCK)
    with choose_screen(console, SCENE) as screen:
        assert isinstance(screen, LineScreen)
        screen.show_services(snapshot.services)
        screen.note_service(snapshot.services[1])
        screen.show(snapshot)
        screen.show(replace(snapshot, news=News(replaced_height=3)))
        screen.show(replace(snapshot, news=News(resumed_height=9)))
    assert isinstance(console.file, io.StringIO)
    lines = [line[9:] for line in console.file.getvalue().splitlines()]
    assert lines == [
        "dataset dataset http://127.0.0.1:8600",
        "n1 node http://127.0.0.1:8601",
        f"m1 miner {ADDRESS}",
        "node n1 at http://127.0.0.1:8601: running",
        format_block(SCENE, BLOCK, {BLOCK.parent: 9}),
        "another branch won from block 3 on",
        "the chain goes on from block 9",
    ]


def test_on_a_terminal_blocks_scroll_above_the_view() -> None:
    console = Console(file=io.StringIO(), width=100, height=40, force_terminal=True)
    snapshot = build_snapshot(BLOCK)
    with choose_screen(console, SCENE) as screen:
        assert isinstance(screen, LiveScreen)
        screen.show_services(snapshot.services)
        screen.note_service(snapshot.services[1])
        snapshot.services[1].state = ServiceState.STARTING
        screen.show(snapshot)
        assert "FreezeNet devnet" not in get_text(console)
        snapshot.services[1].state = ServiceState.RUNNING
        screen.show(snapshot)
    text = get_text(console)
    assert "FreezeNet devnet" in text
    assert BLOCK.block_id[:12] in text
