"""The reference trainer's step as a GPU's is compiled: traced on the CPU, where it is traced as often."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._dynamo.utils import counters

from tests.training.samples import NETWORK, build_recipe, build_watermark
from training.data import TrainingData
from training.optimise import ComputeLoss, compute_loss
from training.recipe import Recipe
from training.twin import Twin


def _build_twin(nonce: int) -> Twin:
    generator = torch.Generator().manual_seed(nonce)
    return Twin(NETWORK, build_watermark(9_500, nonce), generator, gain=0.15, shift=0.0)


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
