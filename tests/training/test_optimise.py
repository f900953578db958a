"""The reference trainer's step as a GPU's is compiled: traced on the CPU, where it is traced as often."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from tests.training.samples import NETWORK, build_recipe, build_watermark
from training.data import TrainingData
from training.muon import count_step, orthogonalise
from training.optimise import ComputeLoss, compute_loss, train
from training.recipe import Recipe
from training.twin import Twin


def _build_twin(nonce: int) -> Twin:
    generator = torch.Generator().manual_seed(nonce)
    return Twin(NETWORK, build_watermark(9_500, nonce), generator, gain=0.15)


def _compute_gradient(compute: ComputeLoss, twin: Twin, data: TrainingData, recipe: Recipe) -> Tensor:
    loss, _ = compute(twin, data.inputs[:64], data.train.labels[:64], recipe)
    loss.backward()  # type: ignore[no-untyped-call]
    assert twin.free.grad is not None
    return twin.free.grad


def test_compiled_step_does_not_compile_again_for_a_new_watermark(digits_data: TrainingData) -> None:
    counters.clear()
    # The tracing decides what is compiled again; the back-end only what the result runs on.
    compiled, recipe = torch.compile(compute_loss, backend="eager"), build_recipe(1_280)
    for nonce in range(3):
        gradient = _compute_gradient(compiled, _build_twin(nonce), digits_data, recipe)
        assert torch.equal(gradient, _compute_gradient(compute_loss, _build_twin(nonce), digits_data, recipe))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_muon_learns_and_leaves_the_watermark(digits_data: TrainingData) -> None:
    recipe = replace(build_recipe(2_560), optimiser="muon", weight_rate=0.1)
    twin = _build_twin(0)
    before = twin.free.detach().clone()
    right = list(train(twin, digits_data, recipe, 2_560, torch.Generator().manual_seed(0)))
    assert int(torch.stack(right[-5:]).sum()) > 2 * int(torch.stack(right[:5]).sum())
    assert float((twin.free.detach() - before).abs().mean()) > 0.1
    watermark = twin.watermark
    assert (twin.export().weights[watermark.indices] == watermark.values).all()


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_orthogonalised_matrix_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert 0.4 < float(values.min()) <= float(values.max()) < 1.3


def test_step_of_muon_counts_its_products() -> None:
    shapes = [(8, 9), (8, 72), (16, 72), (16, 144), (64, 64), (10, 64)]
    products = [2 * min(shape) ** 2 * max(shape) + min(shape) ** 3 for shape in shapes]
    assert count_step(NETWORK) == 5 * sum(products)
