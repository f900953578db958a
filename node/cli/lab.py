"""`freezenet lab`: passes its words on to `training.lab`.

Owns nothing but the dataset file that the lab needs and does not know how to write.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer

from training.lab import COMMANDS, main

app = typer.Typer(help="Measure ladders, training and attacks.", no_args_is_help=True)

_PROGRAM = "freezenet lab"
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def run(context: typer.Context) -> None:
    """The command of the lab by which this one was called; without --data on the embedded digits."""
    words = [str(context.info_name), *context.args]
    if {"--data", "-h", "--help"} & {word.partition("=")[0] for word in words}:
        raise typer.Exit(main(words, _PROGRAM, Path("digits.dataset")))
    with tempfile.TemporaryDirectory(prefix="freezenet-lab-") as directory:
        raise typer.Exit(main(words, _PROGRAM, write_digits(Path(directory))))


def write_digits(directory: Path) -> Path:
    """The embedded digits in one file."""
    from dataset_server.files import write_dataset_file
    from dataset_server.importers import import_digits

    path = directory / "digits.dataset"
    write_dataset_file(path, import_digits())
    return path


for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary, context_settings=_PASS_ON, add_help_option=False)(run)
