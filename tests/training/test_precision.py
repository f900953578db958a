"""bfloat16 in training: only where the processor has it, only in products, and no worse for it."""

from __future__ import annotations

import pytest
import torch

from tests.training.samples import NETWORK, build_recipe, build_watermark
from training import precision
from training.data import TrainingData
from training.evaluator import compute_logits_in_float64, count_right
from training.optimise import compute_loss, train
from training.precision import has_bfloat16, mix_precision
from training.stack import TwinStack
from training.twin import Twin

SAMPLES = 5_120
CPU = torch.device("cpu")


def _build_twin(seed: int = 0) -> Twin:
    generator = torch.Generator().manual_seed(seed)
    return Twin(NETWORK, build_watermark(9_000, seed), generator, gain=0.25, shift=0.3)


def _train(digits_data: TrainingData) -> tuple[Twin, int]:
    """A twin behind a short course, and the right train records of its integer network."""
    twin, recipe = _build_twin(), build_recipe(SAMPLES)
    for _ in train(twin, digits_data, recipe, SAMPLES, torch.Generator().manual_seed(2)):
        pass
    twin.eval()
    records = digits_data.train
    return twin, count_right(compute_logits_in_float64(twin.export(), records.pixels), records.labels)


def test_the_processor_is_told_as_torch_tells_it() -> None:
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this torch does not tell")
    capabilities = torch.cpu.get_capabilities()
    told = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    assert has_bfloat16() == told


def test_only_products_are_of_bfloat16(digits_data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    twin = _build_twin().train()
    inputs, labels = digits_data.inputs[:64], digits_data.train.labels[:64]
    with mix_precision(CPU):
        assert torch.nn.functional.conv2d(inputs, torch.ones(1, 1, 3, 3)).dtype == torch.bfloat16
    loss, _ = compute_loss(twin, inputs, labels, build_recipe(SAMPLES))
    torch.autograd.backward(loss)
    assert loss.dtype == torch.float32
    for tensor in twin.parameters():
        assert tensor.dtype == torch.float32
        assert tensor.grad is not None
        assert tensor.grad.dtype == torch.float32
    assert {tensor.dtype for tensor in (*twin.means, *twin.variances)} == {torch.float32}


def test_a_course_ends_alike_in_either_precision(
    digits_data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    wide, wide_right = _train(digits_data)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    narrow, narrow_right = _train(digits_data)
    assert not torch.equal(wide.free, narrow.free)
    assert min(wide_right, narrow_right) > 900
    assert abs(wide_right - narrow_right) < 100


def test_a_stack_in_bfloat16_computes_what_its_twins_do_alone(
    digits_data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    twins = [_build_twin(seed).train() for seed in range(3)]
    inputs = digits_data.inputs[:192].view(3, 64, 1, 8, 8)
    with mix_precision(CPU), torch.no_grad():
        alone = torch.stack([twin(own) for twin, own in zip(twins, inputs, strict=True)]).float()
        together = TwinStack(twins).train()(inputs).float()
    for own, same in zip(alone, together, strict=True):
        assert torch.corrcoef(torch.stack([own.flatten(), same.flatten()]))[0, 1] > 0.98
    other = torch.corrcoef(torch.stack([alone[0].flatten(), together[1].flatten()]))[0, 1]
    assert other < 0.9
