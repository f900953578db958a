"""Courses of attacks, measured once and kept: a line of JSON each, resumed where a run was ended.

Owns how a course is followed and timed. Seconds are those of the processor, not of the clock, so that other
work on the machine adds little; exact counts made for the record alone are left out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from training.course import Course
from training.data import TrainingData
from training.evaluator import ComputeLogits, count_right
from training.lab.attacks.frame import Attack, Ground, StandInCourse
from training.lab.lines import read_lines
from training.lab.traces import NOT_COUNTED, Notes, Trace, digest_recipe
from training.lockstep import Lockstep

_COUNTED_FROM = 0.8
"""Share of the train split: no target that is priced lies below."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One course of an attack, from end to end. The tuples have an entry for each checkpoint."""

    attack: str
    network: str
    """Blocks, filters and hidden units, as Ground.title has them."""
    dataset: str
    """As a trace names it."""
    records: int
    """Of the train split."""
    recipe: str
    """digest_recipe of the reference's."""
    frozen: int
    """Per 10,000."""
    reference_samples: int
    """Of the reference's course that this one is compared with."""
    seed: int
    """Of the practice headers (training.rate) and of the course."""
    samples: int
    """Trained in all."""
    shown: tuple[int, ...]
    """What the checkpoint showed to the miner: an estimate while training, then a count."""
    train_correct: tuple[int, ...]
    eval_correct: tuple[int, ...]
    """Both exact; NOT_COUNTED where the checkpoint shows too few for any target."""
    multiply_accumulates: tuple[int, ...]
    """Spent so far, without recounts and without what is done once for all blocks."""
    seconds: tuple[float, ...]
    """Of the processor so far, without counts."""
    recount_seconds: float
    """Of one exact count of both splits."""
    machine: str
    torch: str
    date: str

    @property
    def ground(self) -> tuple[str, str, int, str, int, int]:
        """Ground.key of where it was measured."""
        data = self.dataset, self.records
        return self.network, *data, self.recipe, self.frozen, self.reference_samples

    def get_trace(self) -> Trace:
        """As calibration sees it, in multiply-accumulates."""
        return Trace(
            self.frozen,
            self.samples,
            self.seed,
            self.recipe,
            self.dataset,
            self.shown,
            self.train_correct,
            self.eval_correct,
            self.multiply_accumulates,
            self.seconds[-1],
            self.machine,
            self.torch,
            self.date,
        )


@dataclass(slots=True)
class _TimedNotes(Notes):
    """The seconds besides."""

    seconds: list[float] = field(default_factory=list)
    recount_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Recorder:
    """Follows courses."""

    data: TrainingData
    compute_logits: ComputeLogits
    machine: str
    torch: str
    date: str

    def record(self, attack: Attack, ground: Ground, seeds: Sequence[int]) -> list[Recording]:
        """Whole courses, what comes before them included, with exact counts where they may matter.

        Those that train their own twins are trained side by side, as the reference miner does; each is told
        an equal share of the seconds.
        """
        mark = time.process_time()
        courses = [attack.build(ground, seeds[0])]
        if isinstance(courses[0], StandInCourse) and len(seeds) > 1:
            return [recording for seed in seeds for recording in self.record(attack, ground, [seed])]
        courses += [attack.build(ground, seed) for seed in seeds[1:]]
        notes = {course: _TimedNotes() for course in courses}
        used = 0.0
        for course, checkpoint in Lockstep(courses).follow():
            used += time.process_time() - mark
            mark = time.process_time()
            is_near = checkpoint.train_correct >= _COUNTED_FROM * len(self.data.train)
            is_near &= not checkpoint.is_promise
            counts = self._count(course) if is_near or checkpoint.is_last else (NOT_COUNTED, NOT_COUNTED)
            notes[course].add(course, checkpoint, counts)
            notes[course].recount_seconds = max(notes[course].recount_seconds, time.process_time() - mark)
            if course is courses[-1]:
                # The last of a round: all have come as far.
                for note in notes.values():
                    note.seconds.append(round(used / len(courses), 4))
            mark = time.process_time()
        pairs = zip(seeds, notes.items(), strict=True)
        return [self._close(attack, ground, seed, course, note) for seed, (course, note) in pairs]

    def _close(
        self, attack: Attack, ground: Ground, seed: int, course: Course, note: _TimedNotes
    ) -> Recording:
        return Recording(
            attack.name,
            ground.title,
            ground.dataset,
            len(ground.data.train),
            digest_recipe(ground.recipe),
            ground.frozen,
            ground.samples,
            seed,
            course.samples,
            tuple(note.shown),
            tuple(note.train),
            tuple(note.eval),
            tuple(note.spent),
            tuple(note.seconds),
            round(note.recount_seconds, 5),
            self.machine,
            self.torch,
            self.date,
        )

    def _count(self, course: Course) -> tuple[int, int]:
        network = course.build_network()
        train, right = (
            count_right(self.compute_logits(network, records.pixels), records.labels)
            for records in (self.data.train, self.data.eval)
        )
        return train, right


