"""What an attempt tells of itself, for processes that import no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["found", "missed", "gave-up", "cancelled"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is."""

    samples: int
    """Trained so far, with each network that is left."""
    total_samples: int
    """Of a full attempt."""
    train_correct: int
    """Right train records, the most of all networks; while training by their last batches."""
    eval_correct: int
    """The most right eval records of an exact count, 0 before the first."""
    seconds: float
    """Since the attempt began."""
