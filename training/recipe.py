"""How a network is trained and polished: numbers only, no torch.

Nothing here is consensus: a miner may choose anything that ends in a valid solution (protocol §12).
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.task import Rung


@dataclass(frozen=True, slots=True)
class Plan:
    """How long an attempt trains, and when it is not worth going on."""

    min_work: int
    """Rungs of this work and more follow this plan, up to the next one's."""
    samples: int
    """Training samples of a full attempt."""
    parts: int
    """Equal parts of the training, a checkpoint between each two."""
    allowances: tuple[float, ...]
    """Shares of the train split, one for each checkpoint (promise, between parts, trained, after each stage
    of tuning and each sweep). The first is the least that must be promised; by the others an attempt may
    miss the target there. One that shows less gives up."""
    most_work: int = 0
    """Up to the rung of this work a block by this plan costs at most twice as much, where longer courses are
    the ladder's; 0 where that is not known."""


@dataclass(frozen=True, slots=True)
class Polish:
    """What is done to a near miss, the convolutions held fixed (protocol §3)."""

    tune_steps: tuple[int, ...]
    """Steps of Adam on the dense layers, stage by stage: who misses by little goes on with the next."""
    tune_batch: int
    """Records of one of these steps; all where there are fewer."""
    tune_rate: float
    """First learning rate of the normalisation and the bias; falls to zero in a line, in every stage."""
    tune_weight_rate: float
    """The same for the free weights."""
    margins: tuple[float, float] | None
    """The margin within which a record counts in part, at the first and at the last step of a stage, 1 being
    the twin's unit: they raise the count itself, softened. None: they follow the loss of the training."""
    sweeps: int
    """Times that the search passes over every hidden unit, bias and free weight of the last layer."""
    proposals: int
    """Random changes tried at each of them; the best is kept if it is better."""
    softness: float
    """Scale of the logits' margin within which a record counts in part; 1 is the twin's unit."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a miner chooses."""

    plans: tuple[Plan, ...]
    """By min_work, the first from 0."""
    headers: int
    """Of so many the one that leaves the filters freest is looked at (training.headers)."""
    networks: int
    """Trained side by side on a core, each under a header of its own: a small one alone leaves it idle."""
    waiting: float
    """Share of a lone network's step in which a core only waits: others fill it."""
    batch: int
    """Samples of one step of each."""
    weight_rate: float
    """Peak learning rate of the free weights, on their grid of [-1, 1]."""
    normalisation_rate: float
    """Peak learning rate of gains, shifts and biases."""
    betas: tuple[float, float]
    """Of Adam."""
    warm_up: float
    """Share of the steps in which the rates rise to their peak; they fall to zero in the others."""
    label_smoothing: float
    gain: float
    """First gain of every normalisation: activations saturate at 1."""
    shift: float
    """First shift of every normalisation: at 0 half of all activations begin where no gradient passes."""
    logit_scale: float
    """Factor of the twin's logits in the loss."""
    polish: Polish

    def get_plan(self, rung: Rung, samples: int | None = None) -> Plan:
        """The plan of a rung, for a machine that is too slow for longer courses than so many samples, if any.

        Of that and those before it that are not too dear at this rung, it follows the longest that is not too
        long, or the shortest.
        """
        *before, own = [plan for plan in self.plans if plan.min_work <= rung.work]
        if samples is None or own.samples <= samples:
            return own
        plans = sorted([*(plan for plan in before if plan.most_work >= rung.work), own], key=_get_samples)
        return [plans[0], *(plan for plan in plans if plan.samples <= samples)][-1]


def _get_samples(plan: Plan) -> int:
    return plan.samples
