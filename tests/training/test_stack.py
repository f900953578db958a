"""Twins in one stack are what they are alone: values, gradients and steps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.training.samples import NETWORK, build_recipe, build_watermark, widen
from training.adam import Adam
from training.data import TrainingData
from training.optimise import (
    build_optimiser,
    build_stack_optimiser,
    compute_gradients,
    compute_loss,
    take_step,
)
from training.stack import TwinStack, choose_merged, convolve
from training.stack_adam import StackAdam
from training.twin import Twin

RECIPE = build_recipe(640)
COUNT, BATCH = 3, 48


def _build_twins(frozen: int = 9_000, count: int = COUNT) -> list[Twin]:
    twins = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        twin = Twin(NETWORK, build_watermark(frozen, seed), generator, RECIPE.gain, RECIPE.shift)
        # Normalisations that differ, as those of trained networks do.
        with torch.no_grad():
            for values in (*twin.gains, *twin.shifts, twin.bias):
                values.add_(torch.rand(values.shape, generator=generator) * 0.2)
        twins.append(widen(twin))
    return twins


def _draw(data: TrainingData, seed: int) -> tuple[Tensor, Tensor]:
    """A batch for each twin."""
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(len(data.train), (COUNT, BATCH), generator=generator)
    return data.inputs[indices].double(), data.train.labels[indices]


def _get_state(twin: Twin) -> list[Tensor]:
    values = (twin.free, twin.bias, *twin.gains, *twin.shifts, *twin.means, *twin.variances)
    return [value.detach().clone() for value in values]


def _step(
    model: Twin | TwinStack, optimiser: Adam | StackAdam, inputs: Tensor, labels: Tensor, *progress: float
) -> Tensor:
    """After `progress` of all steps, of every twin; half of them where it is not told."""
    shares = torch.tensor(progress or [0.5] * COUNT) if isinstance(model, TwinStack) else (*progress, 0.5)[0]
    loss, right = compute_loss(model.train(), inputs, labels, RECIPE)
    compute_gradients(optimiser, loss)
    take_step(model, optimiser, RECIPE, shares)
    return right


def test_weights_are_the_twins_weights_layer_by_layer() -> None:
    twins = _build_twins()
    weights = TwinStack(twins).compute_weights()
    for layer in NETWORK.layers:
        part = weights[COUNT * layer.start : COUNT * layer.stop].view(COUNT, -1)
        for place, twin in enumerate(twins):
            assert torch.equal(part[place], twin.compute_weights()[layer.start : layer.stop])


@pytest.mark.parametrize(
    ("count", "inputs", "merged"),
    [
        (1, 1, 1),
        (3, 1, 3),
        (8, 1, 8),
        (16, 1, 8),
        (3, 4, 3),
        (6, 4, 2),
        (8, 4, 2),
        (7, 4, 1),
        (8, 8, 1),
        (2, 64, 1),
    ],
)
def test_groups_fill_a_vector_where_twins_allow(count: int, inputs: int, merged: int) -> None:
    assert choose_merged(count, inputs) == merged


@pytest.mark.parametrize(
    ("count", "inputs"), [(1, 1), (3, 1), (8, 1), (3, 4), (6, 4), (8, 3), (7, 4), (4, 8)]
)
def test_merged_groups_sum_as_own_groups(count: int, inputs: int) -> None:
    generator = torch.Generator().manual_seed(count + inputs)
    activations = torch.randn(5, count * inputs, 6, 4, dtype=torch.float64, generator=generator)
    weights = torch.randn(count * 7, inputs, 3, 3, dtype=torch.float64, generator=generator)
    results = []
    for compute in (convolve, lambda a, w, groups: F.conv2d(a, w, padding=1, groups=groups)):
        leaves = activations.clone().requires_grad_(), weights.clone().requires_grad_()
        sums = compute(*leaves, count)
        (sums * sums.detach().sin()).sum().backward()  # type: ignore[no-untyped-call]
        results.append([sums, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-9)


def test_channels_are_last_in_memory(digits_data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one-channel records too, where a view would do: its convolutions take twice as long."""
    strides = []

    def note(activations: Tensor, weights: Tensor, count: int) -> Tensor:
        strides.append(activations.stride(1))
        return convolve(activations, weights, count)

    monkeypatch.setattr("training.stack.convolve", note)
    TwinStack(_build_twins())(_draw(digits_data, 1)[0])
    assert strides == [1] * 4


