"""Runs the GPU's kernels in Triton's interpreter and prints as JSON whether they are right.

A process of its own: kernels are interpreted where TRITON_INTERPRET is set before they are imported.
"""

from __future__ import annotations

import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from consensus.network import NetworkSpec, compute_logits
from tests.training.networks import SPECS, draw_network, draw_pixels
from training.evaluator import compute_logits_in_fused_int8
from training.kernels import images, normalisation
from training.kernels.images import convolve_images
from training.kernels.normalisation import normalise
from training.quantisation import quantise_activations
from training.selftest import WORST_CASES, compute_known_answer
from training.twin import _Kernels, _try

_MOMENTUM, _EPSILON = 0.1, 1e-5
_WIDE = NetworkSpec(c=1, h=4, w=4, classes=3, blocks=2, filters=66, hidden=5)
"""Its outputs fill two of the kernel's tiles, the second of them in part."""
_SHAPES = (3, 3, 6, 5, 32), (2, 1, 8, 8, 4), (5, 4, 4, 4, 70)
"""Records, channels, height, width and outputs of a first convolution."""


def main() -> None:
    """Prints the findings. Tiles are small, so that programs go round their loops more than once."""
    normalisation._TILE, normalisation._PROGRAMS, normalisation._PART_ROWS = 512, 2, 1
    images._ROWS, images._PROGRAMS = 32, 2
    torch.manual_seed(0)
    differences = [
        _compare(shape, pooled, levels)
        for shape in ((7, 4, 6, 8), (2, 130, 4, 2), (70, 9))
        for pooled in (False, True)
        for levels in (127, 0)
        if len(shape) == 4 or not pooled
    ]
    findings = {
        "exact": [_is_exact(index) for index in range(9)],
        "normalise": _find_largest(differences),
        "random": [_is_random_exact(spec) for spec in (*SPECS, _WIDE)],
        "images": _find_largest([_compare_images(*shape) for shape in _SHAPES]),
    }
    _try(_Kernels(normalise, convolve_images), "cpu")
    print(json.dumps(findings))


def _is_exact(index: int) -> bool:
    known = compute_known_answer(WORST_CASES[index])
    logits = compute_logits_in_fused_int8(known.network, torch.from_numpy(known.pixels))
    return torch.equal(logits.long(), torch.from_numpy(known.logits))


def _is_random_exact(spec: NetworkSpec) -> bool:
    random = np.random.default_rng(spec.w)
    network, pixels = draw_network(spec, random), draw_pixels(spec, 7, random)
    logits = compute_logits_in_fused_int8(network, torch.from_numpy(pixels))
    return torch.equal(logits.long(), torch.from_numpy(compute_logits(network, pixels)))


def _compare(shape: tuple[int, ...], pooled: bool, levels: int) -> float:
    """The largest difference to torch's own operations: activations, gradients, statistics."""
    sums, width = 3 * torch.randn(shape) + 1, shape[1]
    gain, shift = torch.rand(width) / 2 - (0 if levels else 0.3), torch.randn(width) / 10
    whole = sums.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else sums
    inputs = [[part.clone().requires_grad_() for part in (whole, gain, shift)] for _ in range(2)]
    statistics = [[torch.zeros(width), torch.ones(width)] for _ in range(2)]
    (sums, gain, shift), (mean, variance) = inputs[0], statistics[0]
    ours = normalise(sums, gain, shift, mean, variance, _MOMENTUM, _EPSILON, pooled, levels)
    theirs = _normalise_apart(inputs[1], statistics[1], pooled, levels)
    given = torch.randn_like(theirs)
    torch.autograd.backward([ours, theirs], [given, given])
    gradients = [(left.grad, right.grad) for left, right in zip(*inputs, strict=True)]
    pairs = [(ours, theirs), *gradients, *zip(*statistics, strict=True)]
    return _find_largest([_measure_difference(left, right) for left, right in pairs])


def _compare_images(count: int, channels: int, height: int, width: int, outputs: int) -> float:
    """The largest difference of sums and weights' gradients to torch's."""
    records = torch.rand(count, channels, height, width).contiguous(memory_format=torch.channels_last)
    weights = [(torch.rand(outputs, channels, 3, 3) - 0.5).requires_grad_() for _ in range(2)]
    with torch.no_grad():
        weights[1].copy_(weights[0])
    ours, theirs = convolve_images(records, weights[0]), F.conv2d(records, weights[1], padding=1)
    given = torch.randn_like(theirs)
    torch.autograd.backward([ours, theirs], [given, given])
    pairs = (ours, theirs), (weights[0].grad, weights[1].grad)
    return _find_largest([_measure_difference(left, right) for left, right in pairs])


def _measure_difference(left: Tensor | None, right: Tensor | None) -> float:
    assert left is not None
    assert right is not None
    return float((left - right).detach().abs().max())


def _find_largest(differences: list[float]) -> float:
    """Not a number where any is none, which Python's max would pass over."""
    return float(torch.tensor(differences).max())


def _normalise_apart(inputs: list[Tensor], statistics: list[Tensor], pooled: bool, levels: int) -> Tensor:
    (sums, gain, shift), (mean, variance) = inputs, statistics
    values = F.batch_norm(sums, mean, variance, gain, shift, True, _MOMENTUM, _EPSILON)
    if levels:
        return quantise_activations(F.max_pool2d(values, 2) if pooled else values)
    return F.max_pool2d(F.relu(values), 2) if pooled else F.relu(values)


if __name__ == "__main__":
    main()
