"""`freezenet miner`: mine for nodes, and measure how fast this machine trains."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated

import typer

from node.cli.errors import CommandError, UsageError

app = typer.Typer(no_args_is_help=True)

DEFAULT_DIR = Path.home() / ".freezenet" / "miner"
DEFAULT_NODE = "http://127.0.0.1:8645"
_LONGEST_SECONDS = 1e9

DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …; auto takes a GPU where there is one.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads of the training on the CPU.")]


@app.command("run")
def run_command(
    address: Annotated[str, typer.Option(help="Address to credit.")],
    node: Annotated[
        list[str] | None,
        typer.Option(
            envvar="FREEZENET_NODE",
            metavar="URL",
            help=f"A node, tried in this order ({DEFAULT_NODE}); until one answers the miner waits.",
        ),
    ] = None,
    directory: Annotated[
        Path, typer.Option("--dir", help="Where status.jsonl and the dataset are kept.")
    ] = DEFAULT_DIR,
    dataset_dir: Annotated[
        Path | None, typer.Option(help="A dataset store to use in place of the one in --dir.")
    ] = None,
    attempts: Annotated[int | None, typer.Option(min=1, help="Stop after so many attempts.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Have found blocks judged, not stored.")] = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
) -> None:
    """Mine until Ctrl-C: train on every candidate that a node offers, and submit what meets its targets."""
    from rich.console import Console

    from consensus.address import decode_address
    from consensus.errors import RuleViolation
    from node.cli.running import run_until_interrupted
    from node.miner.app import MinerOptions, run_miner
    from node.miner.client import Refused
    from node.miner.mining import MiningFailed, MiningOrder
    from node.settings import check_url

    try:
        order = MiningOrder(decode_address(address), attempts, dry_run)
    except RuleViolation as error:
        raise UsageError(f"{address} is no address: {error.detail}") from None
    urls = tuple(node or [DEFAULT_NODE])
    try:
        for url in urls:
            check_url(url)
    except ValueError as error:
        raise UsageError(str(error)) from None
    _check_device(device)
    options = MinerOptions(
        order,
        urls,
        directory,
        dataset_dir or directory / "datasets",
        device,
        threads,
    )
    try:
        run_until_interrupted(run_miner(options, Console()))
    except Refused as error:
        raise CommandError(f"the node serves no chain that can be mined: {error}") from None
    except MiningFailed as error:
        raise CommandError(str(error)) from None


@app.command("bench")
def bench_command(
    task: Annotated[str, typer.Option(help="Task to train.")] = "digits",
    data: Annotated[
        Path | None, typer.Option(help="Dataset in one file; the embedded digits where none is given.")
    ] = None,
    block_seconds: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=_LONGEST_SECONDS,
            help="Train for the rung that takes this machine alone so long on average.",
        ),
    ] = 60.0,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=_LONGEST_SECONDS,
            help="How long to measure, after about half as long to find the rung.",
        ),
    ] = 10.0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the training rate: million multiply-accumulates a second of real attempts."""
    # Read by torch's threads when it is imported.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from consensus.errors import ConsensusError
    from node.miner.bench import load_bench_dataset, measure_training_rate

    _check_device(device)
    try:
        dataset = load_bench_dataset(data)
    except (ConsensusError, OSError) as error:
        raise CommandError(f"{data} is no dataset: {error}") from None
    try:
        rate = measure_training_rate(task, dataset, device, threads, seconds, block_seconds)
    except KeyError:
        raise UsageError(f"there is no task {task!r}") from None
    except ConsensusError as error:
        raise CommandError(f"the dataset is not that of {task}, name it with --data: {error}") from None
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(rate)))
    else:
        told = "1 thread" if rate.threads == 1 else f"{rate.threads} threads"
        typer.echo(
            f"{rate.rate:,.0f} million multiply-accumulates a second"
            f" ({rate.task} at difficulty {rate.difficulty:,}, {rate.device},"
            f" {told}, {rate.seconds:.1f} s); a block of that difficulty would take"
            f" {rate.difficulty / rate.rate:,.0f} s on average"
        )


def _check_device(name: str) -> None:
    """Raises UsageError for a device that this machine lacks; torch is asked where one is named."""
    kind, separator, number = name.partition(":")
    if name in ("auto", "cpu"):
        return
    if kind != "cuda" or (separator and not number.isdecimal()):
        raise UsageError(f"there is no device {name!r}: auto, cpu, cuda or cuda:NUMBER")
    import torch

    count = torch.cuda.device_count()
    if int(number or 0) >= count:
        raise UsageError(f"this machine has no device {name!r}: torch sees {count} of CUDA")
