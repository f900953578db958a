"""The twin carries its watermark through training and predicts what its integers predict."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from consensus.dataset import Dataset
from consensus.network import (
    MULTIPLIER_LIMIT,
    IntegerNetwork,
    NetworkSpec,
    compute_classes,
    compute_logits,
)
from consensus.solution import check_solution, encode_solution, extract_solution
from consensus.watermark import derive_watermark
from tests.training.samples import NETWORK, build_recipe, build_watermark
from training.data import TrainingData
from training.optimise import train
from training.quantisation import get_weight_levels, quantise_activations, quantise_weights
from training.twin import Twin, _load_kernels


def _build_twin(frozen: int, seed: int = 0) -> Twin:
    generator = torch.Generator().manual_seed(seed)
    return Twin(NETWORK, build_watermark(frozen, seed), generator, gain=0.15, shift=0.0)


def _train(data: TrainingData, frozen: int, samples: int, seed: int = 0) -> Twin:
    twin = _build_twin(frozen, seed)
    recipe = build_recipe(samples)
    steps = train(twin, data, recipe, samples, torch.Generator().manual_seed(seed))
    assert sum(1 for _ in steps) == samples // recipe.batch
    return twin.eval()


def _get_inputs(dataset: Dataset) -> Tensor:
    pixels = np.concatenate([dataset.train.pixels, dataset.eval.pixels])
    return torch.from_numpy((pixels >> 1).astype(np.float32) / 127)


@pytest.fixture(scope="module")
def trained(digits_data: TrainingData) -> list[Twin]:
    return [
        _train(digits_data, frozen, 2_594, seed) for seed, frozen in enumerate((1_000, 7_000, 9_500, 9_900))
    ]


def test_frozen_weights_are_bit_equal_after_training(trained: list[Twin]) -> None:
    for twin in trained:
        watermark = twin.watermark
        in_float = twin.compute_weights().detach().numpy()[watermark.indices]
        assert np.array_equal(in_float, watermark.values.astype(np.float32) / 127)
        assert np.array_equal(twin.export().weights[watermark.indices], watermark.values)


def test_frozen_weights_get_no_gradient(digits_data: TrainingData) -> None:
    twin = _build_twin(9_500)
    weights = twin.compute_weights()
    weights.retain_grad()
    features = digits_data.inputs[:32].flatten(1)
    hidden = NETWORK.layers[-2]
    twin.classify(features[:, : hidden.inputs], weights).square().sum().backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    assert twin.free.grad is not None
    # The loss pulls at frozen places too; only what arrives at the free ones is anyone's gradient.
    assert torch.count_nonzero(weights.grad[twin.watermark.indices]) > 0
    assert torch.equal(twin.free.grad, weights.grad[~torch.from_numpy(twin.watermark.frozen_mask)])
    assert not twin.frozen_weights.requires_grad
    assert len(twin.free) == NETWORK.weight_count - len(twin.watermark.indices)


def test_free_weights_start_uniform_on_the_grid() -> None:
    levels = get_weight_levels(_build_twin(1_000).free)
    assert torch.equal(levels.float() / 127, _build_twin(1_000).free.detach())
    assert int(levels.min()) == -127
    assert int(levels.max()) == 127
    assert abs(float(levels.float().mean())) < 4
    assert abs(float(levels.float().std()) - 73.6) < 2


def test_bounds_hold_after_training(trained: list[Twin]) -> None:
    for twin in trained:
        assert float(twin.free.detach().abs().max()) <= 1
        assert all(float(gain.detach().min()) >= 0 for gain in twin.gains)


def test_bounds_are_applied_after_a_wild_step() -> None:
    twin = _build_twin(9_500)
    with torch.no_grad():
        twin.free.mul_(100)
        for gain in twin.gains:
            gain.neg_()
    twin.apply_bounds()
    assert float(twin.free.detach().abs().max()) == 1
    assert all(torch.count_nonzero(gain) == 0 for gain in twin.gains)


def test_integers_change_at_most_three_predictions(trained: list[Twin], digits: Dataset) -> None:
    inputs = _get_inputs(digits)
    pixels = np.concatenate([digits.train.pixels, digits.eval.pixels])
    assert len(pixels) == 1_797
    for twin in trained:
        with torch.no_grad():
            classes = twin(inputs).argmax(1).numpy()
        assert np.count_nonzero(classes != compute_classes(twin.export(), pixels)) <= 3


def test_integers_follow_the_twin_logit_by_logit(trained: list[Twin], digits: Dataset) -> None:
    for twin in trained:
        with torch.no_grad():
            logits = twin(_get_inputs(digits)[:200]).double().numpy() * 127**2
        exact = compute_logits(twin.export(), digits.train.pixels[:200])
        # One activation in a hundred may round the other way, and moves a logit by 127 at most.
        assert float(np.median(np.abs(logits - exact))) < 127


def test_export_is_a_legal_solution(trained: list[Twin]) -> None:
    for twin in trained:
        solution = extract_solution(twin.export(), twin.watermark)
        check_solution(solution)
        assert encode_solution(solution)


def _fold_extremes() -> Iterator[IntegerNetwork]:
    for gain, variance, shift in ((1e9, 0.0, 1e12), (1e9, 0.0, -1e12), (0.0, 1.0, 0.0)):
        twin = _build_twin(9_500)
        with torch.no_grad():
            for index in range(len(twin.gains)):
                twin.gains[index].fill_(gain)
                twin.shifts[index].fill_(shift)
                twin.variances[index].fill_(variance)
            twin.bias.fill_(shift)
        yield twin.export()


def test_export_stays_within_the_bounds_of_a_solution() -> None:
    for network in _fold_extremes():
        check_solution(extract_solution(network, build_watermark(9_500)))
    assert int(next(_fold_extremes()).multipliers[0].max()) == MULTIPLIER_LIMIT - 1


@pytest.mark.parametrize(
    "spec",
    [
        NetworkSpec(3, 10, 13, 10, 3, 4, 12),
        NetworkSpec(1, 5, 4, 3, 1, 9, 7),
        NetworkSpec(2, 2, 2, 2, 1, 1, 1),
    ],
)
def test_other_shapes_export_what_they_predict(spec: NetworkSpec) -> None:
    watermark = derive_watermark(bytes(190), spec.weight_count, spec.weight_count // 2)
    twin = Twin(spec, watermark, torch.Generator().manual_seed(0), gain=0.15, shift=0.0)
    pixels = np.random.default_rng(0).integers(0, 256, (64, spec.c, spec.h, spec.w), dtype=np.uint8)
    inputs = torch.from_numpy((pixels >> 1).astype(np.float32) / 127)
    with torch.no_grad():
        for _ in range(60):
            twin.train()(inputs)
        logits = twin.eval()(inputs).double().numpy() * 127**2
    # Each layer may round an activation the other way; what is lost is small beside the logits' spread.
    exact = compute_logits(twin.export(), pixels)
    assert float(np.median(np.abs(logits - exact))) <= 127


def test_weights_are_quantised_with_a_straight_through_gradient() -> None:
    latent = torch.tensor([-1.0, -0.5039, 0.0, 0.004, 1.0], requires_grad=True)
    grid = quantise_weights(latent)
    assert torch.allclose(grid, torch.tensor([-127, -64, 0, 1, 127]) / 127)
    grid.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(latent.grad if latent.grad is not None else torch.empty(0), torch.ones(5))


def test_activations_are_quantised_and_their_gradient_stops_at_the_clamps() -> None:
    values = torch.tensor([-0.2, 0.1, 0.5, 1.3], requires_grad=True)
    grid = quantise_activations(values)
    assert torch.allclose(grid, torch.tensor([0, 13, 64, 127]) / 127)
    grid.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_activations_are_what_the_formula_says_and_leave_what_went_in(number: torch.dtype) -> None:
    values = torch.linspace(-0.5, 1.5, 100_001).to(number).requires_grad_()
    kept = values.detach().clone()
    # The gradient of the square needs the rounded values, that of the clamp those that went in.
    (quantise_activations(values) ** 2).sum().backward()  # type: ignore[no-untyped-call]
    grid = (kept * 127).round().clamp(0, 127) * (1 / 127)
    assert torch.equal(quantise_activations(values), grid)
    assert torch.equal(values, kept)
    assert values.grad is not None
    assert torch.equal(values.grad, torch.where((kept > 0) & (kept < 1), 2 * grid, 0))


def test_normalisations_begin_as_the_recipe_says() -> None:
    twin = Twin(NETWORK, build_watermark(9_800), torch.Generator().manual_seed(0), gain=0.25, shift=0.3)
    assert all(torch.all(gain == 0.25) for gain in twin.gains)
    assert all(torch.all(shift == torch.tensor(0.3)) for shift in twin.shifts)


def test_without_triton_training_has_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "training.kernels.images", None)
    _load_kernels.cache_clear()
    assert _load_kernels() is None
    _load_kernels.cache_clear()
