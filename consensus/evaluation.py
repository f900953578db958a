"""The normative judgement of a witness: watermark, solution, both counts (protocol §5, §6, §10)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from consensus.block import Header, Witness, encode_header
from consensus.dataset import Dataset
from consensus.errors import BadDelivery, Code
from consensus.network import IntegerNetwork, count_correct
from consensus.solution import assemble_network, decode_solution
from consensus.task import Rung, Task
from consensus.watermark import derive_watermark

CountCorrect = Callable[[IntegerNetwork, npt.NDArray[np.uint8], npt.NDArray[np.uint8]], int]
"""(network, uint8[n, c, h, w] pixels, uint8[n] labels) → exact number of records classified right."""


def rebuild_network(task: Task, rung: Rung, header: Header, witness: Witness) -> IntegerNetwork:
    """The network that a witness describes, its frozen weights recomputed.

    Raises what `decode_solution` raises.
    """
    frozen_count = task.compute_frozen_count(rung)
    solution = decode_solution(task.network, frozen_count, witness.solution)
    watermark = derive_watermark(encode_header(header), task.network.weight_count, frozen_count)
    return assemble_network(task.network, watermark, solution)


def check_counts(dataset: Dataset, network: IntegerNetwork, witness: Witness, count: CountCorrect) -> None:
    """Raises BadDelivery with WRONG_TRAIN_COUNT or WRONG_EVAL_COUNT unless both claims are exact."""
    train = count(network, dataset.train.pixels, dataset.train.labels)
    if train != witness.train_correct:
        raise BadDelivery(Code.WRONG_TRAIN_COUNT, f"claimed {witness.train_correct}, found {train}")
    right = count(network, dataset.eval.pixels, dataset.eval.labels)
    if right != witness.eval_correct:
        raise BadDelivery(Code.WRONG_EVAL_COUNT, f"claimed {witness.eval_correct}, found {right}")


class NormativeWorkVerifier:
    """`WorkVerifier` by the normative evaluator: slow, obvious, and what every other one must equal."""

    def __init__(self, dataset: Dataset, count: CountCorrect = count_correct) -> None:
        self._dataset = dataset
        self._count = count

    def check(self, task: Task, rung: Rung, header: Header, witness: Witness) -> None:
        """Raises BadDelivery with the code of whatever fails in the solution or its counts."""
        network = rebuild_network(task, rung, header, witness)
        check_counts(self._dataset, network, witness, self._count)
