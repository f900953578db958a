"""Templates: what a miner takes from a node, and what it refuses to train for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.task import Rung
from node.miner.work import parse_work
from tests.node.miner.fake_node import ADDRESS, MINER, build_tiny_spec, describe_header

SPEC = build_tiny_spec()


def build_template(**header_changes: Any) -> dict[str, Any]:
    header = {**describe_header(SPEC.genesis), "miner": ADDRESS, "height": 1, **header_changes}
    rung = {"frozen": 9_000, "min_train_correct": 4, "min_eval_correct": 3, "work": "1000"}
    return {"workid": "w", "header": header, "rung": rung, "transactions": [], "previous_work": "valid"}


def test_a_template_becomes_work() -> None:
    work = parse_work(SPEC, MINER, build_template())
    assert (work.work_id, work.rung, work.is_previous_stale) == ("w", Rung(9_000, 4, 3, 1_000), False)
    assert work.header == replace(SPEC.genesis, height=1, miner=MINER)


def test_stale_work_is_told() -> None:
    assert parse_work(SPEC, MINER, {**build_template(), "previous_work": "stale"}).is_previous_stale


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ({}, "cannot be read"),
        (build_template(parent="00"), "cannot be read"),
        (build_template(timestamp="soon"), "cannot be read"),
        (build_template(miner="fz1q"), "cannot be read"),
        (build_template(version=70_000), "cannot be read"),
        (build_template(height=float("inf")), "cannot be read"),
        (build_template(height=0), "cannot be read"),
        (build_template(task_id="11" * 32), "another"),
        (build_template(transactions_root="11" * 32), "do not hash"),
        (build_template(difficulty="999"), "does not follow"),
        ({**build_template(), "rung": {**build_template()["rung"], "work": "1001"}}, "does not follow"),
    ],
)
def test_rejects_a_template(template: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_work(SPEC, MINER, template)


def test_rejects_a_template_that_pays_somebody_else() -> None:
    with pytest.raises(ValueError, match="another address"):
        parse_work(SPEC, bytes(32), build_template())
