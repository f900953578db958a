"""`freezenet devnet`: a whole network on this machine. Owns words and exit codes, node.devnet the work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.errors import CommandError, NodeUnreachable, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from node.devnet.creation import DevnetOrder
    from node.devnet.files import DevnetFiles

app = typer.Typer(no_args_is_help=True)

INTERVALS_PER_BLOCK = 3
START_SECONDS = 180

DirOption = Annotated[Path, typer.Option("--dir", help="The devnet's directory.")]
NodesOption = Annotated[int | None, typer.Option(min=1, max=64, help="Number of nodes (3).")]
MinersOption = Annotated[int | None, typer.Option(min=0, max=64, help="Number of miners (2).")]
TaskOption = Annotated[
    str | None, typer.Option(help="What the miners train: digits (the default), fashion-mnist or cifar10.")
]
SourceOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the dataset's files lie; without it they are downloaded."),
]
SeedOption = Annotated[str | None, typer.Option(help="Seed of every key (devnet).")]
PortOption = Annotated[
    int | None,
    typer.Option(min=1, max=65_000, help="First of consecutive ports; free ones where none is named."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON alone; lines go to stderr.")]
DEFAULT_DIR = Path(".devnet")


@app.command("up")
def up_command(
    nodes: NodesOption = None,
    miners: MinersOption = None,
    task: TaskOption = None,
    source: SourceOption = None,
    blocks: Annotated[
        int | None, typer.Option(min=1, help="Stop once every node has this height on one tip.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            help="Seconds until --blocks must be reached"
            f" ({START_SECONDS} and {INTERVALS_PER_BLOCK} target intervals a block).",
        ),
    ] = None,
    as_json: JsonOption = False,
    directory: DirOption = DEFAULT_DIR,
    base_port: PortOption = None,
    seed: SeedOption = None,
) -> None:
    """Start a dataset server, nodes and miners, show them until Ctrl-C, and stop them all.

    A directory that was used before resumes with its chain, its ports and its numbers.
    """
    _check_goal(blocks, timeout, as_json)
    from rich.console import Console

    from node.devnet.creation import DevnetOrder

    order = DevnetOrder(nodes, miners, task, seed, base_port, source)
    console = Console(stderr=as_json)
    with _failing_in_one_line():
        report = _run(directory, order, blocks, timeout, console, as_json)
    if report is not None and as_json:
        typer.echo(json.dumps(report, indent=2))


@app.command("init")
def init_command(
    nodes: NodesOption = None,
    miners: MinersOption = None,
    task: TaskOption = None,
    source: SourceOption = None,
    directory: DirOption = DEFAULT_DIR,
    base_port: PortOption = None,
    seed: SeedOption = None,
) -> None:
    """Write the parameters, the dataset and the wallets once, and start nothing."""
    from rich.console import Console

    from node.devnet.creation import DevnetOrder, prepare_devnet
    from node.devnet.screen import print_line

    console = Console(stderr=True)
    with _failing_in_one_line():
        prepare_devnet(
            _get_files(directory),
            DevnetOrder(nodes, miners, task, seed, base_port, source),
            lambda line: print_line(console, line),
        )


@app.command("ps")
def ps_command(directory: DirOption = DEFAULT_DIR, as_json: JsonOption = False) -> None:
    """List the services and their state."""
    from node.devnet.control import list_services

    with _failing_in_one_line():
        services = list_services(_get_files(directory))
    if as_json:
        typer.echo(json.dumps({"services": services}, indent=2))
        return
    for service in services:
        place = service["url"] or service["address"] or ""
        typer.echo(f"{service['name']:<8} {service['role']:<8} {service['state']:<11} {place}")


@app.command("logs")
def logs_command(
    names: Annotated[list[str] | None, typer.Argument(help="Services; all where none is named.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Print what services wrote."""
    from node.cli.running import run_until_interrupted
    from node.devnet.logs import choose_logs, follow_logs, read_last_lines

    with _failing_in_one_line():
        logs = choose_logs(_get_files(directory), names or [])
    for log in logs:
        for line in read_last_lines(log, lines):
            typer.echo(f"{log.name}: {line}" if len(logs) > 1 else line)
    if follow:
        run_until_interrupted(follow_logs(logs, typer.echo))


@app.command("partition")
def partition_command(
    groups: Annotated[
        list[str],
        typer.Argument(help="Nodes of one side, with commas; then those of the next, as in n1,n2 n3."),
    ],
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Make nodes refuse the traffic of the other sides, both ways."""
    from node.devnet.control import partition_devnet

    with _failing_in_one_line():
        sides = partition_devnet(
            _get_files(directory), [[name for name in group.split(",") if name] for group in groups]
        )
    typer.echo(" | ".join(", ".join(side) for side in sides))


@app.command("heal")
def heal_command(directory: DirOption = DEFAULT_DIR) -> None:
    """Let all nodes speak with each other again."""
    from node.devnet.control import heal_devnet

    with _failing_in_one_line():
        heal_devnet(_get_files(directory))
    typer.echo("healed")


@app.command("down")
def down_command(directory: DirOption = DEFAULT_DIR) -> None:
    """Stop everything, also what a killed supervisor left behind. The chain stays."""
    from node.devnet.control import stop_devnet

    with _failing_in_one_line():
        was_running = stop_devnet(_get_files(directory))
    typer.echo("stopped" if was_running else "nothing was running")


def _check_goal(blocks: int | None, timeout: float | None, as_json: bool) -> None:
    if blocks is None and (timeout is not None or as_json):
        raise UsageError("--timeout and --json need --blocks: without it a devnet runs until Ctrl-C")


def _run(
    directory: Path,
    order: DevnetOrder,
    blocks: int | None,
    timeout: float | None,
    console: Console,
    is_headless: bool,
) -> dict[str, Any] | None:
    from node.cli.running import run_until_interrupted
    from node.devnet.accounts import format_warning
    from node.devnet.control import hold_lock
    from node.devnet.creation import prepare_devnet
    from node.devnet.plan import build_services
    from node.devnet.screen import LineScreen, choose_screen, print_line
    from node.devnet.supervisor import Goal, Supervisor
    from node.devnet.view import Scene

    files = _get_files(directory)
    files.root.mkdir(parents=True, exist_ok=True)
    with hold_lock(files):
        plan, spec = prepare_devnet(files, order, lambda line: print_line(console, line))
        print_line(console, format_warning(plan.seed))
        services = build_services(plan, files)
        scene = Scene(spec, services, plan.task)
        screen = LineScreen(console, scene) if is_headless else choose_screen(console, scene)
        seconds = timeout or START_SECONDS + INTERVALS_PER_BLOCK * spec.params.target_interval * (blocks or 0)
        goal = Goal(blocks, seconds) if blocks else None
        supervisor = Supervisor(files, spec, services, screen)
        reports: list[dict[str, Any]] = []

        async def supervise() -> None:
            report = await supervisor.run(goal)
            if report is not None:
                reports.append(report)

        if not run_until_interrupted(supervise()) and goal:
            raise CommandError("interrupted before the blocks were there")
        return reports[0] if reports else None


def _get_files(directory: Path) -> DevnetFiles:
    from node.devnet.files import DevnetFiles

    return DevnetFiles(directory)


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    from chain.errors import KeystoreError, StoreError
    from node.devnet.errors import DevnetError, DevnetUnreachable

    try:
        yield
    except DevnetUnreachable as error:
        raise NodeUnreachable(str(error)) from None
    except (DevnetError, StoreError, KeystoreError) as error:
        raise CommandError(str(error)) from None
