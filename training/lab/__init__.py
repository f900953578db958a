"""The lab: `python -m training.lab COMMAND`, one module of this package for each command.

Needs consensus, torch and numpy alone. A command's module has `add_arguments(parser)` and
`run(options) -> int`. This file imports no torch: `freezenet lab --help` lists the commands with it.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from consensus.errors import ConsensusError

COMMANDS = {
    "recipes": "Search a recipe: train variants and write a row each.",
    "figures": "Measure and draw the paper's figures and ablations.",
    "attacks": "Price attacks on the work against the reference miner.",
    "bench": "Print what the work and its verification cost here, beside the goals.",
    "calibrate": "Measure a task's ladder, or check it.",
    "again": "Price a miner who tries the headers of near misses again.",
    "blocks": "Mine at one rung as a miner does, and compare the cost with the ladder.",
    "intervals": "Simulate how intervals settle when miners come and go, and what slow ones win.",
}
"""Name and help of every command; the module has the command's name."""


PROGRAM = "python -m training.lab"


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM, data: Path | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed, 2 usage.

    `data` is the dataset file where the words name none; without it they must.
    """
    import torch

    options = parse(arguments, program, data)
    torch.set_num_threads(options.threads)
    try:
        code: int = options.run(options)
    except (OSError, ConsensusError, ValueError, subprocess.SubprocessError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    return code


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells every default that says something. That of --data, digits, is no file yet."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_something = action.default and action.dest != "data"
        return super()._get_help_string(action) if says_something else action.help


def parse(
    arguments: Sequence[str] | None, program: str = PROGRAM, data: Path | None = None
) -> argparse.Namespace:
    """The words of a command. Exits with 2 where they are wrong."""
    from training.lab.inputs import parse_count, parse_device

    parser = argparse.ArgumentParser(prog=program, description="Measure training, verification and attacks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"training.lab.{name}")
        command = commands.add_parser(name, help=summary, description=summary, formatter_class=_Help)
        command.add_argument("--device", type=parse_device, default="cpu", help="cpu or cuda")
        command.add_argument("--threads", type=parse_count, default=1, help="of torch, in each process")
        command.add_argument(
            "--data",
            type=Path,
            required=data is None,
            default=data,
            help="the dataset in one file" + (", digits where none is named" if data else ""),
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser.parse_args(arguments)
