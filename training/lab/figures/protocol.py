"""Protocol mode: the chain's rules and the default recipe, counted exactly on the exported integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from consensus.network import NetworkSpec
from training.data import TrainingData
from training.evaluator import ComputeLogits, count_right
from training.lab.figures.marks import Mark, put_on_grid
from training.lab.figures.paper import EVALUATION_BATCH, STATISTICS_RECORDS, State
from training.optimise import train
from training.recipe import Recipe
from training.twin import MOMENTUM, Twin


@dataclass(frozen=True, slots=True)
class Protocol:
    """What all runs of this mode share."""

    spec: NetworkSpec
    data: TrainingData
    recipe: Recipe
    compute_logits: ComputeLogits
    """A back-end that proved itself on the data's device."""

    def build_twin(self, mark: Mark, seed: int, state: State | None) -> Twin:
        """Fresh weights of the seed under the watermark, or those of a trained network."""
        watermark = put_on_grid(mark, self.spec.weight_count)
        generator = torch.Generator().manual_seed(seed)
        twin = Twin(
            self.spec, watermark, generator, self.recipe.gain, self.recipe.shift, self.data.inputs.device
        )
        if state is not None:
            load_state(twin, state)
        return twin

    def train_epochs(self, twin: Twin, seed: int, epochs: int) -> Iterator[float]:
        """Trains by the recipe and yields after every epoch the share of right eval records."""
        records, batch = len(self.data.train), self.recipe.batch
        ends = {epoch * records // batch for epoch in range(1, epochs + 1)}
        generator = torch.Generator().manual_seed(seed)
        stream = train(twin, self.data, self.recipe, epochs * records, generator)
        for step, _ in enumerate(stream, 1):
            if step in ends:
                yield self.evaluate(twin)

    def evaluate(self, twin: Twin) -> float:
        """Share of right eval records by the integer network, as the chain would count it."""
        records = self.data.eval
        return count_right(self.compute_logits(twin.export(), records.pixels), records.labels) / len(records)

    @torch.no_grad()
    def estimate_statistics(self, twin: Twin) -> None:
        """The normalisations' statistics anew, on the first records of the train split.

        The twin keeps a moving average: begun at zero, it lacks a known factor of a mean over the batches.
        """
        statistics = [*twin.means, *twin.variances]
        for tensor in statistics:
            tensor.zero_()
        twin.train()
        batches = torch.split(self.data.inputs[:STATISTICS_RECORDS], EVALUATION_BATCH)
        for inputs in batches:
            twin(inputs)
        for tensor in statistics:
            tensor.div_(1 - (1 - MOMENTUM) ** len(batches))


def export_state(twin: Twin) -> State:
    """A twin that nothing is frozen in."""
    parts: dict[str, torch.Tensor] = {"weights": twin.free, "bias": twin.bias}
    for name, tensors in _list_normalisation(twin).items():
        parts |= {f"{name}{index}": tensor for index, tensor in enumerate(tensors)}
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in parts.items()}


@torch.no_grad()
def load_state(twin: Twin, state: State) -> None:
    """Gives the twin a trained network, but for what its watermark freezes."""
    twin.free.copy_(torch.from_numpy(state["weights"])[twin.free_indices.cpu()])
    twin.bias.copy_(torch.from_numpy(state["bias"]))
    for name, tensors in _list_normalisation(twin).items():
        for index, tensor in enumerate(tensors):
            tensor.copy_(torch.from_numpy(state[f"{name}{index}"]))


def _list_normalisation(twin: Twin) -> dict[str, list[torch.Tensor]]:
    return {
        "gain": list(twin.gains),
        "shift": list(twin.shifts),
        "mean": twin.means,
        "variance": twin.variances,
    }
