"""Batch normalisation, pool and activation of training in one pass over memory, and their gradient, on a GPU.

Apart, they read and write a layer's sums twenty times over, and take longer than its products. Here the
forward pass reads them twice and writes the activations; the backward pass reads sums and gradient twice and
writes the sums' gradient. All is in float32 between memory and memory, whatever is stored. What is computed
is training.twin's `F.batch_norm`, `F.max_pool2d` and `quantise_activations`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function

_TILE = 4_096
"""Values a program holds of each tensor at a time."""
_PROGRAMS = 528
"""That share a sum over all records: a GPU has about a hundred processors, each of which runs several."""
_PART_ROWS, _PART_COLUMNS = 256, 16
"""Of the tiles in which their parts are added up."""


def normalise(
    sums: Tensor,
    gain: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    epsilon: float,
    pooled: bool,
    levels: int,
) -> Tensor:
    """float[n, c, h, w] or float[n, c] activations of sums, in their dtype and channels last.

    Normalised by the batch, whose statistics float32[c] `mean` and `variance` follow at `momentum`; `pooled`
    takes the largest of 2×2; then values on the grid of `levels`, at most 1, or for levels of 0 the positive
    ones. `gain` and `shift` are float32[c]. Raises ValueError for a pool of an odd height or width.
    """
    if pooled and any(size % 2 for size in sums.shape[2:]):
        raise ValueError(f"a pool wants an even height and width, not {tuple(sums.shape[2:])}")
    images = sums if sums.dim() == 4 else sums[:, :, None, None]
    settings = momentum, epsilon, pooled, levels
    with torch.cuda.device_of(sums):
        values: Tensor = _Normalise.apply(images, gain, shift, (mean, variance), settings)
    return values if sums.dim() == 4 else values.flatten(1)


class _Normalise(Function):
    @staticmethod
    def forward(
        ctx: Any,
        sums: Tensor,
        gain: Tensor,
        shift: Tensor,
        running: tuple[Tensor, Tensor],
        settings: tuple[float, float, bool, int],
    ) -> Tensor:
        (mean, variance), (momentum, epsilon, pooled, levels) = running, settings
        sums = sums.contiguous(memory_format=torch.channels_last)
        count, channels, height, width = sums.shape
        rows, columns = count * height * width, _count_columns(channels)
        programs = min(_PROGRAMS, triton.cdiv(rows * columns, _TILE))
        parts = gain.new_empty(programs, 2, channels)
        _sum_up[programs, triton.cdiv(channels, columns)](
            sums, parts, rows, channels, ROWS=_TILE // columns, COLUMNS=columns
        )
        statistics = gain.new_empty(2, channels)
        _follow[triton.cdiv(channels, _PART_COLUMNS),](
            parts, statistics, mean, variance, programs, rows, channels, momentum, epsilon,
            ROWS=_PART_ROWS, COLUMNS=_PART_COLUMNS,
        )  # fmt: skip
        stride = 2 if pooled else 1
        shape = count, channels, height // stride, width // stride
        results = torch.empty(shape, dtype=sums.dtype, device=sums.device, memory_format=torch.channels_last)
        places = count * shape[2] * shape[3]
        tile = _TILE // columns // stride**2
        _activate[triton.cdiv(places, tile), triton.cdiv(channels, columns)](
            sums, statistics, gain, shift, results, places, shape[3], channels,
            POOLED=pooled, LEVELS=levels, ROWS=tile, COLUMNS=columns,
        )  # fmt: skip
        ctx.save_for_backward(sums, statistics, gain, shift)
        ctx.pooled, ctx.levels = pooled, levels
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.cuda.device_of(gradients[0]):
            return _Normalise._compute_gradients(ctx, gradients[0])

    @staticmethod
    def _compute_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        sums, statistics, gain, shift = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        (count, channels, height, width), columns = sums.shape, _count_columns(sums.shape[1])
        stride = 2 if ctx.pooled else 1
        places, wide = count * (height // stride) * (width // stride), width // stride
        tile = _TILE // columns // stride**2
        programs = min(_PROGRAMS, triton.cdiv(places, tile))
        blocks = triton.cdiv(channels, columns)
        parts = gain.new_empty(programs, 2, channels)
        _sum_up_gradient[programs, blocks](
            sums, gradient, statistics, gain, shift, parts, places, wide, channels,
            POOLED=ctx.pooled, LEVELS=ctx.levels, ROWS=tile, COLUMNS=columns,
        )  # fmt: skip
        totals = add_parts(parts.flatten(1)).view(2, channels)
        results = torch.empty_like(sums)
        _carry_back[triton.cdiv(places, tile), blocks](
            sums, gradient, statistics, gain, shift, totals, results, places, wide, channels,
            1 / (count * height * width),
            POOLED=ctx.pooled, LEVELS=ctx.levels, ROWS=tile, COLUMNS=columns,
        )  # fmt: skip
        return results, totals[1], totals[0], None, None


def add_parts(parts: Tensor) -> Tensor:
    """float32[width] of float32[programs, width]."""
    programs, width = parts.shape
    totals = parts.new_empty(width)
    _add_up[triton.cdiv(width, _PART_COLUMNS),](
        parts, totals, programs, width, ROWS=_PART_ROWS, COLUMNS=_PART_COLUMNS
    )
    return totals


def _count_columns(channels: int) -> int:
    return min(128, int(triton.next_power_of_2(channels)))


@triton.jit(do_not_specialize=["rows"])
def _sum_up(sums, parts, rows, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """A program's part of the sums and the sums of squares of all values of a channel."""
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_channel = columns < channels
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    squares = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = start + tl.arange(0, ROWS)
        places = sums + row[:, None].to(tl.int64) * channels + columns[None, :]
        values = tl.load(places, mask=(row < rows)[:, None] & is_channel[None, :], other=0).to(tl.float32)
        total += values
        squares += values * values
    target = parts + tl.program_id(0) * 2 * channels + columns
    tl.store(target, tl.sum(total, 0), mask=is_channel)
    tl.store(target + channels, tl.sum(squares, 0), mask=is_channel)


