"""What an attempt tells of itself, for processes that import no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["found", "missed", "gave-up", "cancelled"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is."""

    samples: int
    """Trained so far with the network under way that came furthest; fewer again once another is that."""
    total_samples: int
    """Of its whole course."""
    train_correct: int
    """Right train records, the most of networks that came as far; while training by their last batches."""
    eval_correct: int
    """The most right eval records of an exact count of those under way, 0 before the first."""
    seconds: float
    """Since the attempt began."""
