"""Which exact evaluator a device uses, and the counts and verdicts that come of it (protocol §10, §11).

Owns the back-ends' self-test on the worst legal networks and their race on a usual one: those that fail step
aside, the fastest of the others is taken, and where none is left the normative evaluator. How logits are
computed is training.inference's.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from consensus.block import Header, Witness
from consensus.dataset import Dataset
from consensus.errors import BadDelivery, Code
from consensus.evaluation import rebuild_network
from consensus.network import IntegerNetwork, NetworkSpec
from consensus.network import compute_logits as compute_normative_logits
from consensus.task import Rung, Task
from training.data import Records
from training.inference import ConvolvedNetwork, PreparedNetwork
from training.products import FLOAT32, FLOAT64, INT8
from training.selftest import WORST_CASES, WorstCase, compute_known_answer, draw_usual_case

_log = logging.getLogger("freezenet.training")

ComputeLogits = Callable[[IntegerNetwork, Tensor], Tensor]
"""(network, uint8[n, c, h, w] pixels on a device) → float64[n, classes] exact integer logits there."""

DrawOrder = Callable[[int], Tensor]
"""n → int64[n], an order of n records."""

_RECORDS_AT_ONCE = {"cpu": 512, "cuda": 16_384}
"""Between two looks at a claim, or two questions whether to go on: few, so that an evaluation ends early;
enough to be worth preparing for."""
_LOOK_WORK = 2**27
"""Multiply-accumulates of a look at the least, since each prepares the network anew. A small network's looks
take more records; those of digits take all, so that no claim ends early there."""


def compute_logits_in_int8(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    """Logits with every sum in int32: the fastest where a processor multiplies bytes, else the slowest."""
    return PreparedNetwork(INT8, network, pixels.device).compute_logits(pixels)


def compute_logits_in_float32(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    """Logits with sums of at most 1,040 terms in float32, added up in float64."""
    return PreparedNetwork(FLOAT32, network, pixels.device).compute_logits(pixels)


def compute_logits_by_convolution(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    """Logits by torch's convolutions in float32: the fastest where a processor multiplies no bytes."""
    return ConvolvedNetwork(network, pixels.device).compute_logits(pixels)


