"""Polishing a near miss: the convolutions stay, the dense layers are tuned and then searched (protocol §3).

Two ways on cached activations: `tune` follows the gradient, best that of the count itself, softened;
`Head.sweep` tries changes and keeps what classifies more records right. Both cost little beside the training
before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from consensus.network import MULTIPLIER_LIMIT, OFFSET_BOUND, IntegerNetwork
from training.adam import Adam
from training.graphs import RepeatedStep
from training.optimise import compute_gradients, draw_batches, set_rates
from training.quantisation import LEVELS
from training.recipe import Polish, Recipe
from training.twin import Twin

_FOLD = 2**24
_BARRED = -1e12
_SEARCH_BIAS_BOUND = 2.0**22
"""Logits stay below 2^24 in a hidden layer of up to 780 units, where float32 holds them exactly."""


def tune(
    twin: Twin, features: Tensor, labels: Tensor, recipe: Recipe, steps: int, generator: torch.Generator
) -> Iterator[int]:
    """One stage: trains a twin's hidden and last layer; yields after every step the records it took.

    `features` are float32[n, flat] integer activations of its convolutions, whose normalisations stay.
    """
    polish = recipe.polish
    others = [twin.gains[-1], twin.shifts[-1], twin.bias]
    groups = [
        {"params": [twin.free], "peak": polish.tune_weight_rate},
        {"params": others, "peak": polish.tune_rate},
    ]
    optimiser = Adam(groups, recipe.betas)
    inputs = features / LEVELS
    batch = min(polish.tune_batch, len(labels))
    batches = draw_batches(len(labels), batch, generator)

    def act(progress: float | Tensor, *chosen: Tensor) -> Tensor:
        part = chosen[0] if chosen else slice(None)
        set_rates(optimiser, 1 - progress)
        logits = twin.classify(inputs[part], twin.compute_weights())
        loss = _compute_loss(logits, labels[part], recipe, progress)
        compute_gradients(optimiser, loss)
        optimiser.step()
        twin.apply_bounds()
        return loss.detach()

    twin.eval()
    take = RepeatedStep(act, labels.device)
    for step in range(steps):
        take(step / steps, *([next(batches)] if batch < len(labels) else []))
        yield batch


def _compute_loss(logits: Tensor, labels: Tensor, recipe: Recipe, progress: float | Tensor) -> Tensor:
    """float[] of float[n, classes] logits after this share of the steps."""
    if recipe.polish.margins is None:
        return F.cross_entropy(logits * recipe.logit_scale, labels, label_smoothing=recipe.label_smoothing)
    first, last = recipe.polish.margins
    return -count_softly(logits, labels, first * (last / first) ** progress) / len(labels)


def count_softly(logits: Tensor, labels: Tensor, margin: float | Tensor) -> Tensor:
    """float[]: right rows of float[n, classes], those within about the margin of the boundary in part."""
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return torch.sigmoid((own.squeeze(1) - others) / margin).sum()


class Head:
    """The dense layers of an integer network over cached activations, open to change.

    Its count is the exact one as long as its logits stay below 2^24; whoever claims it recounts.
    """

    def __init__(
        self, network: IntegerNetwork, frozen: npt.NDArray[np.bool_], features: Tensor, labels: Tensor
    ) -> None:
        device = features.device
        hidden, last = network.spec.layers[-2:]
        weights = torch.from_numpy(network.weights.astype(np.float32)).to(device)
        self._network = network
        self._labels = labels
        self._last = weights[last.start :].view(last.shape).clone()
        self._free_last = np.argwhere(~frozen[last.start :].reshape(last.shape)).tolist()
        self._multipliers = torch.from_numpy(network.multipliers[-1].astype(np.float64)).to(device)
        self._offsets = torch.from_numpy(network.offsets[-1].astype(np.float64)).to(device)
        self._bias = torch.from_numpy(network.bias.astype(np.float32)).to(device)
        # Records lie last everywhere: what is asked of each, over units or classes, then runs along memory.
        self._sums = (features @ weights[hidden.start : hidden.stop].view(hidden.shape).T).T.contiguous()
        self._hidden = _activate(self._sums, self._multipliers[:, None], self._offsets[:, None])
        self._logits = self._last @ self._hidden + self._bias[:, None]
        self._barred = torch.zeros_like(self._logits).scatter_(0, labels[None], _BARRED)
        self._score = -1.0

    @property
    def train_correct(self) -> int:
        """Records whose class is their label."""
        return int((self._logits.argmax(0) == self._labels).sum())

    def sweep(self, polish: Polish, width: float, generator: torch.Generator) -> Iterator[int]:
        """One pass of proposals, scaled by `width`, over units, biases and free weights of the last layer.

        Yields after each of them the multiplications that it cost for one record.
        """
        self._score = float(self._compute_scores(self._logits[None], polish)[0])
        for unit in torch.randperm(len(self._offsets), generator=generator).tolist():
            self._improve_unit(unit, polish, width, generator)
            yield polish.proposals * (1 + len(self._bias))
        for label in range(len(self._bias)):
            self._improve_bias(label, polish, width, generator)
            yield 0
        for label, unit in self._free_last:
            self._improve_weight(label, unit, polish, generator)
            yield polish.proposals

    def build_network(self) -> IntegerNetwork:
        """The network with this head."""
        weights = self._network.weights.copy()
        weights[self._network.spec.layers[-1].start :] = self._last.cpu().numpy().astype(np.int8).reshape(-1)
        return replace(
            self._network,
            weights=weights,
            multipliers=(*self._network.multipliers[:-1], self._multipliers.cpu().numpy().astype(np.uint32)),
            offsets=(*self._network.offsets[:-1], self._offsets.cpu().numpy().astype(np.int64)),
            bias=self._bias.cpu().numpy().astype(np.int32),
        )

    def _improve_unit(self, unit: int, polish: Polish, width: float, generator: torch.Generator) -> None:
        """Proposals for one hidden unit's M, about the mean of its sums, and B."""
        sums = self._sums[unit].double()
        factors = self._draw(polish.proposals, 0.3 * width, generator).exp()
        steps = self._draw(polish.proposals, 15 * width, generator) * _FOLD
        multipliers = (self._multipliers[unit] * factors).round().clamp(0, MULTIPLIER_LIMIT - 1)
        kept = (self._multipliers[unit] - multipliers) * sums.mean()
        offsets = (self._offsets[unit] + kept + steps).round().clamp(-OFFSET_BOUND, OFFSET_BOUND)
        hidden = _activate(sums, multipliers[:, None], offsets[:, None])
        changes = (hidden - self._hidden[unit])[:, None]
        best = self._accept(torch.addcmul(self._logits, changes, self._last[:, unit, None]), polish)
        if best is not None:
            self._multipliers[unit], self._offsets[unit] = multipliers[best], offsets[best]
            self._hidden[unit] = hidden[best]

    def _improve_bias(self, label: int, polish: Polish, width: float, generator: torch.Generator) -> None:
        steps = self._draw(polish.proposals, 3000 * width, generator).float()
        biases = (self._bias[label] + steps).round().clamp(-_SEARCH_BIAS_BOUND, _SEARCH_BIAS_BOUND)
        logits = self._logits.repeat(polish.proposals, 1, 1)
        logits[:, label] += (biases - self._bias[label])[:, None]
        best = self._accept(logits, polish)
        if best is not None:
            self._bias[label] = biases[best]

    def _improve_weight(self, label: int, unit: int, polish: Polish, generator: torch.Generator) -> None:
        levels = torch.randint(-LEVELS, LEVELS + 1, (polish.proposals,), generator=generator)
        weights = levels.to(self._last)
        logits = self._logits.repeat(polish.proposals, 1, 1)
        logits[:, label] += (weights - self._last[label, unit])[:, None] * self._hidden[unit]
        best = self._accept(logits, polish)
        if best is not None:
            self._last[label, unit] = weights[best]

    def _accept(self, logits: Tensor, polish: Polish) -> int | None:
        """Takes over the best of float32[proposals, classes, n] if it beats what there is, and says which."""
        scores = self._compute_scores(logits, polish)
        best = int(scores.argmax())
        if scores[best] <= self._score:
            return None
        self._score, self._logits = float(scores[best]), logits[best].clone()
        return best

    def _compute_scores(self, logits: Tensor, polish: Polish) -> Tensor:
        """float32[proposals]: records right, those near the boundary in part, so that small steps show."""
        own = logits.gather(1, self._labels.expand(len(logits), 1, -1)).squeeze(1)
        margins = own - (logits + self._barred).amax(1)
        return torch.sigmoid(margins / (polish.softness * LEVELS**2)).sum(1)

    def _draw(self, count: int, width: float, generator: torch.Generator) -> Tensor:
        return (torch.randn(count, generator=generator) * width).to(self._offsets)


def _activate(sums: Tensor, multipliers: Tensor, offsets: Tensor) -> Tensor:
    scaled = sums.double() * multipliers + (offsets + _FOLD / 2)
    return (scaled * (1 / _FOLD)).floor_().clamp_(0, LEVELS).float()
