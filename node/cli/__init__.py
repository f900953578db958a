"""The console script `freezenet`: one typer app per file of this package, put together here.

Only the command that was asked for is imported, so that `freezenet --help` is fast and never loads torch.
Owns the exit codes and the one line that a failure ends with; what a command does is its own file's.
"""

from __future__ import annotations

import errno
import importlib
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from types import FrameType
from typing import Annotated, NoReturn

import typer

from node.cli.errors import CommandError

COMMANDS = {
    "devnet": "Run a whole network on this machine: dataset server, nodes and miners.",
    "node": "Run a node.",
    "miner": "Mine for a node, or measure how fast this machine trains.",
    "wallet": "Keys, balances and transfers.",
    "chain": "Look at the chain and verify it.",
    "dataset": "Import, serve and check datasets.",
    "db": "Check, copy and upgrade a node's database.",
    "lab": "Measure ladders, training and attacks.",
    "dev": "Write the golden vectors and the interface description.",
}
"""Name and help of every command; node/cli has a file of its name."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_OWN_PACKAGES = ("consensus", "chain", "training", "dataset_server", "node")


def build_app(command: str | None) -> typer.Typer:
    """The whole command tree, in which `command` alone is imported; the others are there by name."""
    app = typer.Typer(
        name="freezenet",
        help="FreezeNet: a proof-of-work node whose work is neural-network training.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name, summary in COMMANDS.items():
        branch = _import_branch(name) if name == command else typer.Typer()
        app.add_typer(branch, name=name, help=summary)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        build_app(words[0] if words else None)(words, prog_name="freezenet")
    except CommandError as error:
        return _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in _OWN_PACKAGES:
            raise
        return _fail(f"the package {error.name} is missing: run `make setup`")
    except OSError as error:
        return _fail(_describe(error))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"freezenet {version('freezenet')}")
        raise typer.Exit


def _root(
    show_version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def _import_branch(name: str) -> typer.Typer:
    branch: typer.Typer = importlib.import_module(f"node.cli.{name}").app
    return branch


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM equals Ctrl-C."""
    raise KeyboardInterrupt


def _describe(error: OSError) -> str:
    if error.errno in _DISK_FULL:
        return f"the disk is full{f': {error.filename}' if error.filename else ''}"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error) or type(error).__name__


def _fail(line: str, exit_code: int = 1) -> int:
    print(f"freezenet: {line}", file=sys.stderr)
    return exit_code
