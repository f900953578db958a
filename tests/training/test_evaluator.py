"""The fast evaluators equal the normative one, and a back-end that does not is never used."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from consensus.network import BIAS_BOUND, IntegerNetwork, NetworkSpec, compute_logits, count_correct
from tests.training.networks import (
    SPECS,
    count_wrong_convolutions,
    count_wrong_widths,
    draw_network,
    draw_pixels,
    level_logits,
)
from training import inference
from training.evaluator import (
    BACKENDS,
    ComputeLogits,
    choose_compute_logits,
    compute_features,
    compute_logits_in_float32,
    compute_logits_in_float64,
    compute_logits_in_fused_int8,
    compute_logits_normatively,
    count_right,
)
from training.inference import PreparedLayer, PreparedNetwork, _cut_inputs, spread_filters
from training.products import FLOAT32, FLOAT64, INT8, Product
from training.selftest import WORST_CASES, WorstCase, compute_known_answer

CASE_IDS = [f"{case.spec.h}x{case.spec.w}{case.draw_weights.__name__}" for case in WORST_CASES]
ISA_CHECK = Path(__file__).with_name("isa_check.py")
TRITON_CHECK = Path(__file__).with_name("triton_check.py")


@pytest.mark.parametrize("compute", BACKENDS["cpu"])
@pytest.mark.parametrize("case", WORST_CASES, ids=CASE_IDS)
def test_backend_finds_every_known_logit(compute: ComputeLogits, case: WorstCase) -> None:
    known = compute_known_answer(case)
    logits = compute(known.network, torch.from_numpy(known.pixels))
    assert np.array_equal(logits.numpy().astype(np.int64), known.logits)


@pytest.mark.cuda
@pytest.mark.parametrize("compute", BACKENDS["cuda"])
def test_backend_is_exact_on_cuda(compute: ComputeLogits) -> None:
    assert choose_compute_logits("cuda", [compute]) is compute


@pytest.mark.cuda
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("compute", BACKENDS["cuda"])
def test_random_networks_on_cuda(compute: ComputeLogits, spec: NetworkSpec) -> None:
    random = np.random.default_rng(spec.w)
    network, pixels = draw_network(spec, random), draw_pixels(spec, 24, random)
    known = torch.from_numpy(compute_logits(network, pixels))
    for size in (1, 2, 3, 17, 24):
        logits = compute(network, torch.from_numpy(pixels[:size]).cuda())
        assert torch.equal(logits.cpu().long(), known[:size])


@pytest.mark.triton
def test_kernels_are_right_in_the_interpreter() -> None:
    """Of evaluation and of training; what a GPU makes of them, the tests that need one find out."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, str(TRITON_CHECK)], env=environment, capture_output=True, check=True, timeout=100
    )
    findings = json.loads(done.stdout)
    assert findings["exact"] == [True] * 9
    assert findings["random"] == [True] * (len(SPECS) + 1)
    assert findings["normalise"] < 1e-4
    assert findings["images"] < 1e-4


def test_without_triton_another_back_end_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "training.kernels.evaluation", None)
    backends = [compute_logits_in_fused_int8, compute_logits_in_float64]
    assert choose_compute_logits("cpu", backends) is compute_logits_in_float64
    assert "import of training.kernels.evaluation halted" in caplog.text


@pytest.mark.parametrize("raises", [False, True])
def test_a_backend_that_errs_on_usual_shapes_steps_aside(raises: bool) -> None:
    def compute(network: IntegerNetwork, pixels: Tensor) -> Tensor:
        logits = compute_logits_in_float64(network, pixels)
        if network.spec.filters != 32:
            return logits
        if raises:
            raise ValueError("no kernel for so many channels")
        return logits + 1

    backends = [compute, compute_logits_in_float64]
    assert choose_compute_logits("cpu", backends) is compute_logits_in_float64


def test_an_exact_backend_is_found_here() -> None:
    assert choose_compute_logits("cpu") in BACKENDS["cpu"]


def test_known_answers_strain_the_layers() -> None:
    """The activations must differ between images, or a wrong back-end could hide behind clamped ones."""
    for case in WORST_CASES:
        known = compute_known_answer(case)
        assert len(np.unique(known.logits, axis=0)) > 1
        assert int(np.abs(known.logits).max()) > 2**30 - 2**21


@pytest.mark.parametrize("product", [INT8, FLOAT32, FLOAT64], ids=["int8", "float32", "float64"])
def test_worst_rows_of_every_width(product: Product) -> None:
    assert count_wrong_widths(product, step=1) == 0


