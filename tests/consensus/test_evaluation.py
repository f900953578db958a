"""The normative judgement of a witness, on the golden chain: real networks under real watermarks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from consensus.block import Header, Witness
from consensus.errors import BadDelivery, Code
from consensus.evaluation import NormativeWorkVerifier, rebuild_network
from consensus.network import compute_logits
from consensus.task import Rung
from node.dev_chain import shift_bias
from tests.consensus.golden import get_golden, get_places, get_required, one_field

GOLDEN = get_golden()
TASK = GOLDEN.spec.task


def get_last() -> tuple[Rung, Header, Witness]:
    """Rung, header and witness of the last block."""
    block, place = get_places()[-1]
    assert block.witness is not None
    return get_required(block, place), block.header, block.witness


def check(rung: Rung, header: Header, witness: Witness) -> None:
    NormativeWorkVerifier(GOLDEN.dataset).check(TASK, rung, header, witness)


def get_refusal(rung: Rung, header: Header, witness: Witness) -> Code:
    with pytest.raises(BadDelivery) as caught:
        check(rung, header, witness)
    return caught.value.code


def test_accepts_a_witness_and_a_twin_that_differs_where_it_does_not_matter() -> None:
    rung, header, witness = get_last()
    check(rung, header, witness)
    twin = shift_bias(TASK, rung, witness)
    assert twin.witness_id != witness.witness_id
    check(rung, header, twin)


@pytest.mark.parametrize("change", [-1, 1])
def test_rejects_a_claim_one_off(change: int) -> None:
    rung, header, witness = get_last()
    train = replace(witness, train_correct=witness.train_correct + change)
    right = replace(witness, eval_correct=witness.eval_correct + change)
    assert get_refusal(rung, header, train) is Code.WRONG_TRAIN_COUNT
    assert get_refusal(rung, header, right) is Code.WRONG_EVAL_COUNT


@pytest.mark.parametrize("split", ["train", "eval"])
def test_rejects_a_claim_that_only_the_last_record_falsifies(split: str) -> None:
    """All records but the last are as claimed; the label of the last one is not what the network says."""
    rung, header, witness = get_last()
    dataset = GOLDEN.dataset
    records = dataset.train if split == "train" else dataset.eval
    network = rebuild_network(TASK, rung, header, witness)
    last = int(np.argmax(compute_logits(network, records.pixels[-1:])))
    labels = records.labels.copy()
    was_right = labels[-1] == last
    labels[-1] = (last + 1) % 3 if was_right else last
    altered = replace(records, labels=labels)
    verifier = NormativeWorkVerifier(
        replace(dataset, train=altered) if split == "train" else replace(dataset, eval=altered)
    )
    with pytest.raises(BadDelivery) as caught:
        verifier.check(TASK, rung, header, witness)
    assert caught.value.code is (Code.WRONG_TRAIN_COUNT if split == "train" else Code.WRONG_EVAL_COUNT)


@pytest.mark.parametrize("field", ["nonce", "timestamp", "miner", "transactions_root", "parent_witness"])
def test_a_network_serves_no_other_header(field: str) -> None:
    rung, header, witness = get_last()
    value = header.nonce - 1 if field == "nonce" else header.timestamp + 1
    changes = one_field(field, value if field in ("nonce", "timestamp") else b"\x77" * 32)
    other = replace(header, **changes)
    assert get_refusal(rung, other, witness) in (Code.WRONG_TRAIN_COUNT, Code.WRONG_EVAL_COUNT)


def test_rejects_the_solution_of_another_rung() -> None:
    _, header, witness = get_last()
    assert get_refusal(TASK.rungs[0], header, witness) is Code.SOLUTION_LENGTH


def test_rejects_a_malformed_solution_before_it_counts() -> None:
    rung, header, witness = get_last()
    verifier = NormativeWorkVerifier(GOLDEN.dataset, count=lambda *_: pytest.fail("counted"))
    with pytest.raises(BadDelivery) as caught:
        verifier.check(TASK, rung, header, replace(witness, solution=b"\x80" + witness.solution[1:]))
    assert caught.value.code is Code.WEIGHT_OUT_OF_RANGE


def test_a_solution_of_zeros_says_the_lowest_class_to_everything() -> None:
    """M, B and bias of 0 make all logits equal under any watermark: its counts alone can refuse that."""
    rung, header, witness = get_last()
    train, right = (int(np.sum(split.labels == 0)) for split in (GOLDEN.dataset.train, GOLDEN.dataset.eval))
    silent = bytes(len(witness.solution))
    check(rung, header, Witness(train, right, silent))
    assert get_refusal(rung, header, Witness(train + 1, right, silent)) is Code.WRONG_TRAIN_COUNT
