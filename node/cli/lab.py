"""`freezenet lab`: passes its words on to `training.lab`.

Owns nothing but the dataset file that the lab needs and does not know how to write.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer

app = typer.Typer(help="Calibrate tasks and measure training.", no_args_is_help=True)

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.callback()
def _root() -> None:
    """Calibrate tasks and measure training."""


@app.command(context_settings=_PASS_ON, add_help_option=False)
def calibrate(context: typer.Context) -> None:
    """Measure a task's ladder, or check it; without --data on the embedded digits."""
    # Imported here: the lab needs torch, and `freezenet --help` must not.
    from training.lab import main

    words = ["calibrate", *context.args]
    if {"--data", "-h", "--help"} & set(words):
        raise typer.Exit(main(words))
    with tempfile.TemporaryDirectory(prefix="freezenet-lab-") as directory:
        raise typer.Exit(main([*words, "--data", str(write_digits(Path(directory)))]))


def write_digits(directory: Path) -> Path:
    """The embedded digits in one file."""
    from dataset_server.files import write_dataset_file
    from dataset_server.importers import import_digits

    path = directory / "digits.dataset"
    write_dataset_file(path, import_digits())
    return path