@triton.jit
def _add(parts, programs, width, columns, is_column, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sums over all programs of these columns of parts, `width` values from program to program."""
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, programs, ROWS):
        row = start + tl.arange(0, ROWS)
        mask = (row < programs)[:, None] & is_column[None, :]
        total += tl.load(parts + row[:, None] * width + columns[None, :], mask=mask, other=0)
    return tl.sum(total, 0)


@triton.jit(do_not_specialize=["programs"])
def _add_up(parts, totals, programs, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = columns < width
    tl.store(
        totals + columns, _add(parts, programs, width, columns, is_column, ROWS, COLUMNS), mask=is_column
    )


@triton.jit(do_not_specialize=["programs", "rows"])
def _follow(
    parts, statistics, mean, variance, programs, rows, channels, momentum, epsilon,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Mean and 1/√(variance + ε) of the batch, and the running statistics a step on."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    is_channel = columns < channels
    centre = _add(parts, programs, 2 * channels, columns, is_channel, ROWS, COLUMNS) / rows
    squares = _add(parts + channels, programs, 2 * channels, columns, is_channel, ROWS, COLUMNS) / rows
    spread = tl.maximum(squares - centre * centre, 0)
    tl.store(statistics + columns, centre, mask=is_channel)
    tl.store(statistics + channels + columns, tl.rsqrt(spread + epsilon), mask=is_channel)
    before = tl.load(mean + columns, mask=is_channel, other=0)
    tl.store(mean + columns, before + momentum * (centre - before), mask=is_channel)
    before = tl.load(variance + columns, mask=is_channel, other=0)
    unbiased = spread * rows / tl.maximum(rows - 1, 1)
    tl.store(variance + columns, before + momentum * (unbiased - before), mask=is_channel)


@triton.jit
def _locate(rows, wide, channels, POOLED: tl.constexpr):
    """Where in memory the sums of these places of the results begin, and how far a row of the sums goes."""
    if POOLED:
        begin = rows // wide * (4 * wide) + rows % wide * 2
        return begin.to(tl.int64) * channels, 2 * wide * channels
    return rows.to(tl.int64) * channels, 0


@triton.jit
def _load_terms(statistics, gain, shift, columns, is_channel, channels):
    """Mean, 1/deviation, gain and shift of these channels."""
    mean = tl.load(statistics + columns, mask=is_channel, other=0)[None, :]
    inverse = tl.load(statistics + channels + columns, mask=is_channel, other=0)[None, :]
    scale = tl.load(gain + columns, mask=is_channel, other=0)[None, :]
    offset = tl.load(shift + columns, mask=is_channel, other=0)[None, :]
    return mean, inverse, scale, offset


@triton.jit(do_not_specialize=["places", "wide"])
def _activate(
    sums, statistics, gain, shift, results, places, wide, channels,
    POOLED: tl.constexpr, LEVELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_channel = columns < channels
    mask = (rows < places)[:, None] & is_channel[None, :]
    mean, inverse, scale, offset = _load_terms(statistics, gain, shift, columns, is_channel, channels)
    begin, line = _locate(rows, wide, channels, POOLED)
    source = sums + begin[:, None] + columns[None, :]
    largest = tl.load(source, mask=mask, other=0).to(tl.float32)
    largest = (largest - mean) * inverse * scale + offset
    if POOLED:
        for part in tl.static_range(1, 4):
            values = tl.load(source + part // 2 * line + part % 2 * channels, mask=mask, other=0)
            largest = tl.maximum(largest, (values.to(tl.float32) - mean) * inverse * scale + offset)
    if LEVELS:
        # Half-way values, which hardly ever come, go up here; torch rounds them to even.
        largest = tl.minimum(tl.maximum(tl.floor(largest * LEVELS + 0.5), 0), LEVELS) * (1 / LEVELS)
    else:
        largest = tl.maximum(largest, 0)
    target = results + rows[:, None].to(tl.int64) * channels + columns[None, :]
    tl.store(target, largest.to(results.dtype.element_ty), mask=mask)


@triton.jit
def _pass_gradient(gradient, largest, LEVELS: tl.constexpr):
    """What of the activations' gradient reaches the normalised values."""
    is_open = largest > 0
    if LEVELS:
        is_open = is_open & (largest < 1)
    return tl.where(is_open, gradient, 0.0)


@triton.jit(do_not_specialize=["places", "wide"])
def _sum_up_gradient(
    sums, gradient, statistics, gain, shift, parts, places, wide, channels,
    POOLED: tl.constexpr, LEVELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A program's part of the shift's and of the gain's gradient."""
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_channel = columns < channels
    mean, inverse, scale, offset = _load_terms(statistics, gain, shift, columns, is_channel, channels)
    shifts = tl.zeros((ROWS, COLUMNS), tl.float32)
    gains = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(tl.program_id(0) * ROWS, places, tl.num_programs(0) * ROWS):
        rows = start + tl.arange(0, ROWS)
        mask = (rows < places)[:, None] & is_channel[None, :]
        begin, line = _locate(rows, wide, channels, POOLED)
        source = sums + begin[:, None] + columns[None, :]
        unit = (tl.load(source, mask=mask, other=0).to(tl.float32) - mean) * inverse
        largest = unit * scale + offset
        if POOLED:
            for part in tl.static_range(1, 4):
                other = tl.load(source + part // 2 * line + part % 2 * channels, mask=mask, other=0)
                other = (other.to(tl.float32) - mean) * inverse
                is_larger = other * scale + offset > largest
                unit = tl.where(is_larger, other, unit)
                largest = tl.where(is_larger, other * scale + offset, largest)
        given = gradient + rows[:, None].to(tl.int64) * channels + columns[None, :]
        passed = _pass_gradient(tl.load(given, mask=mask, other=0).to(tl.float32), largest, LEVELS)
        shifts += passed
        gains += passed * unit
    target = parts + tl.program_id(0) * 2 * channels + columns
    tl.store(target, tl.sum(shifts, 0), mask=is_channel)
    tl.store(target + channels, tl.sum(gains, 0), mask=is_channel)


@triton.jit(do_not_specialize=["places", "wide"])
def _carry_back(
    sums, gradient, statistics, gain, shift, totals, results, places, wide, channels, share,
    POOLED: tl.constexpr, LEVELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The sums' gradient: of 2×2 the first largest has the activations', every one the statistics' part."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_channel = columns < channels
    mask = (rows < places)[:, None] & is_channel[None, :]
    mean, inverse, scale, offset = _load_terms(statistics, gain, shift, columns, is_channel, channels)
    level = tl.load(totals + columns, mask=is_channel, other=0)[None, :] * share
    slope = tl.load(totals + channels + columns, mask=is_channel, other=0)[None, :] * share
    begin, line = _locate(rows, wide, channels, POOLED)
    places_of = begin[:, None] + columns[None, :]
    given = gradient + rows[:, None].to(tl.int64) * channels + columns[None, :]
    gradients = tl.load(given, mask=mask, other=0).to(tl.float32)
    if POOLED:
        first = (tl.load(sums + places_of, mask=mask, other=0).to(tl.float32) - mean) * inverse
        largest = first * scale + offset
        winner = tl.zeros((ROWS, COLUMNS), tl.int32)
        for part in tl.static_range(1, 4):
            source = sums + places_of + part // 2 * line + part % 2 * channels
            value = (tl.load(source, mask=mask, other=0).to(tl.float32) - mean) * inverse * scale + offset
            winner = tl.where(value > largest, part, winner)
            largest = tl.maximum(largest, value)
        passed = _pass_gradient(gradients, largest, LEVELS)
        for part in tl.static_range(4):
            place = places_of + part // 2 * line + part % 2 * channels
            unit = (tl.load(sums + place, mask=mask, other=0).to(tl.float32) - mean) * inverse
            own = tl.where(winner == part, passed, 0.0)
            change = (own - level - unit * slope) * inverse * scale
            tl.store(results + place, change.to(results.dtype.element_ty), mask=mask)
    else:
        unit = (tl.load(sums + places_of, mask=mask, other=0).to(tl.float32) - mean) * inverse
        passed = _pass_gradient(gradients, unit * scale + offset, LEVELS)
        change = (passed - level - unit * slope) * inverse * scale
        tl.store(results + places_of, change.to(results.dtype.element_ty), mask=mask)
