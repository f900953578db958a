"""What the commands about nodes have in common: options, output, one-line failures.

With --json, data alone goes to stdout; everything else is stderr's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.cli.errors import CommandError, NodeUnreachable, UsageError

if TYPE_CHECKING:
    from node.settings import NodeSettings

NodeOption = Annotated[
    str, typer.Option("--node", envvar="FREEZENET_NODE", metavar="URL", help="The node to ask.")
]
DirOption = Annotated[
    Path, typer.Option("--dir", envvar="FREEZENET_DIR", metavar="DIR", help="The node's data directory.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")]


def print_json(data: Any) -> None:
    """Data on stdout, one line."""
    typer.echo(json.dumps(data))


def print_fields(fields: dict[str, Any]) -> None:
    """Names and values in two columns on stdout."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        typer.echo(f"{name.replace('_', ' '):<{width}}  {value}")


def print_answer(answer: dict[str, Any], as_json: bool) -> None:
    """One object, as JSON or in columns."""
    if as_json:
        print_json(answer)
    else:
        print_fields(answer)


def build_settings(**given: Any) -> NodeSettings:
    """Settings from the options that were given; the others come from variables and defaults.

    Raises UsageError.
    """
    from pydantic import ValidationError

    from node.settings import NodeSettings

    try:
        return NodeSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "-".join(str(part) for part in first["loc"][:1]).replace("_", "-")
        raise UsageError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from error


@contextmanager
def failing_in_one_line() -> Iterator[None]:
    """Turns what our packages raise and an operator can cause or mend into the line that ends the command."""
    from chain.errors import KeystoreError, StoreError
    from consensus.errors import ConsensusError
    from dataset_server.errors import DatasetError
    from node.api_client import ApiProblem, Unreachable
    from node.data_directory import DataDirectoryError

    try:
        yield
    except Unreachable as error:
        raise NodeUnreachable(f"{error}; --node or FREEZENET_NODE names another") from error
    except (ApiProblem, ConsensusError, DataDirectoryError, DatasetError, KeystoreError, StoreError) as error:
        raise CommandError(str(error)) from error
