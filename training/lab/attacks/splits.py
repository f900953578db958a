"""Training on the eval split, which is public: beside the train split, or alone."""

from __future__ import annotations

import torch

from training.course import Course
from training.data import Records, TrainingData
from training.lab.attacks.frame import Attack, Ground, StandInCourse
from training.quantisation import LEVELS


def join_splits(data: TrainingData) -> TrainingData:
    """Both splits to be trained on, as one."""
    pixels = torch.cat([data.train.pixels, data.eval.pixels])
    labels = torch.cat([data.train.labels, data.eval.labels])
    return _build_lessons(Records(pixels, labels), data.eval)


def take_eval(data: TrainingData) -> TrainingData:
    """The eval split to be trained on."""
    return _build_lessons(data.eval, data.eval)


def _build_lessons(records: Records, rest: Records) -> TrainingData:
    inputs = ((records.pixels >> 1) / LEVELS).to(memory_format=torch.channels_last)
    return TrainingData(records, rest, inputs)


def _train_on_both(ground: Ground, seed: int) -> Course:
    return StandInCourse(ground, seed, lessons=join_splits(ground.data))


def _train_on_eval(ground: Ground, seed: int) -> Course:
    return StandInCourse(ground, seed, lessons=take_eval(ground.data))


ATTACKS = (
    Attack("both splits", "trains on the eval split too", _train_on_both),
    Attack("eval split alone", "trains on the eval split alone", _train_on_eval),
)
