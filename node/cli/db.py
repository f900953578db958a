"""`freezenet db`: check, copy and upgrade a node's database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli.errors import CommandError
from node.cli.terminal import (
    DirOption,
    JsonOption,
    build_settings,
    failing_in_one_line,
    print_answer,
    print_json,
)

app = typer.Typer(help="Check, copy and upgrade a node's database.", no_args_is_help=True)


@app.command("check")
def check_command(directory: DirOption, as_json: JsonOption = False) -> None:
    """Check a database from genesis up: hashes, work, balances; exit code 1 where one is wrong."""
    from chain.database import check_database
    from chain.spec_file import read_chain_spec

    settings = build_settings(dir=directory)
    with failing_in_one_line():
        problems = check_database(settings.database_path, read_chain_spec(settings.chain_path))
    if as_json:
        print_json({"problems": problems})
    for line in problems if not as_json else []:
        typer.echo(line)
    if problems:
        raise CommandError(f"{settings.database_path} has {len(problems)} problems")
    if not as_json:
        typer.echo(f"{settings.database_path} is sound")


@app.command("backup")
def backup_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The copy; one that exists is not overwritten.")
    ],
    directory: DirOption,
    as_json: JsonOption = False,
) -> None:
    """Copy a database, also a running node's, into one file; it is not checked."""
    from chain.database import back_up_database

    settings = build_settings(dir=directory)
    with failing_in_one_line():
        back_up_database(settings.database_path, file)
    print_answer({"file": str(file)}, as_json)


@app.command("upgrade")
def upgrade_command(directory: DirOption, as_json: JsonOption = False) -> None:
    """Bring a database to the newest schema; a running node has done that already."""
    from chain.database import upgrade_database

    settings = build_settings(dir=directory)
    with failing_in_one_line():
        revision = upgrade_database(settings.database_path)
    print_answer({"revision": revision}, as_json)