def compute_logits_in_float64(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    """Logits with every sum in float64."""
    return PreparedNetwork(FLOAT64, network, pixels.device).compute_logits(pixels)


def compute_logits_normatively(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    """Logits by consensus.network itself: the last resort, exact everywhere."""
    return (
        torch.from_numpy(compute_normative_logits(network, pixels.cpu().numpy())).double().to(pixels.device)
    )


def compute_logits_in_fused_int8(network: IntegerNetwork, pixels: Tensor) -> Tensor:
    """Logits by one kernel a layer (training.kernels.evaluation): for a GPU that Triton compiles for."""
    return _fuse(network, pixels.device).compute_logits(pixels)


BACKENDS: dict[str, tuple[ComputeLogits, ...]] = {
    "cpu": (
        compute_logits_in_int8,
        compute_logits_by_convolution,
        compute_logits_in_float32,
        compute_logits_in_float64,
    ),
    "cuda": (compute_logits_in_fused_int8, compute_logits_in_float32, compute_logits_in_float64),
}
"""By the kind of device, the one that ought to be fastest first."""


def choose_compute_logits(
    device: str | torch.device, backends: Sequence[ComputeLogits] | None = None
) -> ComputeLogits | None:
    """The fastest back-end that is exact on this device, None if there is none; tested once a process.

    On a GPU it is the first that is exact: a race of few records would tell of launches alone.
    """
    device = torch.device(device)
    return _choose(device, tuple(backends if backends is not None else BACKENDS[device.type]))


@lru_cache(maxsize=8)
def _choose(device: torch.device, backends: tuple[ComputeLogits, ...]) -> ComputeLogits | None:
    exact = []
    for compute_logits in backends:
        if _is_exact(compute_logits, device):
            exact.append(compute_logits)
        else:
            _log.warning("%s is not exact on %s and steps aside", compute_logits.__name__, device)
    if len(exact) < 2 or device.type != "cpu":
        return exact[0] if exact else None
    return min(exact, key=lambda compute_logits: _measure_seconds(compute_logits))


def _measure_seconds(compute_logits: ComputeLogits) -> float:
    """Of the faster of two passes over a usual network's records, by the thread's own time."""
    network, pixels = draw_usual_case()
    records, seconds = torch.from_numpy(pixels), []
    for _ in range(2):
        started = time.thread_time()
        compute_logits(network, records)
        seconds.append(time.thread_time() - started)
    return min(seconds)


def count_right(logits: Tensor, labels: Tensor) -> int:
    """Rows of float64[n, classes] whose lowest index among the largest is the label."""
    return int((logits.argmax(1) == labels).sum())


def compute_features(
    network: IntegerNetwork, pixels: Tensor, poll: Callable[[], None] = lambda: None
) -> Tensor:
    """float32[n, flat] integer activations behind the last convolution of uint8[n, c, h, w] pixels.

    `poll` is called before every part of the records, and ends the evaluation by raising.
    """
    device = pixels.device
    ways: dict[ComputeLogits | None, Callable[[IntegerNetwork, torch.device], PreparedNetwork]] = {
        compute_logits_in_fused_int8: _fuse,
        compute_logits_in_int8: partial(PreparedNetwork, INT8),
        compute_logits_by_convolution: ConvolvedNetwork,
        compute_logits_in_float32: partial(PreparedNetwork, FLOAT32),
        compute_logits_in_float64: partial(PreparedNetwork, FLOAT64),
        # Where none is exact, whoever counts does it normatively; features may be wrong, and cost an attempt.
        None: partial(PreparedNetwork, FLOAT64),
    }
    prepared = ways[choose_compute_logits(device)](network, device)
    parts = []
    for part in torch.split(pixels, count_at_once(network.spec, device)):
        poll()
        parts.append(prepared.compute_features(part))
    return torch.cat(parts)


def count_at_once(spec: NetworkSpec, device: torch.device) -> int:
    """Records that are evaluated before it is asked whether to go on."""
    return max(_LOOK_WORK // spec.multiply_accumulates, _RECORDS_AT_ONCE[device.type])


def draw_secret_order(count: int) -> Tensor:
    """An order that nobody outside this process can foresee, so that no liar can put its errors last."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(secrets.randbits(63)))


class ExactWorkVerifier:
    """`consensus.rules.WorkVerifier` that recomputes both counts on a self-tested back-end.

    It goes through a split in a secret order and stops at the first look at which the claim can no longer
    come true (§10).
    """

    def __init__(
        self,
        dataset: Dataset,
        device: str | torch.device = "cpu",
        backends: Sequence[ComputeLogits] | None = None,
        draw_order: DrawOrder = draw_secret_order,
    ) -> None:
        self._train = Records.load(dataset.train, device)
        self._eval = Records.load(dataset.eval, device)
        self._compute_logits = choose_compute_logits(device, backends) or compute_logits_normatively
        self._draw_order = draw_order

    def check(self, task: Task, rung: Rung, header: Header, witness: Witness) -> None:
        """Raises BadDelivery with the code of whatever fails in the solution or its counts."""
        network = rebuild_network(task, rung, header, witness)
        self._check_claim(network, self._train, witness.train_correct, Code.WRONG_TRAIN_COUNT)
        self._check_claim(network, self._eval, witness.eval_correct, Code.WRONG_EVAL_COUNT)

    def _check_claim(self, network: IntegerNetwork, records: Records, claim: int, code: Code) -> None:
        right = seen = 0
        order = self._draw_order(len(records)).to(records.pixels.device)
        for part in torch.split(order, count_at_once(network.spec, order.device)):
            logits = self._compute_logits(network, records.pixels[part])
            right += count_right(logits, records.labels[part])
            seen += len(part)
            if not right <= claim <= right + len(records) - seen:
                raise BadDelivery(code, f"claimed {claim}, found {right} among the first {seen}")


def _fuse(network: IntegerNetwork, device: torch.device) -> PreparedNetwork:
    """Imported here: Triton comes with torch's builds for GPUs alone."""
    from training.kernels.evaluation import FusedNetwork

    return FusedNetwork(network, device)


def _is_exact(compute_logits: ComputeLogits, device: torch.device) -> bool:
    try:
        is_exact = all(_is_exact_on(compute_logits, device, case) for case in WORST_CASES)
        return is_exact and _is_usual(compute_logits, device)
    except Exception as error:
        # Compilers of kernels have errors of their own; whatever it is, there are other back-ends.
        _log.warning("%s does not run on %s: %s", compute_logits.__name__, device, error)
        return False


def _is_usual(compute_logits: ComputeLogits, device: torch.device) -> bool:
    """Whether it finds a usual network's logits too, whose shapes libraries may take another way.

    They are those of float64 on the CPU, which is always exact.
    """
    network, pixels = draw_usual_case()
    records = torch.from_numpy(pixels)
    return torch.equal(compute_logits(network, records.to(device)).cpu(), _compute_usual_logits())


@cache
def _compute_usual_logits() -> Tensor:
    network, pixels = draw_usual_case()
    return compute_logits_in_float64(network, torch.from_numpy(pixels))


def _is_exact_on(compute_logits: ComputeLogits, device: torch.device, case: WorstCase) -> bool:
    known = compute_known_answer(case)
    logits = compute_logits(known.network, torch.from_numpy(known.pixels).to(device)).cpu()
    classes = torch.from_numpy(np.argmax(known.logits, axis=1))
    return torch.equal(logits.long(), torch.from_numpy(known.logits)) and torch.equal(
        logits.argmax(1), classes
    )
