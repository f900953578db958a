"""Tasks and their difficulty ladders (protocol §3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

from consensus.dataset import DatasetSpec
from consensus.encoding import Hash32, Reader, compute_tagged_hash, pack
from consensus.errors import Code, RuleViolation
from consensus.network import NetworkSpec, check_network

_HEAD = struct.Struct("<32sHHHHHHHH")
_RUNG = struct.Struct("<HIIQ")

MAX_RUNGS = 256
MIN_WORK = 1_000
WORK_LIMIT = 2**56
MIN_FROZEN_COUNT = 1_024


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder: what a witness must show, and what that costs."""

    frozen: int
    """Share of the weights that the watermark freezes, per 10,000."""
    min_train_correct: int
    """Records of the train split that must be right: the target that binds."""
    min_eval_correct: int
    """Records of the eval split that must be right: the floor."""
    work: int
    """Mean cost of the cheapest known strategy, in million training multiply-accumulates."""


@dataclass(frozen=True, slots=True)
class Task:
    """What miners train: a dataset, a network and a ladder."""

    dataset_id: Hash32
    """Id of the dataset (§1)."""
    network: NetworkSpec
    """Shape of the network (§2)."""
    rungs: tuple[Rung, ...]
    """The ladder, work strictly increasing."""

    @property
    def task_id(self) -> Hash32:
        """H("FreezeNet/1/task", task_bytes)."""
        return compute_tagged_hash("FreezeNet/1/task", encode_task(self))

    def get_rung(self, difficulty: int) -> Rung:
        """rung(D): the last rung whose work is at most D, which is at least the first rung's work."""
        return [rung for rung in self.rungs if rung.work <= difficulty][-1]

    def compute_frozen_count(self, rung: Rung) -> int:
        """Frozen weights at a rung: N · frozen // 10000."""
        return self.network.weight_count * rung.frozen // 10_000


def encode_task(task: Task) -> bytes:
    """`task_bytes`."""
    net = task.network
    sizes = (net.c, net.h, net.w, net.classes, net.blocks, net.filters, net.hidden)
    rungs = [pack(_RUNG, r.frozen, r.min_train_correct, r.min_eval_correct, r.work) for r in task.rungs]
    return pack(_HEAD, task.dataset_id, *sizes, len(task.rungs)) + b"".join(rungs)


def decode_task(data: bytes) -> Task:
    """The task in `task_bytes`, decoded but not checked: `check_task` needs the dataset's description.

    Raises BadDelivery(UNDECODABLE).
    """
    reader = Reader(data)
    dataset_id, c, h, w, classes, blocks, filters, hidden, count = reader.unpack(_HEAD)
    rungs = tuple(Rung(*reader.unpack(_RUNG)) for _ in range(count))
    reader.finish()
    return Task(dataset_id, NetworkSpec(c, h, w, classes, blocks, filters, hidden), rungs)


def check_task(task: Task, dataset: DatasetSpec) -> None:
    """Raises RuleViolation(BAD_TASK) or (BAD_NETWORK) unless every rule of §2 and §3 holds."""
    check_network(task.network)
    net = task.network
    if dataset.dataset_id != task.dataset_id:
        raise RuleViolation(Code.BAD_TASK, "the dataset's id is another")
    if (net.c, net.h, net.w, net.classes) != (dataset.c, dataset.h, dataset.w, dataset.classes):
        raise RuleViolation(Code.BAD_TASK, "the network does not fit the dataset's images and classes")
    if not 1 <= len(task.rungs) <= MAX_RUNGS:
        raise RuleViolation(Code.BAD_TASK, f"{len(task.rungs)} rungs, not 1 to {MAX_RUNGS}")
    for rung in task.rungs:
        _check_rung(task, rung, dataset)
    for before, rung in pairwise(task.rungs):
        if not before.work < rung.work <= 2 * before.work:
            raise RuleViolation(Code.BAD_TASK, f"work {rung.work} after {before.work}")


def _check_rung(task: Task, rung: Rung, dataset: DatasetSpec) -> None:
    if not MIN_WORK <= rung.work < WORK_LIMIT:
        raise RuleViolation(Code.BAD_TASK, f"work {rung.work}")
    if not 1_000 <= rung.frozen <= 9_990:
        raise RuleViolation(Code.BAD_TASK, f"frozen {rung.frozen} per 10,000")
    if task.compute_frozen_count(rung) < MIN_FROZEN_COUNT:
        raise RuleViolation(Code.BAD_TASK, f"{task.compute_frozen_count(rung)} frozen weights")
    if 100 * rung.min_train_correct > 99 * dataset.n_train:
        raise RuleViolation(Code.BAD_TASK, f"train target {rung.min_train_correct} of {dataset.n_train}")
    if rung.min_eval_correct > dataset.n_eval:
        raise RuleViolation(Code.BAD_TASK, f"eval floor {rung.min_eval_correct} of {dataset.n_eval}")
