"""What test_parallel runs in each process of torchrun: FOLDER, FILE (a dataset in one file), cpu or cuda.

Writes weights-RANK, a hash of the network after some steps together, and, on rank 0, block.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from consensus.block import encode_header, encode_witness
from consensus.network import IntegerNetwork
from consensus.task import Rung, Task
from tests.training.samples import NETWORK, NEVER, build_recipe, build_task, build_watermark
from training.attempt import MiningAttempt
from training.data import TrainingData
from training.dataset_file import read_dataset_file
from training.optimise import train
from training.parallel import ParallelAttempt, ProcessRanks, leave_group
from training.rate import build_practice_header
from training.recipe import Recipe
from training.twin import Twin

RUNG = Rung(9_500, 1_000, 330, 10_000)
HEADER = build_practice_header(7)


def main(folder: Path, file: Path, kind: str) -> None:
    """Both tests, one start of the processes."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    if kind == "cuda":
        rank, gpus = int(os.environ["RANK"]), torch.cuda.device_count()
        device = torch.device(f"cuda:{rank % gpus}")
        torch.cuda.set_device(device)
        if gpus < int(os.environ["WORLD_SIZE"]):
            # NCCL refuses two processes of one host on one GPU; as two hosts they exchange through sockets.
            os.environ["NCCL_HOSTID"] = f"host of rank {rank}"
    dist.init_process_group("gloo" if kind == "cpu" else "nccl")
    dataset = read_dataset_file(file)
    data = TrainingData.load(dataset, device)
    (folder / f"weights-{dist.get_rank()}").write_text(_train_together(data))
    task = build_task(dataset.spec, RUNG)
    attempt = ParallelAttempt(task, data, _build_picky_recipe(task, data), device)
    if dist.get_rank():
        attempt.follow()
    else:
        (folder / "block.json").write_text(json.dumps(_mine(attempt)))
    leave_group()


def _train_together(data: TrainingData) -> str:
    recipe, generator = build_recipe(1_280), torch.Generator().manual_seed(3)
    device = data.inputs.device
    twin = Twin(NETWORK, build_watermark(9_500), generator, recipe.gain, recipe.shift, device)
    right = [int(value) for value in train(twin, data, recipe, 1_280, generator, ProcessRanks())]
    return f"{right} {_hash(twin.export())}"


def _build_picky_recipe(task: Task, data: TrainingData) -> Recipe:
    """One that goes on with the header, of a few from HEADER on, that promises most, and with none before."""
    patient = MiningAttempt(task, data, build_recipe(5_188), data.inputs.device)
    headers = [replace(HEADER, nonce=HEADER.nonce + step) for step in range(8)]
    most = max(patient.build(header, RUNG, 7 + step).course.promise for step, header in enumerate(headers))
    return build_recipe(5_188, ((most - 0.5) / len(data.train), *NEVER[1:]))


def _hash(network: IntegerNetwork) -> str:
    hashed = hashlib.sha256(network.weights.tobytes() + network.bias.tobytes())
    for multipliers, offsets in zip(network.multipliers, network.offsets, strict=True):
        hashed.update(multipliers.tobytes() + offsets.tobytes())
    return hashed.hexdigest()


def _mine(attempt: ParallelAttempt) -> dict[str, str | int]:
    """A cancelled attempt, then one that finds."""
    asked = iter([False] * 10)
    cancelled = attempt.run(HEADER, RUNG, 7, lambda: next(asked, True), lambda progress: None)
    found = attempt.run(HEADER, RUNG, 7, lambda: False, lambda progress: None)
    attempt.close()
    assert found.witness is not None
    return {
        "cancelled": cancelled.outcome,
        "outcome": found.outcome,
        "cancelled_samples": cancelled.samples,
        "header": encode_header(found.header).hex(),
        "witness": encode_witness(found.witness).hex(),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
