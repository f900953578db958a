"""`freezenet dev`: the golden vectors and the interface description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from node.cli.errors import CommandError

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _dev() -> None:
    """Write what other implementations test themselves by."""


@app.command()
def vectors(
    out: Annotated[Path, typer.Option(help="Directory of the files.")] = Path("tests/vectors"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a file would change.")
    ] = False,
) -> None:
    """Write the golden vectors of the protocol."""
    from node.dev_vectors import build_vectors

    files = build_vectors()
    changed = [name for name, text in files.items() if _read(out / name) != text.encode("utf-8")]
    if not check:
        out.mkdir(parents=True, exist_ok=True)
        for name in changed:
            (out / name).write_text(files[name], "utf-8")
    elif changed:
        raise CommandError(f"not as the code writes them: {', '.join(changed)} in {out}")
    typer.echo(f"{len(files)} files in {out}, {len(changed)} changed")


@app.command()
def openapi() -> None:
    """Print the interface description (OpenAPI) of a node."""
    from node.app import build_openapi

    typer.echo(json.dumps(build_openapi(), indent=1))


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