def test_worst_convolutions_of_every_width() -> None:
    assert count_wrong_convolutions(step=1) == 0


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("compute", BACKENDS["cpu"])
def test_random_networks_in_batches_of_every_size(
    compute: ComputeLogits, spec: NetworkSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts, in tiles of a few records and in one, by windows, as shipped and by image rows."""
    random = np.random.default_rng(spec.w)
    network, pixels = draw_network(spec, random), draw_pixels(spec, 24, random)
    known = torch.from_numpy(compute_logits(network, pixels))
    assert spec.hidden == 1 or len(torch.unique(known, dim=0)) > 1
    for tile_bytes, most in itertools.product((2**12, 2**22), (0, inference._MOST_SPREAD_ENTRIES, 2**30)):
        monkeypatch.setitem(inference._TILE_BYTES, "cpu", tile_bytes)
        monkeypatch.setattr(inference, "_CONVOLVED_BYTES", tile_bytes)
        monkeypatch.setattr(inference, "_MOST_SPREAD_ENTRIES", most)
        for size in range(1, len(pixels) + 1):
            assert torch.equal(compute(network, torch.from_numpy(pixels[:size])).long(), known[:size])


def test_spread_filters_convolve_image_rows() -> None:
    random = np.random.default_rng(0)
    for outputs, inputs, height, width in ((4, 3, 5, 2), (1, 1, 1, 1), (2, 2, 3, 8)):
        filters = random.integers(-127, 128, (outputs, inputs, 3, 3), dtype=np.int8)
        images = torch.from_numpy(random.integers(0, 128, (6, inputs, height, width))).double()
        known = F.conv2d(images, torch.from_numpy(filters).double(), padding=1).permute(0, 2, 3, 1)
        matrix = torch.from_numpy(spread_filters(filters, width)).double().T
        padded = F.pad(images, (0, 0, 1, 1)).permute(0, 2, 3, 1).flatten(2)
        rows = torch.cat([padded[:, row : row + height] for row in range(3)], 2)
        assert torch.equal(rows @ matrix, known.flatten(2))


@pytest.mark.x86
def test_instruction_sets_and_threads_do_not_matter() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        [sys.executable, str(ISA_CHECK)], env=environment, capture_output=True, check=True, timeout=100
    )
    findings = json.loads(done.stdout)
    for found in findings.values():
        assert found["int8"] == found["float32"] == found["convolution"] == [True, True]
        assert found["different"] == [[0] * 4] * 2
        assert found["wrong_widths"] == found["wrong_convolutions"] == [0, 0]
    # The setting had its effect, and signed rows are caught where they are wrong: without VNNI. On processors
    # that have AVX2 alone torch does not ask oneDNN for them, is exact and slow.
    asks = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    assert findings["AVX2"]["signed"] == findings["AVX512_CORE"]["signed"] == [not asks] * 2


def _count_fast(network: IntegerNetwork, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> int:
    compute = choose_compute_logits("cpu")
    assert compute is not None
    return count_right(compute(network, torch.from_numpy(pixels)), torch.from_numpy(labels))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("compute", BACKENDS["cpu"])
@pytest.mark.parametrize("bias", [-BIAS_BOUND, 0, BIAS_BOUND])
def test_equal_logits_fall_to_the_lowest_class(bias: int, compute: ComputeLogits, spec: NetworkSpec) -> None:
    random = np.random.default_rng(1)
    level, pixels = level_logits(draw_network(spec, random), bias), draw_pixels(spec, 20, random)
    logits = compute(level, torch.from_numpy(pixels))
    assert set(logits.flatten().tolist()) == {float(bias)}
    for label, right in ((0, 20), (1, 0)):
        labels = np.full(20, label, np.uint8)
        assert count_right(logits, torch.from_numpy(labels)) == right
        assert count_correct(level, pixels, labels) == right


def _by(product: Product) -> ComputeLogits:
    def compute(network: IntegerNetwork, pixels: Tensor) -> Tensor:
        return PreparedNetwork(product, network, pixels.device).compute_logits(pixels)

    return compute


def _saturate_pairs(rows: Tensor, matrix: Tensor) -> Tensor:
    """What signed rows get without VNNI: shifted by 128, multiplied, added in pairs that stop at 2^15 - 1."""
    odd = rows.shape[1] % 2
    left = F.pad(rows.double() + 128, (0, odd))
    right = F.pad(matrix.double(), (0, 0, 0, odd))
    sums = torch.zeros(len(rows), matrix.shape[1], dtype=torch.float64)
    for start in range(0, len(right), 2):
        pair = left[:, start : start + 2] @ right[start : start + 2]
        sums += pair.clamp(-(2**15), 2**15 - 1)
    return (sums - 128 * matrix.double().sum(0)).int()


def _wrap_at_24_bits(rows: Tensor, matrix: Tensor) -> Tensor:
    return (((torch._int_mm(rows, matrix) + 2**23) & (2**24 - 1)) - 2**23).int()


def _forget_the_last_odd_term(rows: Tensor, matrix: Tensor) -> Tensor:
    terms = rows.shape[1] // 8 * 8
    return torch._int_mm(rows[:, :terms], matrix[:terms]) if terms > 8 else torch._int_mm(rows, matrix)


def _multiply_bfloat16(rows: Tensor, matrix: Tensor) -> Tensor:
    return (rows.bfloat16() @ matrix.bfloat16()).float()


def _refuse(rows: Tensor, matrix: Tensor) -> Tensor:
    raise RuntimeError("no such product on this device")


WRONG_PRODUCTS = {
    "one long sum in float32": Product(torch.float32, torch.float32, torch.matmul),
    "int32 sums in float32": Product(torch.uint8, torch.int8, lambda a, b: torch._int_mm(a, b).float()),
    "pairs that saturate": Product(torch.int8, torch.int8, _saturate_pairs),
    "24 bits": Product(torch.uint8, torch.int8, _wrap_at_24_bits),
    "whole eights of terms": Product(torch.uint8, torch.int8, _forget_the_last_odd_term),
    "bfloat16": Product(torch.float32, torch.float32, _multiply_bfloat16),
    "no product at all": Product(torch.uint8, torch.int8, _refuse),
}


@pytest.mark.parametrize("product", WRONG_PRODUCTS.values(), ids=WRONG_PRODUCTS)
def test_rejects_a_wrong_product(product: Product) -> None:
    assert choose_compute_logits("cpu", [_by(product)]) is None
    assert (
        choose_compute_logits("cpu", [_by(product), compute_logits_in_float64]) is compute_logits_in_float64
    )


def test_the_fastest_of_the_exact_is_taken() -> None:
    """Integer products are slower than floats by an order of magnitude on processors that lack them."""

    def compute_thrice(network: IntegerNetwork, pixels: Tensor) -> Tensor:
        for _ in range(2):
            compute_logits_in_float64(network, pixels)
        return compute_logits_in_float64(network, pixels)

    assert choose_compute_logits("cpu", [compute_thrice, compute_logits_in_float64]) is (
        compute_logits_in_float64
    )
    wrong = _by(WRONG_PRODUCTS["bfloat16"])
    assert choose_compute_logits("cpu", [wrong, compute_thrice]) is compute_thrice


def _round_logits_to_float32(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    return compute_logits_in_float64(network, pixels).float().double()


def _normalise_in_float32(sums: Tensor, layer: PreparedLayer) -> Tensor:
    values = sums.float().view(-1, len(layer.scale)) * layer.scale.float() + layer.offset.float()
    return values.floor().clamp(0, 127).double().view(sums.shape)


def _normalise_to_nearest(sums: Tensor, layer: PreparedLayer) -> Tensor:
    values = sums.double().view(-1, len(layer.scale)) * layer.scale + (layer.offset - 0.5)
    return values.round().clamp(0, 127).view(sums.shape)


def _pool_with_the_odd_ones(sums: Tensor) -> Tensor:
    whole = F.max_pool2d(sums.permute(0, 3, 1, 2).double(), 2, ceil_mode=True)
    return whole[:, :, : sums.shape[1] // 2, : sums.shape[2] // 2].permute(0, 2, 3, 1).roll(1, 1).contiguous()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("normalise", _normalise_in_float32),
        ("normalise", _normalise_to_nearest),
        ("pool", _pool_with_the_odd_ones),
    ],
)
def test_rejects_a_wrong_step(
    name: str, wrong: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, name, wrong)
    assert choose_compute_logits("cpu", [_by(INT8)]) is None


def test_rejects_rounded_logits_and_autocast() -> None:
    def compute_under_autocast(network: IntegerNetwork, pixels: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return compute_logits_in_float32(network, pixels)

    assert choose_compute_logits("cpu", [_round_logits_to_float32, compute_under_autocast]) is None


def test_normative_count_is_the_last_resort() -> None:
    known = compute_known_answer(WORST_CASES[0])
    logits = compute_logits_normatively(known.network, torch.from_numpy(known.pixels))
    assert np.array_equal(logits.numpy().astype(np.int64), known.logits)


@pytest.mark.parametrize("case", WORST_CASES[:6], ids=CASE_IDS[:6])
def test_count_equals_the_normative_one(case: WorstCase) -> None:
    known = compute_known_answer(case)
    labels = np.argmax(compute_logits(known.network, known.pixels), axis=1).astype(np.uint8)
    labels[0] ^= 1
    assert _count_fast(known.network, known.pixels, labels) == count_correct(
        known.network, known.pixels, labels
    )


def test_sums_that_could_pass_the_limit_of_float32_are_cut() -> None:
    """256 inputs of ±127 add up to 37 million: three pieces; of ±20 one is enough."""
    for levels, pieces in ((127, 3), (20, 1)):
        weights = torch.full((2, 256, 3, 3), levels, dtype=torch.float64)
        weights[0, ::2] *= -1
        cut = _cut_inputs(weights)
        assert len(cut) == pieces
        assert torch.equal(torch.cat(cut, 1).double(), weights)
        assert all(float(piece.abs().sum((1, 2, 3)).max()) * 127 < 2**24 for piece in cut)


def test_features_are_the_same_by_every_product() -> None:
    random = np.random.default_rng(5)
    network, pixels = draw_network(SPECS[3], random), torch.from_numpy(draw_pixels(SPECS[3], 9, random))
    features = compute_features(network, pixels)
    assert features.dtype == torch.float32
    for product in (INT8, FLOAT32, FLOAT64):
        assert torch.equal(
            PreparedNetwork(product, network, pixels.device).compute_features(pixels), features
        )


def test_precision_setting_is_given_back() -> None:
    known = compute_known_answer(WORST_CASES[0])
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        compute_logits_in_float32(known.network, torch.from_numpy(known.pixels))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
