"""Codes, outcomes and the exceptions that carry them; the table in docs/protocol.md."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from consensus.errors import (
    BadDelivery,
    Code,
    ConsensusError,
    Duplicate,
    NotYet,
    Outcome,
    RuleViolation,
    build_error,
    get_code,
)

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
EXCEPTIONS: dict[Outcome, type[ConsensusError]] = {
    Outcome.INVALID: RuleViolation,
    Outcome.BAD_DELIVERY: BadDelivery,
    Outcome.NOT_YET: NotYet,
    Outcome.DUPLICATE: Duplicate,
}


def test_the_documented_table_is_the_enum() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([a-z ]+) \| (.+) \|$", PROTOCOL.read_text("utf-8"), re.MULTILINE)
    assert rows == [(code.text, code.outcome.replace("-", " "), code.when) for code in Code]


def test_codes_are_kebab_case_and_no_two_are_equal() -> None:
    texts = [member.value[0] for member in Code.__members__.values()]
    assert len(set(texts)) == len(texts)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", text) for text in texts)
    assert [name.lower().replace("_", "-") for name in Code.__members__] == texts


@pytest.mark.parametrize("code", Code)
def test_an_error_has_the_type_of_its_codes_outcome(code: Code) -> None:
    error = build_error(code, "because")
    assert type(error) is EXCEPTIONS[code.outcome]
    assert error.outcome is code.outcome
    assert str(error) == f"{code.text}: because"
    assert get_code(str(code)) is code


@pytest.mark.parametrize("code", Code)
def test_an_error_survives_the_way_between_processes(code: Code) -> None:
    error = pickle.loads(pickle.dumps(build_error(code, "because")))
    assert (type(error), error.code, error.detail) == (EXCEPTIONS[code.outcome], code, "because")


def test_an_error_without_detail_tells_when_its_code_is_given() -> None:
    assert str(NotYet(Code.PUT_OFF)) == f"put-off: {Code.PUT_OFF.when}"


def test_rejects_a_code_of_another_outcome() -> None:
    with pytest.raises(ValueError, match="put-off is not-yet, not invalid"):
        RuleViolation(Code.PUT_OFF)


def test_rejects_a_text_that_is_no_code() -> None:
    with pytest.raises(KeyError):
        get_code("no-such-code")