def read_recordings(path: Path) -> list[Recording]:
    """The recordings of a file of rows (training.lab.lines)."""
    return read_lines(path, Recording)


def end_earlier(recording: Recording, checkpoints: int) -> Recording:
    """The same course, ended so many checkpoints before its last."""
    names = ("shown", "train_correct", "eval_correct", "multiply_accumulates", "seconds")
    return replace(recording, **{name: getattr(recording, name)[:-checkpoints] for name in names})


def even_out(recordings: Sequence[Recording], machine: str) -> list[Recording]:
    """One attack's recordings, each with the median seconds of those on a machine at every checkpoint.

    Of all where there are none on it. Courses of one length take the same time; what differs is what else the
    machine did.
    """
    timed = [recording for recording in recordings if recording.machine == machine] or recordings
    seconds = [median(column) for column in zip(*(r.seconds for r in timed), strict=True)]
    recount = median(recording.recount_seconds for recording in timed)
    return [replace(r, seconds=tuple(seconds), recount_seconds=recount) for r in recordings]


def choose_machine(reference: Sequence[Recording]) -> str:
    """The one that measured the most of the reference's recordings."""
    return Counter(recording.machine for recording in reference).most_common(1)[0][0]


def even_out_beside(
    recordings: Sequence[Recording], reference: Sequence[Recording], machine: str
) -> list[Recording]:
    """An attack's recordings, each with the same seconds (even_out), in those of a machine.

    They are measured where the most of both were, and converted by what the reference's whole courses take
    there and here. Where no machine measured both they are those of all machines, as they are.
    """
    both = Counter(r.machine for r in recordings) & Counter(r.machine for r in reference)
    there = max(both, key=lambda name: (both[name], name == machine), default=machine)
    evened = even_out(recordings, there)
    here, elsewhere = (even_out(reference, name)[0].seconds[-1] for name in (machine, there))
    factor = here / elsewhere
    return [
        replace(
            recording,
            seconds=tuple(factor * value for value in recording.seconds),
            recount_seconds=factor * recording.recount_seconds,
        )
        for recording in evened
    ]


def join_calibration(reference: Sequence[Recording], traces: Iterable[Trace]) -> list[Recording]:
    """The reference's recordings and the courses that calibration measured, in the recordings' seconds.

    The calibration's must be of the same recipe; on another kind of processor courses of one seed may differ.
    """
    known, model = {recording.seed: recording for recording in reference}, reference[0]
    for trace in traces:
        kind = (model.frozen, model.reference_samples, len(model.shown))
        if (trace.frozen, trace.samples, len(trace.shown)) != kind:
            continue
        known.setdefault(
            trace.seed,
            replace(
                model,
                seed=trace.seed,
                shown=trace.shown,
                train_correct=trace.train_correct,
                eval_correct=trace.eval_correct,
                multiply_accumulates=trace.multiply_accumulates,
            ),
        )
    return list(known.values())
