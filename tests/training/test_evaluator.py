"""The fast evaluators equal the normative one, and a back-end that does not is never used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from consensus.network import IntegerNetwork, compute_logits, count_correct
from training import evaluator
from training.evaluator import (
    BACKENDS,
    ComputeLogits,
    choose_compute_logits,
    choose_count_correct,
    compute_logits_in_float32,
    compute_logits_in_float64,
)
from training.selftest import WORST_CASES, WorstCase, compute_known_answer

CASE_IDS = [f"{case.spec.h}x{case.spec.w}{case.draw_weights.__name__}" for case in WORST_CASES]


@pytest.mark.parametrize("compute", BACKENDS)
@pytest.mark.parametrize("case", WORST_CASES, ids=CASE_IDS)
def test_backend_finds_every_known_logit(compute: ComputeLogits, case: WorstCase) -> None:
    known = compute_known_answer(case)
    logits = compute(known.network, torch.from_numpy(known.pixels))
    assert np.array_equal(logits.numpy().astype(np.int64), known.logits)


@pytest.mark.cuda
@pytest.mark.parametrize("compute", BACKENDS)
def test_backend_is_exact_on_cuda(compute: ComputeLogits) -> None:
    assert choose_compute_logits("cuda", [compute]) is compute


def test_first_backend_is_chosen_here() -> None:
    assert choose_compute_logits("cpu") is compute_logits_in_float32


def test_known_answers_strain_the_layers() -> None:
    """The activations must differ between images, or a wrong back-end could hide behind clamped ones."""
    for case in WORST_CASES:
        known = compute_known_answer(case)
        assert len(np.unique(known.logits, axis=0)) > 1
        assert int(np.abs(known.logits).max()) > 2**30 - 2**21


def _use_one_long_sum(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    terms = evaluator._EXACT_TERMS[torch.float32]
    evaluator._EXACT_TERMS[torch.float32] = 2**20
    try:
        return compute_logits_in_float32(network, pixels)
    finally:
        evaluator._EXACT_TERMS[torch.float32] = terms


def _round_logits_to_float32(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    return compute_logits_in_float64(network, pixels).float().double()


def _saturate_pair_sums(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    """What a product of i8 pairs does without VNNI, here on the last layer alone: sums stop at 2^15 - 1."""
    exact = compute_logits_in_float64(network, pixels)
    bias = torch.from_numpy(network.bias).double()
    return (exact - bias).clamp(-(2**15), 2**15 - 1) + bias


def _use_bfloat16(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return compute_logits_in_float32(network, pixels)


@pytest.mark.parametrize(
    "planted", [_use_one_long_sum, _round_logits_to_float32, _saturate_pair_sums, _use_bfloat16]
)
def test_rejects_a_wrong_backend(planted: ComputeLogits) -> None:
    assert choose_compute_logits("cpu", [planted]) is None
    assert choose_compute_logits("cpu", [planted, compute_logits_in_float64]) is compute_logits_in_float64


def test_normative_count_is_the_last_resort() -> None:
    assert choose_count_correct("cpu", [_round_logits_to_float32]) is count_correct


@pytest.mark.parametrize("case", WORST_CASES[:6], ids=CASE_IDS[:6])
def test_count_equals_the_normative_one(case: WorstCase) -> None:
    known = compute_known_answer(case)
    labels = np.argmax(compute_logits(known.network, known.pixels), axis=1).astype(np.uint8)
    labels[0] ^= 1
    count = choose_count_correct("cpu")
    assert count(known.network, known.pixels, labels) == count_correct(known.network, known.pixels, labels)


def test_precision_setting_is_given_back() -> None:
    known = compute_known_answer(WORST_CASES[0])
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        compute_logits_in_float32(known.network, torch.from_numpy(known.pixels))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