@pytest.mark.parametrize("is_training", [True, False])
def test_logits_are_the_twins_logits(is_training: bool, digits_data: TrainingData) -> None:
    inputs, _ = _draw(digits_data, 1)
    alone = [twin.train(is_training)(inputs[place]) for place, twin in enumerate(_build_twins())]
    stacked = TwinStack(_build_twins()).train(is_training)(inputs)
    assert torch.allclose(stacked, torch.stack(alone), atol=1e-9)


def test_gradients_are_the_twins_gradients(digits_data: TrainingData) -> None:
    inputs, labels = _draw(digits_data, 2)
    twins, stack = _build_twins(), TwinStack(_build_twins())
    loss, right = compute_loss(stack.train(), inputs, labels, RECIPE)
    loss.backward()  # type: ignore[no-untyped-call]
    losses = []
    for place, twin in enumerate(twins):
        own, own_right = compute_loss(twin.train(), inputs[place], labels[place], RECIPE)
        own.backward()  # type: ignore[no-untyped-call]
        losses.append(float(own.detach()))
        assert int(right[place]) == int(own_right)
        assert stack.free.grad is not None
        assert twin.free.grad is not None
        assert torch.allclose(stack.free.grad[place], twin.free.grad, atol=1e-6)
    assert float(loss.detach()) == pytest.approx(sum(losses), abs=1e-5)


def test_steps_are_the_twins_steps(digits_data: TrainingData) -> None:
    twins, stacked = _build_twins(), _build_twins()
    stack = TwinStack(stacked)
    optimisers = [build_optimiser(twin, RECIPE) for twin in twins]
    together = build_stack_optimiser(stack, RECIPE)
    for step in range(3):
        inputs, labels = _draw(digits_data, 10 + step)
        _step(stack, together, inputs, labels)
        for place, twin in enumerate(twins):
            _step(twin, optimisers[place], inputs[place], labels[place])
    for twin, other, start in zip(twins, stacked, _build_twins(), strict=True):
        for own, seen in zip(_get_state(twin), _get_state(other), strict=True):
            assert torch.allclose(own, seen, atol=1e-3)
        assert not torch.equal(other.free, start.free)


def test_twins_step_at_rates_of_their_own(digits_data: TrainingData) -> None:
    twins, stacked = _build_twins(), _build_twins()
    stack = TwinStack(stacked)
    optimisers, together = (
        [build_optimiser(twin, RECIPE) for twin in twins],
        build_stack_optimiser(stack, RECIPE),
    )
    for step in range(3):
        inputs, labels = _draw(digits_data, 10 + step)
        progress = [0.1 + 0.01 * step, 0.3 + 0.01 * step, 0.9 + 0.01 * step]
        _step(stack, together, inputs, labels, *progress)
        for place, twin in enumerate(twins):
            _step(twin, optimisers[place], inputs[place], labels[place], progress[place])
    for twin, other in zip(twins, stacked, strict=True):
        for own, seen in zip(_get_state(twin), _get_state(other), strict=True):
            assert torch.allclose(own, seen, atol=1e-3)


