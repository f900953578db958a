"""Bringing a teacher's knowledge under a watermark: its filters, its sums, its answers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from consensus.network import Layer
from training.course import Course
from training.evaluator import compute_logits_in_float64
from training.lab.attacks.frame import Attack, AttackCourse, Ground, StandInCourse, train_with
from training.lab.attacks.transfers import train_teacher
from training.quantisation import LEVELS, quantise_activations
from training.recipe import Plan
from training.twin import EPSILON, Twin

_PUBLISHED = 10
_PUBLISHED_SEED = 2_000_003
_FITTED_RECORDS = 2_048
"""At most, by least squares."""
_SOFT_SHARE = 0.5
"""Of the loss that looks at the published networks' answers; the rest looks at the labels."""


class DistilledCourse(StandInCourse):
    """Learns the mean answers of the last published networks beside the labels."""

    def __init__(self, ground: Ground, seed: int) -> None:
        super().__init__(ground, seed)
        self._answers = ask_published(ground)
        # Every block adds one network, whose answers on the train split are one forward pass.
        self.multiply_accumulates += len(ground.data.train) * ground.network.multiply_accumulates

    def stream(self) -> Iterator[Tensor]:
        data, recipe = self.data, self.recipe

        def compute_loss(logits: Tensor, indices: Tensor) -> Tensor:
            scaled = logits * recipe.logit_scale
            smooth = recipe.label_smoothing
            hard = F.cross_entropy(scaled, data.train.labels[indices], label_smoothing=smooth)
            soft = F.cross_entropy(scaled, self._answers[indices])
            return (1 - _SOFT_SHARE) * hard + _SOFT_SHARE * soft

        return train_with(
            self.twin,
            lambda indices: self.twin(data.inputs[indices]),
            compute_loss,
            data.train.labels,
            recipe,
            self.plan.samples,
            self.generator,
        )


@cache
def ask_published(ground: Ground) -> Tensor:
    """float32[n_train, classes]: mean shares that ten networks of other headers give to each class."""
    total = torch.zeros(len(ground.data.train), ground.network.classes)
    for number in range(_PUBLISHED):
        course = AttackCourse(ground, _PUBLISHED_SEED + number)
        for _ in course.follow():
            pass
        logits = compute_logits_in_float64(course.build_network(), ground.data.train.pixels)
        total += F.softmax(logits.float() / LEVELS**2 * ground.recipe.logit_scale, dim=1)
    return total / _PUBLISHED


@torch.no_grad()
def _match_filters(ground: Ground, seed: int) -> Course:
    """Each output takes the teacher's filter that is most like what the watermark gave it."""
    teacher = train_teacher(ground)
    course = AttackCourse(ground, seed)
    twin = course.twin
    weights = twin.compute_weights().clone()
    is_free = torch.zeros(len(weights), dtype=torch.bool)
    is_free[twin.free_indices] = True
    inputs = torch.arange(ground.network.c)
    for layer in ground.network.layers:
        permuted = _permute_inputs(layer, teacher, inputs)
        own, free = (part[layer.start : layer.stop].view(layer.outputs, -1) for part in (weights, is_free))
        order = torch.arange(layer.outputs)
        if layer.kind != "logits":
            order = torch.from_numpy(match_outputs((own * ~free).numpy(), permuted.numpy()))
        chosen = permuted[order]
        scales = (own * chosen * ~free).sum(1, keepdim=True) / (chosen.square() * ~free).sum(1, keepdim=True)
        # A gain cannot be negative, so a filter that points the other way is only scaled, not turned.
        filled = torch.where(free, (chosen * scales.abs()).clamp(-1, 1), own)
        weights[layer.start : layer.stop] = filled.flatten()
        inputs = order
    twin.free.copy_(weights[twin.free_indices])
    course.multiply_accumulates += 2 * ground.network.filters * ground.network.weight_count
    return course


