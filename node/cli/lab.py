"""`freezenet lab`: passes its words to `training.lab`, and digits where no data are named.

Owns nothing but the dataset file that the lab needs and this package knows how to write.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer

app = typer.Typer(help="Calibrate tasks and measure training.")


@app.callback(
    invoke_without_command=True,
    context_settings={
        "allow_extra_args": True,
        "allow_interspersed_args": False,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)
def run(context: typer.Context) -> None:
    """Calibrate tasks and measure training."""
    # Imported here: the lab needs torch, and `freezenet --help` must not.
    from training.lab import main

    words = context.args or ["--help"]
    if "--data" in words or words[0].startswith("-") or {"-h", "--help"} & set(words):
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