def test_a_twin_in_anothers_place_begins_anew_and_the_others_go_on(digits_data: TrainingData) -> None:
    twins, stacked = _build_twins(count=4), _build_twins(count=4)
    *starters, leaver, newcomer = stacked
    stack = TwinStack([*starters, leaver])
    optimisers = [build_optimiser(twin, RECIPE) for twin in twins]
    together = build_stack_optimiser(stack, RECIPE)
    held = [*stack.parameters(), *stack.means, *stack.variances, stack._frozen_weights, stack._places]
    held += [together._first, together._second, together._steps]
    kept = [tensor.data_ptr() for tensor in held]
    here = [0, 1, 2]
    for step in range(4):
        if step == 2:
            left = _get_state(leaver)
            stack.replace(2, newcomer)
            together.forget(2)
            here = [0, 1, 3]
        inputs, labels = _draw(digits_data, 10 + step)
        _step(stack, together, inputs, labels)
        for place, number in enumerate(here):
            _step(twins[number], optimisers[number], inputs[place], labels[place])
    assert all(torch.equal(was, now) for was, now in zip(left, _get_state(leaver), strict=True))
    for twin, other in zip(twins, stacked, strict=True):
        for own, seen in zip(_get_state(twin), _get_state(other), strict=True):
            assert torch.allclose(own, seen, atol=1e-3)
    # A GPU's recording finds everything where it was.
    held = [*stack.parameters(), *stack.means, *stack.variances, stack._frozen_weights, stack._places]
    held += [together._first, together._second, together._steps]
    assert kept == [tensor.data_ptr() for tensor in held]
    assert stack.twins == (*starters, newcomer)
    network = newcomer.export()
    assert (network.weights[newcomer.watermark.indices] == newcomer.watermark.values).all()


def test_of_a_smaller_stack_the_moments_stay(digits_data: TrainingData) -> None:
    twins, stacked = _build_twins(), _build_twins()
    stack = TwinStack(stacked)
    optimisers, together = (
        [build_optimiser(twin, RECIPE) for twin in twins],
        build_stack_optimiser(stack, RECIPE),
    )
    inputs, labels = _draw(digits_data, 1)
    _step(stack, together, inputs, labels)
    smaller = TwinStack([stacked[0], stacked[2]])
    _step(smaller, together.take([0, 2], smaller), inputs[1:], labels[1:], 0.5, 0.5)
    for place, number in enumerate((0, 2)):
        _step(twins[number], optimisers[number], inputs[number], labels[number])
        _step(twins[number], optimisers[number], inputs[1 + place], labels[1 + place])
        for own, seen in zip(_get_state(twins[number]), _get_state(stacked[number]), strict=True):
            assert torch.allclose(own, seen, atol=1e-3)


def test_twins_are_views_and_export_what_was_trained(digits_data: TrainingData) -> None:
    twins = _build_twins()
    stack = TwinStack(twins)
    optimiser = build_stack_optimiser(stack, RECIPE)
    before = [_get_state(twin) for twin in twins]
    for step in range(2):
        _step(stack, optimiser, *_draw(digits_data, step))
    for place, twin in enumerate(twins):
        assert torch.equal(twin.free, stack.free[place])
        assert torch.equal(twin.means[1], stack.means[1][place])
        assert all(
            not torch.equal(old, new) for old, new in zip(before[place], _get_state(twin), strict=True)
        )
        network = twin.export()
        watermark = twin.watermark
        assert (network.weights[watermark.indices] == watermark.values).all()


def test_one_twin_reaches_no_other(digits_data: TrainingData) -> None:
    """Other records for the first twin change nothing in the last."""
    inputs, labels = _draw(digits_data, 3)
    others = inputs.clone(), labels.clone()
    others[0][0], others[1][0] = inputs[1], labels[1]
    ends = []
    for batch in ((inputs, labels), others):
        twins = _build_twins()
        stack = TwinStack(twins)
        _step(stack, build_stack_optimiser(stack, RECIPE), *batch)
        ends.append([_get_state(twin) for twin in twins])
    assert not torch.equal(ends[0][0][0], ends[1][0][0])
    for place in (1, 2):
        assert all(torch.equal(a, b) for a, b in zip(ends[0][place], ends[1][place], strict=True))


def test_refuses_twins_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="one number of free weights"):
        TwinStack([*_build_twins(9_000, 1), *_build_twins(9_500, 1)])
    with pytest.raises(ValueError, match="one number of free weights"):
        TwinStack(_build_twins()).replace(0, *_build_twins(9_500, 1))


class OtherTwin(Twin):
    """One that would compute something of its own."""


def test_refuses_twins_of_another_kind() -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="another kind"):
        TwinStack([OtherTwin(NETWORK, build_watermark(9_000), generator, 0.2, 0.2)])