def match_outputs(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """int64[outputs]: for each of our rows another of theirs, the most similar pairs first."""
    norms = np.linalg.norm(ours, axis=1)[:, None] * np.linalg.norm(theirs, axis=1)[None, :]
    likeness = ours @ theirs.T / np.maximum(norms, 1e-9)
    order = np.full(len(ours), -1, np.int64)
    for place in np.argsort(-likeness, axis=None):
        row, column = divmod(int(place), len(theirs))
        if order[row] < 0 and column not in order:
            order[row] = column
    return order


def _permute_inputs(layer: Layer, teacher: Twin, inputs: Tensor) -> Tensor:
    """float[outputs, fan_in] teacher's filters, their inputs in the order that our layer below has."""
    grid = teacher.compute_weights()[layer.start : layer.stop].view(layer.outputs, len(inputs), -1)
    return grid[:, inputs].flatten(1)


@torch.no_grad()
def _fit_layers(ground: Ground, seed: int, plan: Plan) -> Course:
    """Layer after layer, free weights and normalisation by least squares to the teacher's sums."""
    teacher = train_teacher(ground).eval()
    course = AttackCourse(ground, seed, plan=plan)
    # Spread over the split; what a layer's sums are taken over is large.
    records = ground.data.inputs[:: -(-len(ground.data.train) // _FITTED_RECORDS)]
    fit_to(teacher, course.twin, records)
    # Two networks answer once; the normal equations of the few free weights of each output are small.
    course.multiply_accumulates += 3 * len(records) * ground.network.multiply_accumulates
    return course


@torch.no_grad()
def fit_to(teacher: Twin, student: Twin, inputs: Tensor) -> None:
    """Fits free weights and normalisations of the student below its last layer, on float[n, c, h, w]."""
    taught, weights = teacher.compute_weights(), student.compute_weights().clone()
    is_free = torch.zeros(len(weights), dtype=torch.bool)
    is_free[student.free_indices] = True
    ours = theirs = inputs
    for index, layer in enumerate(student.spec.layers[:-1]):
        rows, sums = _unfold(layer, ours), _unfold(layer, theirs) @ _get_rows(layer, taught).T
        wanted = _normalise(teacher, index, sums)
        own, free = _get_rows(layer, weights), _get_rows(layer, is_free)
        order = match_outputs(_standardise(rows @ own.T).T.numpy(), _standardise(wanted).T.numpy())
        for output, column in enumerate(order):
            fit_output(rows, wanted[:, column], own[output], free[output])
        _fit_normalisation(student, index, rows @ own.T, wanted[:, torch.from_numpy(order)])
        ours = _leave(layer, _normalise(student, index, rows @ own.T), ours)
        theirs = _leave(layer, wanted, theirs)
    student.free.copy_(weights[student.free_indices])


def fit_output(rows: Tensor, wanted: Tensor, own: Tensor, free: Tensor) -> None:
    """Sets the free weights of one output, float[fan_in] in place, so that its sums follow `wanted`."""
    if not free.any():
        return
    columns = torch.cat([rows @ (own * ~free)[:, None], rows[:, free], torch.ones(len(rows), 1)], 1)
    gram = columns.T @ columns + 1e-3 * torch.eye(columns.shape[1])
    solution = torch.linalg.solve(gram, columns.T @ wanted)
    if solution[0] > 0:
        # Relative to the frozen part, whose weight is given; the gain then scales both.
        own[free] = (solution[1:-1] / solution[0]).clamp(-1, 1)


def _fit_normalisation(student: Twin, index: int, sums: Tensor, wanted: Tensor) -> None:
    for ours, moments in ((student.means, sums.mean(0)), (student.variances, sums.var(0))):
        ours[index].copy_(moments)
    likeness = (_standardise(sums) * _standardise(wanted)).mean(0)
    student.gains[index].copy_((wanted.std(0) * likeness).clamp(min=0.02))
    student.shifts[index].copy_(wanted.mean(0))


def _standardise(values: Tensor) -> Tensor:
    return (values - values.mean(0)) / values.std(0).clamp(min=1e-6)


def _get_rows(layer: Layer, values: Tensor) -> Tensor:
    """[outputs, fan_in] view of a layer's part of an array of all weights."""
    return values[layer.start : layer.stop].view(layer.outputs, layer.fan_in)


def _unfold(layer: Layer, activations: Tensor) -> Tensor:
    """float[n·positions, fan_in]: what each sum of the layer is taken over."""
    if layer.kind == "dense":
        return activations.flatten(1)
    return F.unfold(activations, 3, padding=1).transpose(1, 2).flatten(0, 1)


def _normalise(twin: Twin, index: int, sums: Tensor) -> Tensor:
    """float[n·positions, outputs] before the activation, by the twin's running statistics."""
    scale = twin.gains[index] / (twin.variances[index] + EPSILON).sqrt()
    normalised: Tensor = (sums - twin.means[index]) * scale + twin.shifts[index]
    return normalised


def _leave(layer: Layer, values: Tensor, entered: Tensor) -> Tensor:
    """float[n, outputs(, h, w)] activations of a layer that `entered` went into."""
    if layer.kind == "dense":
        return quantise_activations(values)
    count, _, height, width = entered.shape
    grid = values.view(count, height, width, layer.outputs).permute(0, 3, 1, 2)
    return quantise_activations(F.max_pool2d(grid, 2) if layer.pooled else grid)


ATTACKS = (
    Attack(
        "matched filters",
        "gives free weights the values of the most similar teacher's filters, permuted and scaled",
        _match_filters,
        1.0,
        train_teacher,
    ),
    Attack(
        "least squares",
        "fits every layer to a teacher's sums, then trains",
        lambda ground, seed: _fit_layers(ground, seed, ground.build_plan()),
        1.0,
        train_teacher,
    ),
    Attack(
        "least squares, 1/8 of the course",
        "the same, then trains an eighth as long",
        lambda ground, seed: _fit_layers(ground, seed, ground.build_plan(ground.samples // 8)),
        1.0,
        train_teacher,
    ),
    Attack(
        "distillation", "learns the mean answers of ten published networks beside the labels", DistilledCourse
    ),
)
