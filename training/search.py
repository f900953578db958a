"""The search for headers that are worth training for (protocol §5).

Owns which nonces are tried, and what is passed over. What a header promises is training.probe's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from consensus.block import Header
from training.course import Course, look
from training.headers import NONCES

_LOOKS = 64
"""At headers for each candidate: a plan that asks for too much must not keep a miner from training."""
_LOOKS_TOGETHER = 4
_WORK_TOGETHER = 10**9
"""Multiply-accumulates of looks between two questions whether to cancel, unless one alone takes more."""
_SEEDS = 2**63


@dataclass(frozen=True, slots=True)
class Candidate:
    """A header and the course under its watermark, not begun."""

    header: Header
    seed: int
    """Of the course."""
    course: Course


class Search:
    """Headers by the nonce counted up from one, in blocks; of each the freest is looked at."""

    def __init__(
        self,
        header: Header,
        seed: int,
        build: Callable[[Header, int], Candidate],
        block: int,
        is_cancelled: Callable[[], bool],
    ) -> None:
        """`build` gives the candidate of the block of nonces that begins at a header, by a seed."""
        self._header, self._seed = header, seed
        self._build, self._block, self._is_cancelled = build, block, is_cancelled
        self._ready: deque[Candidate] = deque()
        self._wanted = 1
        self._begun = self._looks = self._spent = 0

    @property
    def spent(self) -> int:
        """Multiply-accumulates of what was passed over, and of what nobody has taken yet."""
        return self._spent + sum(candidate.course.multiply_accumulates for candidate in self._ready)

    def take(self, count: int) -> list[Candidate]:
        """So many of the next that promise what their plan asks for.

        After 64 looks for one of them it is whichever comes next. Once cancelled it is whoever was looked at
        last, and fewer, but always one.
        """
        self._wanted = max(self._wanted, count)
        taken: list[Candidate] = []
        while len(taken) < count and (self._ready or not (taken and self._is_cancelled())):
            if not self._ready:
                self._look()
            while self._ready and len(taken) < count:
                taken.append(self._ready.popleft())
        return taken

    def take_one(self) -> Candidate:
        """The next of them, looked for with as many others as at first."""
        return self.take(1)[0]

    def _look(self) -> None:
        candidates = [self._build_next()]
        together = min(self._wanted, _LOOKS_TOGETHER, _WORK_TOGETHER // candidates[0].course.look_cost)
        while len(candidates) < together and not self._is_cancelled():
            candidates.append(self._build_next())
        look([candidate.course for candidate in candidates])
        for candidate in candidates:
            self._looks += 1
            course = candidate.course
            least = course.plan.allowances[0] * len(course.data.train)
            if course.promise >= least or self._looks > _LOOKS or self._is_cancelled():
                self._ready.append(candidate)
                self._looks = 0
            else:
                self._spent += course.multiply_accumulates

    def _build_next(self) -> Candidate:
        offset, self._begun = self._begun, self._begun + 1
        nonce = (self._header.nonce + offset * self._block) % NONCES
        return self._build(replace(self._header, nonce=nonce), (self._seed + offset) % _SEEDS)
