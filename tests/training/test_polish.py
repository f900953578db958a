"""Polishing keeps the convolutions and the watermark, counts exactly, and improves what it scores."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from consensus.dataset import Dataset
from consensus.network import IntegerNetwork, count_correct
from consensus.solution import check_solution, extract_solution
from consensus.watermark import derive_watermark
from tests.training.samples import NETWORK, build_recipe, build_watermark
from training.data import TrainingData
from training.evaluator import compute_features
from training.optimise import compute_one_cycle, train
from training.polish import Head, count_softly, tune
from training.tasks import load_task_file
from training.twin import Twin

RECIPE = build_recipe(1_297)
(STEPS,) = RECIPE.polish.tune_steps


@pytest.fixture(scope="module", params=[9_000, 9_900])
def twin(request: pytest.FixtureRequest, digits_data: TrainingData) -> Twin:
    generator = torch.Generator().manual_seed(3)
    network = Twin(NETWORK, build_watermark(request.param), generator, RECIPE.gain, RECIPE.shift)
    for _ in train(network, digits_data, RECIPE, 1_297, generator):
        pass
    return network.eval()


def _open_head(network: IntegerNetwork, twin: Twin, data: TrainingData) -> tuple[Head, Tensor]:
    features = compute_features(network, data.train.pixels)
    return Head(network, twin.watermark.frozen_mask, features, data.train.labels), features


def _count(network: IntegerNetwork, digits: Dataset) -> int:
    return count_correct(network, digits.train.pixels, digits.train.labels)


def test_head_counts_exactly(twin: Twin, digits: Dataset, digits_data: TrainingData) -> None:
    network = twin.export()
    head, _ = _open_head(network, twin, digits_data)
    assert head.train_correct == _count(network, digits)
    assert np.array_equal(head.build_network().weights, network.weights)


def test_sweeps_raise_the_count_and_stay_legal(
    twin: Twin, digits: Dataset, digits_data: TrainingData
) -> None:
    before = twin.export()
    head, _ = _open_head(before, twin, digits_data)
    generator = torch.Generator().manual_seed(0)
    counts = [head.train_correct]
    for sweep in range(3):
        for _ in head.sweep(RECIPE.polish, 0.5**sweep, generator):
            pass
        counts.append(head.train_correct)
        assert counts[-1] == _count(head.build_network(), digits)
    assert counts[-1] > counts[0] + 10
    after = head.build_network()
    check_solution(extract_solution(after, twin.watermark))
    hidden = NETWORK.layers[-1].start
    assert np.array_equal(after.weights[:hidden], before.weights[:hidden])
    for index in range(len(before.offsets) - 1):
        assert np.array_equal(after.offsets[index], before.offsets[index])
        assert np.array_equal(after.multipliers[index], before.multipliers[index])


def test_tuning_moves_the_dense_layers_alone(twin: Twin, digits: Dataset, digits_data: TrainingData) -> None:
    before = twin.export()
    _, features = _open_head(before, twin, digits_data)
    steps = tune(twin, features, digits_data.train.labels, RECIPE, STEPS, torch.Generator())
    assert sum(1 for _ in steps) == STEPS
    after = twin.export()
    dense = NETWORK.layers[-2].start
    assert np.array_equal(after.weights[:dense], before.weights[:dense])
    assert all(np.array_equal(a, b) for a, b in zip(after.offsets[:-1], before.offsets[:-1], strict=True))
    assert not np.array_equal(after.offsets[-1], before.offsets[-1])
    assert np.array_equal(after.weights[twin.watermark.indices], twin.watermark.values)
    assert _count(after, digits) > _count(before, digits) - 20


def test_soft_count_is_the_count_at_a_margin_of_nothing() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.2, 0.0], [0.0, 5.0, 5.5]])
    labels = torch.tensor([0, 0, 1])
    assert float(count_softly(logits, labels, 1e-3)) == pytest.approx(1)
    assert float(count_softly(logits, labels, 1e6)) == pytest.approx(1.5)
    expected = sum(1 / (1 + math.exp(-margin / 0.5)) for margin in (1.0, -0.2, -0.5))
    assert float(count_softly(logits, labels, 0.5)) == pytest.approx(expected)


def test_tuning_by_margins_raises_the_count(digits: Dataset, digits_data: TrainingData) -> None:
    """On the network that is mined, after a quarter of its shortest course at 98 %."""
    file = load_task_file("digits")
    network, recipe, generator = file.network, file.recipe, torch.Generator().manual_seed(3)
    watermark = derive_watermark(b"header", network.weight_count, network.weight_count * 98 // 100)
    mined = Twin(network, watermark, generator, recipe.gain, recipe.shift)
    for _ in train(mined, digits_data, recipe, 5_188, generator):
        pass
    before = mined.eval().export()
    features = compute_features(before, digits_data.train.pixels)
    counts = [_count(before, digits)]
    for steps in recipe.polish.tune_steps:
        taken = list(tune(mined, features, digits_data.train.labels, recipe, steps, generator))
        assert taken == [1_297] * steps
        counts.append(_count(mined.export(), digits))
    assert counts[1] > counts[0] + 20
    assert counts[2] >= counts[1]
    after = mined.export()
    assert np.array_equal(after.weights[watermark.indices], watermark.values)
    check_solution(extract_solution(after, watermark))


def test_tuning_takes_batches_where_there_are_many_records(twin: Twin, digits_data: TrainingData) -> None:
    features = compute_features(twin.export(), digits_data.train.pixels)
    recipe = replace(RECIPE, polish=replace(RECIPE.polish, tune_batch=100))
    offsets = []
    for _ in range(2):
        mine, generator = copy.deepcopy(twin), torch.Generator().manual_seed(5)
        assert list(tune(mine, features, digits_data.train.labels, recipe, 20, generator)) == [100] * 20
        offsets.append(mine.export().offsets[-1])
    assert np.array_equal(offsets[0], offsets[1])
    assert not np.array_equal(offsets[0], twin.export().offsets[-1])


def test_one_cycle_rises_and_falls_to_zero() -> None:
    assert compute_one_cycle(0.0, 0.3) == 0
    assert compute_one_cycle(0.15, 0.3) == pytest.approx(0.5)
    assert compute_one_cycle(0.3, 0.3) == pytest.approx(1)
    assert compute_one_cycle(0.65, 0.3) == pytest.approx(0.5)
    assert compute_one_cycle(1.0, 0.3) == 0
