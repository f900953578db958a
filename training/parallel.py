"""One attempt by several processes: `torchrun --nproc-per-node N -m training.parallel --data FILE`.

Every process holds the dataset and the same twin, trains on a share of every batch, and steps by the average
gradient; batches are normalised by share. Rank 0 decides, polishes and counts, as an attempt of one process
does; the others follow its training alone. It pays for a network too large for one device: independent
attempts, a process each, need no exchange at all.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from consensus.block import Header, decode_header, encode_header, encode_witness
from consensus.network import NetworkSpec
from consensus.task import Rung, Task
from training.attempt import AttemptResult, MiningAttempt
from training.data import TrainingData
from training.dataset_file import read_dataset_file
from training.headers import NONCES
from training.outcome import Progress
from training.rate import HEADERS_APART, build_practice_header
from training.recipe import Recipe
from training.stack import TwinStack
from training.tasks import TASK_NAMES, load_recipe, load_task, load_task_file
from training.twin import Twin

_ORDER = struct.Struct("<?190sHIIQQ")
"""Whether there is an order, header, rung, seed."""
_PATIENCE = timedelta(days=365)
"""Between two attempts the other ranks wait in a broadcast."""


class _Left(Exception):
    """Ends the training of a rank that follows."""


class ProcessRanks:
    """The processes of the default group: training.optimise's Ranks."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.steps = 0
        """Joined since the attempt began."""

    def take(self, indices: Tensor) -> Tensor:
        """This rank's share of int64[batch] indices."""
        return indices[self.rank :: self.count]

    def join(self, model: Twin | TwinStack, right: Tensor) -> Tensor:
        """Averages gradients and running statistics in one exchange; int64[] right answers of all ranks.

        Raises _Left on a rank that follows, once rank 0 has ended the attempt.
        """
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        shared = [*gradients, *model.means, *model.variances]
        flat = torch.cat([*(tensor.reshape(-1) for tensor in shared), right.reshape(1), right.new_zeros(1)])
        dist.all_reduce(flat)
        # Only who follows waits for the flag: rank 0 set it, and a GPU must not idle for it.
        if self.rank and flat[-1]:
            raise _Left
        parts = torch.split(flat[:-2] / self.count, [tensor.numel() for tensor in shared])
        for tensor, part in zip(shared, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
        self.steps += 1
        return flat[-2].long()

    def leave(self, network: NetworkSpec, frozen_count: int, device: torch.device) -> None:
        """Takes the place of rank 0's next `join`, and ends the training of the others."""
        free = network.weight_count - frozen_count
        flat = torch.zeros(free + network.classes + 4 * sum(network.normalised_outputs) + 2, device=device)
        flat[-1] = 1
        dist.all_reduce(flat)


class ParallelAttempt:
    """MiningAttempt by all ranks: rank 0 calls `run` and at last `close`, the others `follow`."""

    def __init__(self, task: Task, dataset: TrainingData, recipe: Recipe, device: str | torch.device) -> None:
        self._ranks = ProcessRanks()
        if recipe.batch % self._ranks.count:
            raise ValueError(f"a batch of {recipe.batch} has no {self._ranks.count} equal shares")
        self._task, self._device = task, torch.device(device)
        self._attempt = MiningAttempt(task, dataset, recipe, device, self._ranks)

    def run(
        self,
        header: Header,
        rung: Rung,
        seed: int,
        is_cancelled: Callable[[], bool],
        report: Callable[[Progress], None],
    ) -> AttemptResult:
        """Rank 0: an attempt at a header chosen from this one on, as MiningAttempt chooses and runs."""
        search = self._attempt.search(header, rung, seed, is_cancelled)
        candidate = search.take_one()
        self._exchange(_encode_order(candidate.header, rung, candidate.seed))
        try:
            result = self._attempt.run([candidate], rung, is_cancelled, report)
            return replace(result, multiply_accumulates=result.multiply_accumulates + search.spent)
        finally:
            if self._ranks.steps < self._get_total_steps(rung):
                frozen_count = self._task.compute_frozen_count(rung)
                self._ranks.leave(self._task.network, frozen_count, self._device)

    def close(self) -> None:
        """Rank 0: lets the others go."""
        self._exchange(_encode_order(build_practice_header(0), Rung(0, 0, 0, 0), 0, is_order=False))

    def follow(self) -> None:
        """The other ranks: take part in every attempt of rank 0 until it closes."""
        while order := _decode_order(self._exchange(bytes(_ORDER.size))):
            self._take_part(*order)

    def _take_part(self, header: Header, rung: Rung, seed: int) -> None:
        course = self._attempt.build(header, rung, seed).course
        try:
            for _ in course.follow(lambda: self._leave_at_end(rung)):
                pass
        except _Left:
            return

    def _leave_at_end(self, rung: Rung) -> None:
        if self._ranks.steps == self._get_total_steps(rung):
            raise _Left

    def _get_total_steps(self, rung: Rung) -> int:
        recipe = self._attempt.recipe
        return recipe.get_plan(rung).samples // recipe.batch

    def _exchange(self, data: bytes) -> bytes:
        """Rank 0's bytes on every rank; an attempt begins."""
        self._ranks.steps = 0
        tensor = torch.tensor(list(data), dtype=torch.uint8, device=self._device)
        dist.broadcast(tensor, 0)
        return bytes(tensor.tolist())


def _encode_order(header: Header, rung: Rung, seed: int, is_order: bool = True) -> bytes:
    numbers = rung.frozen, rung.min_train_correct, rung.min_eval_correct, rung.work
    return _ORDER.pack(is_order, encode_header(header), *numbers, seed)


def _decode_order(data: bytes) -> tuple[Header, Rung, int] | None:
    is_order, header, *numbers, seed = _ORDER.unpack(data)
    return (decode_header(header), Rung(*numbers), seed) if is_order else None


def main() -> None:
    """Attempts at one header, from nonces far apart, until a witness is found: a JSON line for each."""
    options = _parse()
    is_cuda = options.device == "cuda"
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if is_cuda else "cpu")
    if is_cuda:
        torch.cuda.set_device(device)
    torch.set_num_threads(options.threads)
    dist.init_process_group("nccl" if is_cuda else "gloo", timeout=_PATIENCE)
    _attempt_all(options, device)
    leave_group()


