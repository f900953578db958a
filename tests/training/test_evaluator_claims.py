"""The exact verifier: true claims pass, false ones are refused, as early as they can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from consensus.errors import BadDelivery, Code
from consensus.network import IntegerNetwork, NetworkSpec
from training import evaluator
from training.evaluator import (
    ComputeLogits,
    ExactWorkVerifier,
    compute_logits_in_int8,
    compute_logits_normatively,
    draw_secret_order,
)
from training.lab.bench_claims import Claim, build_claim

SPEC = NetworkSpec(c=1, h=4, w=4, classes=10, blocks=1, filters=8, hidden=16)
RECORDS, RIGHT, STEP = 400, 360, 10


@pytest.fixture(scope="module")
def claim() -> Claim:
    """True: 360 of 400, all records that are wrong at the end."""
    return build_claim(SPEC, RECORDS, RIGHT, compute_logits_in_int8, "cpu")


class CountingBackend:
    """A back-end that remembers how many records it was asked about."""

    __name__ = "counting"

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, network: IntegerNetwork, pixels: Tensor) -> Tensor:
        self.seen += len(pixels)
        return compute_logits_in_int8(network, pixels)


def check(claim: Claim, backend: ComputeLogits = compute_logits_in_int8) -> None:
    verifier = ExactWorkVerifier(claim.dataset, "cpu", [backend])
    if isinstance(backend, CountingBackend):
        backend.seen = 0
    verifier.check(claim.task, claim.rung, claim.header, claim.witness)


def look_at(records: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a record costs."""
    monkeypatch.setitem(evaluator._RECORDS_AT_ONCE, "cpu", records)
    monkeypatch.setattr(evaluator, "_LOOK_WORK", 0)


def count_until_refused(claim: Claim, code: Code, monkeypatch: pytest.MonkeyPatch) -> int:
    look_at(STEP, monkeypatch)
    backend = CountingBackend()
    with pytest.raises(BadDelivery) as caught:
        check(claim, backend)
    assert caught.value.code is code
    return backend.seen


@pytest.mark.parametrize("step", [7, 400, 1_000])
def test_accepts_a_true_claim(claim: Claim, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    look_at(step, monkeypatch)
    backend = CountingBackend()
    check(claim, backend)
    assert backend.seen == RECORDS + 1


def test_records_of_a_small_network_are_looked_at_together(
    claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A false claim ends after the first look, which takes as many records as are worth preparing for."""
    monkeypatch.setitem(evaluator._RECORDS_AT_ONCE, "cpu", 1)
    cost = claim.task.network.multiply_accumulates
    for records, work in ((20, 20 * cost + cost - 1), (RECORDS, 2**62)):
        monkeypatch.setattr(evaluator, "_LOOK_WORK", work)
        backend = CountingBackend()
        with pytest.raises(BadDelivery):
            check(claim.claim_train(0), backend)
        assert backend.seen == records


@pytest.mark.parametrize("change", [-RIGHT, -1, 1, RECORDS - RIGHT, 2**32 - 1 - RIGHT])
def test_rejects_a_false_train_count(claim: Claim, change: int) -> None:
    with pytest.raises(BadDelivery) as caught:
        check(claim.claim_train(RIGHT + change))
    assert caught.value.code is Code.WRONG_TRAIN_COUNT


@pytest.mark.parametrize("right", [0, 2])
def test_rejects_a_false_eval_count(claim: Claim, right: int) -> None:
    with pytest.raises(BadDelivery) as caught:
        check(replace(claim, witness=replace(claim.witness, eval_correct=right)))
    assert caught.value.code is Code.WRONG_EVAL_COUNT


def test_a_claim_far_too_high_ends_early(claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be wrong, and one record in ten is: a step of ten finds one in two cases of three."""
    seen = count_until_refused(claim.claim_train(RECORDS), Code.WRONG_TRAIN_COUNT, monkeypatch)
    assert seen <= 160


def test_a_claim_far_too_low_ends_early(claim: Claim, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_until_refused(claim.claim_train(9), Code.WRONG_TRAIN_COUNT, monkeypatch) <= 30


def test_a_claim_beyond_the_split_ends_with_the_first_step(
    claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    beyond = claim.claim_train(RECORDS + 1)
    assert count_until_refused(beyond, Code.WRONG_TRAIN_COUNT, monkeypatch) == STEP


def test_the_order_is_drawn_anew_and_complete() -> None:
    first, second = draw_secret_order(1_000), draw_secret_order(1_000)
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(1_000))


def test_the_verifier_asks_for_its_order(claim: Claim) -> None:
    asked: list[int] = []

    def draw_order(count: int) -> Tensor:
        asked.append(count)
        return torch.arange(count)

    verifier = ExactWorkVerifier(claim.dataset, draw_order=draw_order)
    verifier.check(claim.task, claim.rung, claim.header, claim.witness)
    assert asked == [RECORDS, 1]


def test_without_an_exact_backend_the_normative_one_judges(claim: Claim) -> None:
    def compute_wrongly(network: IntegerNetwork, pixels: Tensor) -> Tensor:
        return compute_logits_in_int8(network, pixels) + 1

    check(claim, compute_wrongly)
    with pytest.raises(BadDelivery):
        check(claim.claim_train(RIGHT + 1), compute_wrongly)
    pixels = torch.from_numpy(claim.dataset.train.pixels[:3])
    logits = compute_logits_normatively(claim.network, pixels)
    assert np.array_equal(logits.numpy(), compute_logits_in_int8(claim.network, pixels).numpy())
