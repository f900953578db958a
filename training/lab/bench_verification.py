"""The bench's rows about verification: speed, memory, watermark, false claims, and verify : mine.

Exact evaluation and torch's own forward pass take turns in one process on the same threads, so that whatever
else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from consensus.block import Witness, encode_header
from consensus.dataset import Dataset
from consensus.errors import BadDelivery
from consensus.network import IntegerNetwork, NetworkSpec
from consensus.solution import encode_solution
from consensus.task import Rung, Task
from consensus.watermark import derive_watermark
from training.data import TrainingData
from training.dataset_file import read_dataset_file
from training.evaluator import ComputeLogits, ExactWorkVerifier, choose_compute_logits, count_right
from training.lab.bench_claims import FROZEN, Claim, build_claim, draw_network, draw_pixels
from training.lab.bench_forward import ForwardPass
from training.lab.bench_rows import Goal, Row
from training.lab.bench_steps import PAPER
from training.rate import build_practice_header, measure_rate
from training.tasks import load_recipe, load_task, load_task_file

_DERIVATIONS = 9
_ORDERS = 5
_VERIFICATIONS = 9
_RATE_SECONDS = 6.0
_INTERVAL_SECONDS = 20
"""Between a devnet's blocks on digits."""
_LONG_INTERVAL_SECONDS = 300
"""The same on the tasks with more records."""
_CIFAR10_RECORDS = 60_000
_CIFAR10_VERIFICATIONS = 3
_MEBIBYTE = 2**20
_ALONE = (
    "import sys; from training.lab.bench_verification import evaluate_alone; evaluate_alone(*sys.argv[1:])"
)


def measure_evaluation(options: argparse.Namespace) -> Iterator[Row]:
    """Rows about evaluating the paper's network and a narrow one.

    Raises ValueError where no back-end is exact.
    """
    compute_logits = _choose(options.device)
    speed, seconds, plain, batch = _measure_speed(PAPER, compute_logits, options)
    yield from (
        replace(speed, goal=Goal("<=", 1.0 if options.device == "cpu" else 0.5)),
        seconds,
        plain,
        batch,
    )
    yield from _measure_memory(options)
    speed, seconds, *_ = _measure_speed(load_task_file("cifar10").network, compute_logits, options)
    yield replace(speed, name="CIFAR-10's task: exact evaluation / fp32 forward")
    yield replace(seconds, name=f"CIFAR-10's task: {seconds.name}")


def measure_verification(options: argparse.Namespace) -> Iterator[Row]:
    """Rows about verifying blocks. Raises ValueError where no back-end is exact."""
    yield _measure_watermark()
    yield from _measure_refusals(_choose(options.device), options)
    yield from _measure_prices(read_dataset_file(options.data), options.device)
    yield from _measure_long_interval(options.device)


def _choose(device: str) -> ComputeLogits:
    compute_logits = choose_compute_logits(device)
    if compute_logits is None:
        raise ValueError(f"no exact back-end on {device}")
    return compute_logits


def evaluate_alone(device: str, threads: str, records: str) -> None:
    """What a process of its own does to show its memory: prints bytes in use before, and at the peak."""
    torch.set_num_threads(int(threads))
    network = draw_network(PAPER, 0)[2]
    pixels = torch.from_numpy(draw_pixels(PAPER, int(records))).to(device)
    compute_logits = _choose(device)
    before, _ = _get_memory_bytes(device)
    compute_logits(network, pixels).cpu()
    print(json.dumps([before, _get_memory_bytes(device)[1]]))