def leave_group() -> None:
    """Takes the default group down once every process is done: one that goes early aborts the others."""
    dist.barrier()
    dist.destroy_process_group()


def _attempt_all(options: argparse.Namespace, device: torch.device) -> None:
    dataset = read_dataset_file(options.data)
    task = load_task(options.task, dataset.spec)
    data = TrainingData.load(dataset, device)
    rung = task.rungs[options.rung]
    attempt = ParallelAttempt(task, data, load_recipe(options.task), device)
    if dist.get_rank():
        return attempt.follow()
    header = decode_header(options.header)
    for turn in range(options.attempts):
        first = replace(header, nonce=(header.nonce + turn * HEADERS_APART) % NONCES)
        result = attempt.run(first, rung, first.nonce, lambda: False, lambda progress: None)
        print(json.dumps(_describe(result)), flush=True)
        if result.witness:
            break
    attempt.close()


def _describe(result: AttemptResult) -> dict[str, str | int | float | None]:
    return {
        "outcome": result.outcome,
        "header": encode_header(result.header).hex(),
        "witness": encode_witness(result.witness).hex() if result.witness else None,
        "train_correct": result.train_correct,
        "eval_correct": result.eval_correct,
        "samples": result.samples,
        "seconds": round(result.seconds, 3),
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Attempts at a block by all processes of torchrun.")
    parser.add_argument("--data", type=Path, required=True, help="the dataset in one file")
    parser.add_argument("--task", choices=TASK_NAMES, default="digits")
    parser.add_argument("--rung", type=int, default=0, help="of the task's ladder, from 0")
    practice = encode_header(build_practice_header(0))
    parser.add_argument("--header", type=bytes.fromhex, default=practice, help="190 bytes in hex")
    parser.add_argument(
        "--attempts", type=int, default=1, help="at most, each at a header that promises enough"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in each process")
    options = parser.parse_args()
    count = len(load_task_file(options.task).rungs)
    if not 0 <= options.rung < count:
        parser.error(f"the ladder of {options.task} has rungs 0 to {count - 1}")
    return options


if __name__ == "__main__":
    main()
