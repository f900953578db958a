"""Performs runs in processes of their own and keeps the trained networks that other runs start from.

Owns the division of the work. What a run does is training.lab.figures.paper's and .protocol's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from consensus.dataset import Dataset, Split
from consensus.network import NetworkSpec
from training.data import TrainingData
from training.dataset_file import read_dataset_file
from training.evaluator import choose_compute_logits
from training.lab.figures import paper, protocol
from training.lab.figures.marks import Mark, draw_mark
from training.lab.figures.networks import PaperNetworks
from training.lab.figures.paper import Marks, Side, State
from training.lab.figures.protocol import Protocol
from training.lab.figures.runs import RE_ESTIMATED, Run, Scale
from training.lab.pool import start_pool
from training.recipe import Recipe

Group = tuple[Run, ...]
"""Runs that one process does at once: networks of the paper side by side, or a single run."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave."""

    run: Run
    accuracies: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process must know."""

    data: Path
    network: NetworkSpec
    recipe: Recipe
    """Of protocol mode."""
    scale: Scale
    device: str
    threads: int
    teachers: Path
    """Folder of the trained networks."""


def perform(settings: Settings, runs: Sequence[Run], processes: int, together: int) -> Iterator[Result]:
    """Yields every run as it is done; first those that start from nothing.

    Raises ValueError where no back-end counts exactly on the device.
    """
    if choose_compute_logits(settings.device) is None:
        raise ValueError(f"no exact back-end on {settings.device}")
    first = [run for run in runs if run.kind == "honest"]
    with start_pool(processes, _start_worker, settings) as pool:
        for part in (first, [run for run in runs if run.kind != "honest"]):
            done = [pool.submit(_perform, group) for group in group_runs(part, together)]
            for future in as_completed(done):
                yield from future.result()


def group_runs(runs: Sequence[Run], together: int) -> list[Group]:
    """The paper's trainings of equal length in groups of `together`, every other run by itself."""
    groups: list[list[Run]] = []
    for run in runs:
        last = groups[-1] if groups else []
        if last and len(last) < together and _can_join(last[0], run):
            last.append(run)
        else:
            groups.append([run])
    return [tuple(group) for group in groups]


def _can_join(first: Run, run: Run) -> bool:
    trained = first.kind != "applied" and run.kind != "applied"
    return trained and (first.mode, first.epochs) == (run.mode, run.epochs) == ("paper", run.epochs)


def get_teacher_path(folder: Path, run: Run) -> Path:
    """Where the network is that a run starts from."""
    return folder / f"{run.name}.npz"


def take_records(dataset: Dataset, scale: Scale) -> Dataset:
    """Random records, the same for every run, in random order; the description remains the whole one's."""
    return replace(
        dataset,
        train=_take(dataset.train, scale.images),
        eval=_take(dataset.eval, scale.eval_images),
    )


def _take(split: Split, count: int) -> Split:
    chosen = np.random.default_rng(0).permutation(len(split.labels))[:count]
    return Split(split.labels[chosen], split.pixels[chosen])


_worker: Worker
"""Of this process."""


def _start_worker(settings: Settings) -> None:
    global _worker
    torch.set_num_threads(settings.threads)
    _worker = Worker(settings)


def _perform(group: Group) -> list[Result]:
    return _worker.perform(group)


class Worker:
    """Performs groups, one after the other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        dataset = take_records(read_dataset_file(settings.data), settings.scale)
        self._data = TrainingData.load(dataset, settings.device)
        compute_logits = choose_compute_logits(settings.device)
        assert compute_logits is not None, "perform has seen to it"
        self._protocol = Protocol(settings.network, self._data, settings.recipe, compute_logits)

    def perform(self, group: Group) -> list[Result]:
        """All runs of a group."""
        started = time.perf_counter()
        if group[0].kind == "applied":
            curves = [self._apply(run) for run in group]
        elif group[0].mode == "paper":
            curves = self._train_paper(group)
        else:
            curves = [self._train_protocol(run) for run in group]
        seconds = (time.perf_counter() - started) / len(group)
        return [Result(run, tuple(curve), seconds) for run, curve in zip(group, curves, strict=True)]

    def _train_paper(self, group: Group) -> list[list[float]]:
        torch.manual_seed(group[0].seed)
        # A GPU's grouped convolutions are slower than as many of their own, side by side.
        size = len(group) if self._data.inputs.device.type == "cpu" else 1
        parts = [group[start : start + size] for start in range(0, len(group), size)]
        sides = [self._build_side(part) for part in parts]
        epochs = list(paper.train_epochs(sides, self._data, group[0].epochs))
        for part, side in zip(parts, sides, strict=True):
            for member, run in enumerate(part):
                self._save_teacher(run, paper.export_state(side.networks, member))
        return [list(curve) for curve in zip(*epochs, strict=True)]

    def _build_side(self, runs: Group) -> Side:
        seeds = [run.seed for run in runs]
        networks = PaperNetworks(self._settings.network, seeds, self._settings.device)
        for member, run in enumerate(runs):
            if run.kind == "transfer":
                paper.load_state(networks, member, self._load_teacher(run))
        marks = [self._draw_mark(run, networks.size, run.share) for run in runs]
        loaded = Marks.load(marks, [run.variant == "during" for run in runs], networks)
        return Side(networks, loaded, seeds)

    def _train_protocol(self, run: Run) -> list[float]:
        state = self._load_teacher(run) if run.kind == "transfer" else None
        mark = self._draw_mark(run, self._settings.network.weight_count, run.share)
        twin = self._protocol.build_twin(mark, run.seed, state)
        curve = list(self._protocol.train_epochs(twin, run.seed, run.epochs))
        self._save_teacher(run, protocol.export_state(twin))
        return curve

    def _apply(self, run: Run) -> list[float]:
        """Accuracy of the trained network under ever more of a watermark, without any training."""
        state = self._load_teacher(run)
        apply = self._apply_paper if run.mode == "paper" else self._apply_protocol
        return [apply(run, state, share) for share in self._settings.scale.applied_shares]

    def _apply_paper(self, run: Run, state: State, share: float) -> float:
        networks = PaperNetworks(self._settings.network, [run.seed], self._settings.device)
        paper.load_state(networks, 0, state)
        Marks.load([self._draw_mark(run, networks.size, share)], [False], networks).apply(networks)
        if run.variant == RE_ESTIMATED:
            paper.estimate_statistics(networks, self._data.train)
        return paper.evaluate(networks, self._data.eval)[0]

    def _apply_protocol(self, run: Run, state: State, share: float) -> float:
        mark = self._draw_mark(run, self._settings.network.weight_count, share)
        twin = self._protocol.build_twin(mark, run.seed, state)
        if run.variant == RE_ESTIMATED:
            self._protocol.estimate_statistics(twin)
        return self._protocol.evaluate(twin)

    def _draw_mark(self, run: Run, size: int, share: float) -> Mark:
        return draw_mark(run.mode, run.variant, run.seed, size, int(size * share / 100))

    def _save_teacher(self, run: Run, state: State) -> None:
        if run != run.teacher:
            return
        path = get_teacher_path(self._settings.teachers, run)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **state)
        partial.replace(path)

    def _load_teacher(self, run: Run) -> State:
        with np.load(get_teacher_path(self._settings.teachers, run), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
