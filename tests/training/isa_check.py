"""A script: the exact evaluators under each instruction set that oneDNN may be held to, as JSON.

oneDNN reads its settings when it is first used, so one process imports torch and forks a child for each set.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from functools import cache
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consensus.network import BIAS_BOUND, IntegerNetwork, compute_logits
from tests.training.networks import (
    SPECS,
    count_wrong_convolutions,
    count_wrong_widths,
    draw_network,
    draw_pixels,
    level_logits,
)
from training.evaluator import (
    ComputeLogits,
    choose_compute_logits,
    compute_logits_by_convolution,
    compute_logits_in_float32,
    compute_logits_in_float64,
    compute_logits_in_int8,
)
from training.inference import PreparedNetwork
from training.products import INT8, Product
from training.selftest import WORST_CASES, compute_known_answer

SETS = ("SSE41", "AVX2", "AVX2_VNNI", "AVX512_CORE", "DEFAULT")
_SIGNED = Product(torch.int8, torch.int8, torch._int_mm)
_CASES = 2 * len(SPECS)
"""Random networks, then others of the same shapes whose logits are all equal."""


def compute_signed_logits(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    """What the CPU must not use: signed rows, whose sums saturate where there is no VNNI."""
    return PreparedNetwork(_SIGNED, network, pixels.device).compute_logits(pixels)


def main() -> int:
    """Prints {set: findings}."""
    for case in WORST_CASES:
        compute_known_answer(case)
    for seed in range(_CASES):
        _draw_case(seed)
    print(json.dumps({name: _fork(name) for name in SETS}))
    return 0


def _fork(name: str) -> dict[str, Any]:
    """The findings of a child; fails with it."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            _run_child(name, output)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        text = output.read().decode()
    if status != 0:
        raise RuntimeError(f"{name}: {text}")
    findings: dict[str, Any] = json.loads(text.splitlines()[-1])
    return findings


def _run_child(name: str, output: BinaryIO) -> None:
    os.environ["ONEDNN_MAX_CPU_ISA"] = name
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    try:
        findings = [_find(threads) for threads in (1, 2)]
        print(json.dumps({key: [found[key] for found in findings] for key in findings[0]}), flush=True)
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)


def _find(threads: int) -> dict[str, bool | int | list[int]]:
    torch.set_num_threads(threads)
    backends = (
        compute_logits_in_int8,
        compute_logits_by_convolution,
        compute_logits_in_float32,
        compute_logits_in_float64,
    )
    return {
        "int8": _is_chosen(compute_logits_in_int8),
        "convolution": _is_chosen(compute_logits_by_convolution),
        "float32": _is_chosen(compute_logits_in_float32),
        "signed": _is_chosen(compute_signed_logits),
        "different": [sum(_count_different(backend, seed) for seed in range(_CASES)) for backend in backends],
        "wrong_widths": count_wrong_widths(INT8, step=1),
        "wrong_convolutions": count_wrong_convolutions(step=5 if threads == 1 else 7),
    }


def _is_chosen(backend: ComputeLogits) -> bool:
    # A tuple of its own, so that the answer is not remembered from another number of threads.
    return choose_compute_logits("cpu", (backend,) * torch.get_num_threads()) is backend


def _count_different(backend: ComputeLogits, seed: int) -> int:
    """Logits that are not the normative ones, in batches of several sizes."""
    network, pixels, known = _draw_case(seed)
    different = 0
    for size in (1, 7, len(pixels)):
        logits = backend(network, torch.from_numpy(pixels[:size]))
        different += int((logits.long().numpy() != known[:size]).sum())
    return different


@cache
def _draw_case(seed: int) -> tuple[IntegerNetwork, npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    spec = SPECS[seed % len(SPECS)]
    network, pixels = draw_network(spec, random), draw_pixels(spec, 60, random)
    if seed >= len(SPECS):
        network = level_logits(network, int(random.choice([-BIAS_BOUND, 0, BIAS_BOUND])))
    return network, pixels, compute_logits(network, pixels)


if __name__ == "__main__":
    sys.exit(main())
