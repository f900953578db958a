"""Working around the frozen weights: drowning them, leaving all weights alone, switching channels off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consensus.network import NetworkSpec
from consensus.watermark import Watermark
from training.course import Course
from training.evaluator import compute_features
from training.lab.attacks.frame import Attack, AttackCourse, Ground, StandInCourse, train_with
from training.quantisation import LEVELS
from training.twin import MOMENTUM, Twin

IndexArray = npt.NDArray[np.int64]


@torch.no_grad()
def _drown_by_weights(ground: Ground, seed: int) -> Course:
    course = AttackCourse(ground, seed)
    course.twin.free.copy_(torch.where(course.twin.free < 0, -1.0, 1.0))
    return course


@torch.no_grad()
def _drown_by_normalisation(ground: Ground, seed: int) -> Course:
    """Channels with more free weights start louder, those with none silent."""
    course = AttackCourse(ground, seed)
    is_free = ~course.watermark.frozen_mask
    for layer, gains in zip(ground.network.layers, course.twin.gains, strict=False):
        counts = is_free[layer.start : layer.stop].reshape(layer.outputs, -1).sum(1)
        shares = torch.from_numpy(counts / max(1e-9, counts.mean())).to(gains)
        gains.mul_(shares.clamp(0, 3))
    return course


def _train_normalisation(ground: Ground, seed: int) -> Course:
    """No gradient of any weight is computed: two passes a sample instead of three."""
    polish = replace(ground.recipe.polish, tune_weight_rate=0.0)
    recipe = replace(ground.recipe, weight_rate=0.0, polish=polish)
    course = StandInCourse(ground, seed, recipe=recipe, passes=2.0)
    course.twin.free.requires_grad_(False)
    return course


class HeadCourse(StandInCourse):
    """Random convolutions, normalised once; only the dense layers are trained, on cached activations."""

    def __init__(self, ground: Ground, seed: int) -> None:
        dense = sum(layer.outputs * layer.inputs for layer in ground.network.layers[-2:])
        super().__init__(ground, seed, passes=3.0 * dense / ground.network.multiply_accumulates)

    def stream(self) -> Iterator[Tensor]:
        data, recipe, twin = self.data, self.recipe, self.twin
        inputs = self._normalise_convolutions() / LEVELS
        criterion = torch.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        return train_with(
            twin,
            lambda indices: twin.classify(inputs[indices], twin.compute_weights()),
            lambda logits, indices: criterion(logits * recipe.logit_scale, data.train.labels[indices]),
            data.train.labels,
            recipe,
            self.plan.samples,
            self.generator,
        )

    @torch.no_grad()
    def _normalise_convolutions(self) -> Tensor:
        """float32[n, flat] activations of convolutions whose statistics are those of the train split."""
        moments = (*self.twin.means, *self.twin.variances)
        for moment in moments:
            moment.zero_()
        self.twin.train()
        self.twin(self.data.inputs)
        for moment in moments:
            # One pass from zero leaves only this share of the statistics there.
            moment.div_(MOMENTUM)
        self.multiply_accumulates += 2 * len(self.data.train) * self._spec.multiply_accumulates
        return compute_features(self.twin.export(), self.data.train.pixels)


class NarrowCourse(StandInCourse):
    """Half the channels of every convolution, those with the most free weights; the others are silent."""

    def __init__(self, ground: Ground, seed: int) -> None:
        watermark = ground.derive_watermark(seed)
        self._kept = choose_channels(ground.network, watermark)
        self._narrow = narrow_network(ground.network)
        self._places = select_places(ground.network, self._kept)
        narrowed = narrow_watermark(watermark, self._places)
        generator = ground.build_generator(seed)
        twin = Twin(self._narrow, narrowed, generator, ground.recipe.gain, ground.recipe.shift)
        super().__init__(ground, seed, stand_in=twin)

    @torch.no_grad()
    def settle(self) -> None:
        weights = torch.zeros(self._spec.weight_count)
        weights[torch.from_numpy(self._places)] = self._stand_in.compute_weights()
        twin, narrow = self.twin, self._stand_in
        twin.free.copy_(weights[twin.free_indices])
        twin.bias.copy_(narrow.bias)
        for index, kept in enumerate(self._kept):
            chosen = torch.from_numpy(kept)
            pairs = ((twin.gains, narrow.gains), (twin.shifts, narrow.shifts), (twin.means, narrow.means))
            for ours, theirs in pairs:
                ours[index].zero_()
                ours[index][chosen] = theirs[index].detach()
            twin.variances[index].fill_(1.0)
            twin.variances[index][chosen] = narrow.variances[index]


def narrow_network(spec: NetworkSpec) -> NetworkSpec:
    """The same network with half the filters."""
    return replace(spec, filters=spec.filters // 2)


def choose_channels(spec: NetworkSpec, watermark: Watermark) -> list[IndexArray]:
    """Of each normalised layer the outputs to keep, increasing: all hidden units, half of the channels."""
    is_free = ~watermark.frozen_mask
    kept = []
    for layer in spec.layers[:-1]:
        counts = is_free[layer.start : layer.stop].reshape(layer.outputs, -1).sum(1)
        count = layer.outputs // 2 if layer.kind == "convolution" else layer.outputs
        kept.append(np.sort(np.argsort(-counts, kind="stable")[:count]))
    return kept


def select_places(spec: NetworkSpec, kept: list[IndexArray]) -> IndexArray:
    """int64[weights of the narrow network]: where each of them lies in the whole one."""
    places = []
    inputs = np.arange(spec.c)
    for layer, outputs in zip(spec.layers, [*kept, np.arange(spec.classes)], strict=True):
        grid = np.arange(layer.start, layer.stop).reshape(layer.outputs, layer.inputs, -1)
        if layer.kind == "dense":
            positions = layer.inputs // spec.layers[-3].outputs
            inputs = (inputs[:, None] * positions + np.arange(positions)).ravel()
        places.append(grid[outputs][:, inputs].ravel())
        inputs = outputs
    return np.concatenate(places)


def narrow_watermark(watermark: Watermark, places: IndexArray) -> Watermark:
    """What a watermark freezes at these places."""
    values = np.zeros(watermark.weight_count, np.int8)
    values[watermark.indices] = watermark.values
    indices = np.flatnonzero(watermark.frozen_mask[places])
    return Watermark(len(places), indices, values[places][indices])


ATTACKS = (
    Attack("drown by weights", "free weights start at -1 or 1, the ends of their grid", _drown_by_weights),
    Attack(
        "drown by normalisation",
        "channels start as loud as their share of free weights is large",
        _drown_by_normalisation,
    ),
    Attack(
        "normalisation only",
        "trains gains, shifts and the bias; weights get no gradient, which saves a pass in three",
        _train_normalisation,
    ),
    Attack(
        "dense layers only", "keeps random convolutions and trains on their cached activations", HeadCourse
    ),
    Attack(
        "narrow network", "switches half the channels off and trains a quarter of the network", NarrowCourse
    ),
)
