"""`freezenet node`: make a data directory, run a node in it, ask how it is."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from node.api_client import DEFAULT_URL
from node.cli.errors import CommandError
from node.cli.terminal import (
    DirOption,
    JsonOption,
    NodeOption,
    build_settings,
    failing_in_one_line,
    print_answer,
)

if TYPE_CHECKING:
    from node.settings import NodeSettings

app = typer.Typer(help="Run a node.", no_args_is_help=True)

ChainOption = Annotated[
    Path | None, typer.Option("--chain", metavar="FILE", help="The chain: needed once per directory.")
]


@app.command("init")
def init_command(
    directory: DirOption,
    chain: Annotated[Path, typer.Option("--chain", metavar="FILE", help="What fixes the chain.")],
    as_json: JsonOption = False,
) -> None:
    """Make a directory one for a chain; nothing changes where it is that already."""
    from chain.store import open_store
    from node.data_directory import init_data_directory

    settings = build_settings(dir=directory)
    with failing_in_one_line():
        spec = init_data_directory(settings, chain)
        open_store(settings.database_path, spec).close()
    fields = {"dir": str(directory), "chain": spec.params.name, "chain_id": spec.chain_id.hex()}
    print_answer(fields, as_json)


@app.command("run")
def run_command(
    directory: DirOption,
    chain: ChainOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on, 127.0.0.1 by default.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port to listen on, 8645 by default; 0: any.")
    ] = None,
    listen_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where peers reach this node, http://HOST:PORT by default."),
    ] = None,
    peer: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A node to stay connected with.")
    ] = None,
    dataset_source: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A server or node that has the dataset.")
    ] = None,
    allow_private_peers: Annotated[
        bool | None, typer.Option("--allow-private-peers", help="Contact peers in private networks.")
    ] = None,
    verification_workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that evaluate blocks, 1 by default.")
    ] = None,
    log_format: Annotated[Literal["json", "text"] | None, typer.Option(help="Form of log lines.")] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option(help="Least severe level logged.")
    ] = None,
) -> None:
    """Run a node until Ctrl-C.

    Options but --chain may be given by variables: FREEZENET_DIR, FREEZENET_PORT and so on; those of --peer
    and --dataset-source, FREEZENET_PEERS and FREEZENET_DATASET_SOURCES, take several with commas between.
    """
    settings = build_settings(
        dir=directory,
        host=host,
        port=port,
        listen_url=listen_url,
        peers=peer or None,
        dataset_sources=dataset_source or None,
        allow_private_peers=allow_private_peers,
        verification_workers=verification_workers,
        log_format=log_format,
        log_level=log_level,
    )
    _run(settings, chain)


@app.command("status")
def status_command(node: NodeOption = DEFAULT_URL, as_json: JsonOption = False) -> None:
    """Height, tip and state of a running node."""
    from node.api_client import ApiClient

    with failing_in_one_line(), ApiClient(node) as client:
        answer = client.get("/v1/chain")
    if not as_json:
        answer["rung"] = ", ".join(f"{name} {value}" for name, value in answer["rung"].items())
        ready = [dataset["dataset_id"] for dataset in answer.pop("datasets") if dataset["ready"]]
        answer["dataset"] = "ready" if ready else "missing"
    print_answer(answer, as_json)


def _run(settings: NodeSettings, chain: Path | None) -> None:
    from node.data_directory import init_data_directory, open_data_directory
    from node.logging import configure_logging
    from node.server import run_node
    from node.settings import format_host

    with failing_in_one_line():
        spec = init_data_directory(settings, chain) if chain is not None else open_data_directory(settings)
    listener = open_listener(settings.host, settings.port)
    # With port 0 the system chose; peers must learn the port that it is.
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    configure_logging(settings.log_format, settings.log_level)
    print(f"listening on {format_host(settings.host)}:{settings.port}", file=sys.stderr)
    try:
        with listener, failing_in_one_line():
            run_node(settings, spec, listener)
    except SystemExit as stop:
        raise CommandError("the node could not start; the log above says why") from stop


def open_listener(host: str, port: int) -> socket.socket:
    """A listening socket. Raises CommandError: the port is taken, the host is none or not this machine's."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
        # Accepted connections inherit it; asyncio sets it only on sockets that name their protocol. Without
        # it every answer on a kept connection waits some 40 ms for the client to acknowledge its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, UnicodeError) as error:
        # The reason alone: socket adds the address to it once more.
        reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        raise CommandError(f"cannot listen on {host}:{port}: {reason}") from error
