"""Every attack that is measured, in the order of the page."""

from __future__ import annotations

from training.lab.attacks import freezing, grinding, lengths, recipes, splits, teachers, transfers, weights
from training.lab.attacks.lengths import REFERENCE

TRAINED = (
    *transfers.ATTACKS,
    *weights.ATTACKS,
    *teachers.ATTACKS,
    *freezing.ATTACKS,
    *grinding.ATTACKS,
    *lengths.ATTACKS,
    *recipes.ATTACKS,
    *splits.ATTACKS,
)
"""Those whose courses differ from the reference's."""

BY_NAME = {attack.name: attack for attack in (REFERENCE, *TRAINED)}
