"""Fakes shared by all tests: a clock, and a work verifier that trains and evaluates nothing.

Each passes the contract test of the real thing as far as it claims to.
"""

from __future__ import annotations

from consensus.block import Header, Witness
from consensus.encoding import Hash32
from consensus.errors import BadDelivery, Code, build_error, get_code
from consensus.solution import compute_solution_bytes
from consensus.task import Rung, Task
from tests.builders import DUMMY_MARK

REFUSE_MARK = b"no:"


class FakeClock:
    """Seconds since the Unix epoch, moved by the test alone."""

    def __init__(self, now_seconds: float) -> None:
        self.now_seconds = now_seconds

    def __call__(self) -> float:
        """The time."""
        return self.now_seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_seconds += seconds


class DummyWorkVerifier:
    """Accepts a solution of the right length that begins with DUMMY_MARK, as tests.builders makes them.

    One that begins with REFUSE_MARK is refused with the code that follows, up to a zero byte; any other with
    `wrong-train-count`. Only tests ever inject it.
    """

    def __init__(self) -> None:
        self.checked: list[Hash32] = []

    def check(self, task: Task, rung: Rung, header: Header, witness: Witness) -> None:
        """Raises BadDelivery as described above."""
        self.checked.append(header.block_id)
        expected = compute_solution_bytes(task.network, task.compute_frozen_count(rung))
        if len(witness.solution) != expected:
            raise BadDelivery(Code.SOLUTION_LENGTH, f"{len(witness.solution)} bytes, not {expected}")
        if witness.solution.startswith(REFUSE_MARK):
            text = witness.solution.removeprefix(REFUSE_MARK).split(b"\0", 1)[0]
            raise build_error(get_code(text.decode("ascii")))
        if not witness.solution.startswith(DUMMY_MARK):
            raise BadDelivery(Code.WRONG_TRAIN_COUNT, "not marked as valid")


def build_refusal_mark(code: Code) -> bytes:
    """The mark of a dummy witness that DummyWorkVerifier refuses with `code`."""
    return REFUSE_MARK + code.text.encode("ascii") + b"\0"