def _get_memory_bytes(device: str) -> tuple[int, int]:
    """In use by this process now, and at its peak. (`ru_maxrss` would begin with the parent's.)"""
    if device != "cpu":
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    now, peak = (1024 * int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM"))
    return now, peak


def _measure_speed(
    spec: NetworkSpec, compute_logits: ComputeLogits, options: argparse.Namespace
) -> Iterator[Row]:
    network = draw_network(spec, 0)[2]
    pixels = torch.from_numpy(draw_pixels(spec, options.records)).to(options.device)
    labels = torch.zeros(options.records, dtype=torch.int64, device=options.device)
    forward = ForwardPass(network, pixels)

    def count_exactly() -> int:
        return count_right(compute_logits(network, pixels), labels)

    # Kernels are compiled at their first use.
    compute_logits(network, pixels[:1])
    turns = [
        (measure_seconds(count_exactly), measure_seconds(lambda: forward.count_right(labels)))
        for _ in range(options.turns)
    ]
    name = f"{options.records:,} records"
    yield Row("exact evaluation / fp32 channels-last forward", "x", tuple(e / f for e, f in turns))
    yield Row(f"exact evaluation, {name}", "s", tuple(exact for exact, _ in turns))
    yield Row(f"fp32 forward, {name}", "s", tuple(floats for _, floats in turns))
    yield Row("batch of the fp32 forward, the fastest", "records", (forward.batch_records,))


def measure_seconds(act: Callable[[], object]) -> float:
    """Wall-clock time of one call, which must wait for what it starts."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _measure_memory(options: argparse.Namespace) -> Iterator[Row]:
    words = [sys.executable, "-c", _ALONE, options.device, str(options.threads), str(options.records)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    before, after = json.loads(done.stdout)
    yield Row("peak memory of a process that evaluates", "MiB", (after / _MEBIBYTE,))
    yield Row("of it torch, network and records, before it begins", "MiB", (before / _MEBIBYTE,))


def _measure_watermark() -> Row:
    """In processor time: what other processes take of the core is no part of it."""
    weights = PAPER.weight_count
    seconds = []
    for nonce in range(_DERIVATIONS):
        header, started = encode_header(build_practice_header(nonce)), time.thread_time()
        derive_watermark(header, weights, weights * FROZEN // 10_000)
        seconds.append(time.thread_time() - started)
    return Row(f"watermark of {weights:,} weights, one core", "CPU s", tuple(seconds), Goal("<=", 0.25))


def _measure_refusals(compute_logits: ComputeLogits, options: argparse.Namespace) -> Iterator[Row]:
    """False claims of 97 % of the train split: by one record, by a worse network, by one that guesses.

    The first takes all records to refuse, in whatever order: two are enough.
    """
    records = options.records
    claimed = records * 97 // 100
    kinds = (
        ("one record too many", claimed - 1, 2),
        ("by a network with 90 %", records * 9 // 10, _ORDERS),
        ("by a network that guesses", records // 10, _ORDERS),
    )
    for name, right, orders in kinds:
        claim = build_claim(PAPER, records, right, compute_logits, options.device)
        parts = [_refuse(claim.claim_train(claimed), options.device) for _ in range(orders)]
        yield Row(f"false claim of 97 %, {name}: evaluated", "of all", tuple(seen for seen, _ in parts))
        yield Row(f"false claim of 97 %, {name}", "s", tuple(seconds for _, seconds in parts))


def _refuse(claim: Claim, device: str) -> tuple[float, float]:
    """(share of the train records evaluated, seconds) until a false claim is refused."""
    seen = 0
    fast = _choose(device)

    def compute_logits(network: IntegerNetwork, pixels: Tensor) -> Tensor:
        nonlocal seen
        seen += len(pixels)
        return fast(network, pixels)

    verifier = ExactWorkVerifier(claim.dataset, device, [compute_logits])
    seen, started = 0, time.perf_counter()
    try:
        verifier.check(claim.task, claim.rung, claim.header, claim.witness)
    except BadDelivery:
        return seen / claim.dataset.spec.n_train, time.perf_counter() - started
    raise AssertionError("a false claim was accepted")


def _measure_prices(dataset: Dataset, device: str) -> Iterator[Row]:
    """How many times its verification a block costs: at the foot, where a devnet begins, at the top."""
    task, recipe = load_task("digits", dataset.spec), load_recipe("digits")
    data, verifier = TrainingData.load(dataset, device), ExactWorkVerifier(dataset, device)
    rate = measure_rate(task, data, recipe, task.rungs[0], _RATE_SECONDS)
    default = task.get_rung(max(round(rate * _INTERVAL_SECONDS), task.rungs[0].work))
    for name, rung in (
        ("first rung", task.rungs[0]),
        ("rung of 20 s", default),
        ("last rung", task.rungs[-1]),
    ):
        verifications = _verify(task, rung, data, verifier)
        mining = rung.work / measure_rate(task, data, recipe, rung, _RATE_SECONDS)
        ratios = tuple(mining / seconds for seconds in verifications)
        yield Row(f"mine / verify, digits' {name}", "x", ratios, Goal(">=", 100))
        yield Row(f"mine, digits' {name}", "s", (mining,))
        yield Row(f"verify, digits' {name}", "s", verifications)


def _measure_long_interval(device: str) -> Iterator[Row]:
    """How often the records of CIFAR-10 are verified in the time in which a block of its chain is mined.

    That is an interval where the chain is at home in its ladder, of a devnet's two miners with a core each,
    or of one GPU: no block is mined here.
    """
    claim = build_claim(
        load_task_file("cifar10").network, _CIFAR10_RECORDS, _CIFAR10_RECORDS, _choose(device), device
    )
    verifier = ExactWorkVerifier(claim.dataset, device)
    check = partial(verifier.check, claim.task, claim.rung, claim.header, claim.witness)
    verifications = tuple(measure_seconds(check) for _ in range(_CIFAR10_VERIFICATIONS))
    mining = _LONG_INTERVAL_SECONDS * (2 if device == "cpu" else 1)
    ratios = tuple(mining / seconds for seconds in verifications)
    name = f"interval of {_LONG_INTERVAL_SECONDS} s / verify, CIFAR-10's task"
    yield Row(name, "x", ratios, Goal(">=", 100))
    yield Row("verify, CIFAR-10's task", "s", verifications)


def _verify(task: Task, rung: Rung, data: TrainingData, verifier: ExactWorkVerifier) -> tuple[float, ...]:
    """Seconds of each verification of a true claim; a network is verified as fast before it is good."""
    frozen_count = task.compute_frozen_count(rung)
    header, solution, network = draw_network(task.network, frozen_count)
    compute_logits = _choose(data.inputs.device.type)
    counts = [
        count_right(compute_logits(network, part.pixels), part.labels) for part in (data.train, data.eval)
    ]
    witness = Witness(counts[0], counts[1], encode_solution(solution))
    check = partial(verifier.check, task, rung, header, witness)
    return tuple(measure_seconds(check) for _ in range(_VERIFICATIONS))
