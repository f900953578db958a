"""The promise of a watermark: what it counts, what it leaves alone, and what an attempt does about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.training.samples import NETWORK, NEVER, build_recipe, build_watermark
from training.course import Checkpoint, Course, Judgement, judge
from training.data import TrainingData
from training.probe import compute_cost, count_promised
from training.stack import TwinStack
from training.twin import Twin

RECIPE = build_recipe(640)


@pytest.fixture
def twin() -> Twin:
    generator = torch.Generator().manual_seed(4)
    return Twin(NETWORK, build_watermark(9_800), generator, RECIPE.gain, RECIPE.shift)


def test_promise_is_the_least_squares_fit(twin: Twin, digits_data: TrainingData) -> None:
    with torch.no_grad():
        features = TwinStack([twin]).extract(digits_data.inputs)[0].double().numpy()
    rows = np.hstack([features, np.ones((len(features), 1))])
    labels = digits_data.train.labels
    solution, *_ = np.linalg.lstsq(rows, F.one_hot(labels).double().numpy(), rcond=None)
    right = int(((rows @ solution).argmax(1) == labels.numpy()).sum())
    (promised,) = count_promised([twin], digits_data)
    # Least squares without the ridge: a record or two on the edge may fall on the other side.
    assert abs(promised - right) <= 3
    assert right > 800


def test_features_are_those_of_a_training_pass(twin: Twin, digits_data: TrainingData) -> None:
    seen: list[torch.Tensor] = []
    classify = twin._classify

    def spy(features: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        seen.append(features.detach())
        return classify(features, *weights)

    inputs = digits_data.inputs[:64]
    expected = TwinStack([twin]).extract(inputs)[0].detach()
    twin._classify = spy  # type: ignore[method-assign, assignment]
    twin.train()(inputs)
    assert torch.equal(seen[0], expected)


def test_looking_changes_nothing(twin: Twin, digits_data: TrainingData) -> None:
    def copy_state() -> list[torch.Tensor]:
        return [t.detach().clone() for t in (*twin.parameters(), *twin.means, *twin.variances)]

    before = copy_state()
    first = count_promised([twin], digits_data)
    assert all(torch.equal(old, new) for old, new in zip(before, copy_state(), strict=True))
    assert count_promised([twin], digits_data) == first


def test_looks_together_are_looks_alone(digits_data: TrainingData) -> None:
    def build() -> list[Twin]:
        return [
            Twin(
                NETWORK,
                build_watermark(9_800, seed),
                torch.Generator().manual_seed(seed),
                RECIPE.gain,
                RECIPE.shift,
            )
            for seed in range(4)
        ]

    alone = [count_promised([twin], digits_data)[0] for twin in build()]
    assert len(set(alone)) == 4
    together = count_promised(build(), digits_data)
    # Batch statistics of other sums: an activation on the edge may round the other way.
    assert all(abs(one - other) <= 3 for one, other in zip(alone, together, strict=True))


def test_of_many_records_every_few_are_looked_at(twin: Twin, digits_data: TrainingData) -> None:
    """4,096 records: the even places alone count, wherever in the split a class lies."""
    places = torch.arange(2_048) % len(digits_data.train)
    pixels, labels = digits_data.train.pixels[places], digits_data.train.labels[places]
    few = replace(
        digits_data,
        train=replace(digits_data.train, pixels=pixels, labels=labels),
        inputs=digits_data.inputs[places],
    )
    unseen = torch.zeros_like(labels)
    many = replace(
        few,
        train=replace(
            few.train,
            pixels=torch.stack([pixels, pixels.flip(0)], 1).flatten(0, 1),
            labels=torch.stack([labels, unseen], 1).flatten(),
        ),
        inputs=torch.stack([few.inputs, few.inputs.flip(0)], 1).flatten(0, 1),
    )
    (promised,) = count_promised([twin], few)
    (scaled,) = count_promised([twin], many)
    # In another memory layout: an activation on the edge may round the other way.
    assert abs(scaled - 2 * promised) <= 12
    cost = compute_cost(NETWORK, len(few.train))
    assert compute_cost(NETWORK, len(many.train)) == cost > compute_cost(NETWORK, len(digits_data.train))


def test_promise_is_no_claim_but_may_end_an_attempt() -> None:
    promise, estimate = Checkpoint(0, 1_250, False), Checkpoint(1, 1_250, False)
    assert promise.is_promise
    assert not estimate.is_promise
    assert judge(promise, 1_200, 1_250) is Judgement.GO_ON
    assert judge(estimate, 1_200, 0) is Judgement.RECOUNT
    assert judge(promise, 1_200, 1_251) is Judgement.GIVE_UP


def test_course_begins_with_the_promise_and_trains_the_same(digits_data: TrainingData) -> None:
    course = Course(NETWORK, build_watermark(9_800), digits_data, RECIPE, RECIPE.plans[0], 4)
    first, *rest = course.follow()
    assert first.is_promise
    assert not any(checkpoint.is_promise for checkpoint in rest)
    assert 1 + len(rest) == len(NEVER)
    unprobed = Course(NETWORK, build_watermark(9_800), digits_data, RECIPE, RECIPE.plans[0], 4)
    assert list(unprobed._train_and_polish(1)) == rest
