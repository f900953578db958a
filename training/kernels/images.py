"""The first convolution of training on a GPU: of images, whose few channels are a case of their own.

Libraries' kernels take several times as long as memory does. Images want no gradient, so it is two kernels:
the sums, and the weights' gradient. Products are of bfloat16 with sums in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function

from training.kernels.normalisation import add_parts

_ROWS = 128
_MOST_COLUMNS = 64
_LEAST_SIDE = 16
"""Fewer rows or columns a matrix product of Triton's does not take."""
_PROGRAMS = 528


def convolve_images(images: Tensor, weights: Tensor) -> Tensor:
    """bfloat16[n, out, h, w] sums, channels last, of 3×3 windows of float32[n, in, h, w], zeros about them.

    `weights` are float32[out, in, 3, 3]; the gradient reaches them alone. `images` lie with channels last.
    """
    with torch.cuda.device_of(images):
        sums: Tensor = _Convolve.apply(images, weights)
    return sums


class _Convolve(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weights: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        count, channels, height, width = images.shape
        outputs, terms = len(weights), weights[0].numel()
        # Triton's interpreter, which runs on a CPU, has no bfloat16.
        dtype = torch.bfloat16 if images.is_cuda else torch.float32
        shape = count, outputs, height, width
        sums = torch.empty(shape, dtype=dtype, device=images.device, memory_format=torch.channels_last)

        places, columns = count * height * width, _count_columns(outputs)
        _sum_windows[triton.cdiv(places, _ROWS), triton.cdiv(outputs, columns)](
            images, weights.contiguous(), sums, places, height, width, outputs,
            CHANNELS=channels, TERMS=_fill(terms), ROWS=_ROWS, COLUMNS=columns,
        )  # fmt: skip
        ctx.save_for_backward(images)
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        with torch.cuda.device_of(gradients[0]):
            return None, _Convolve._compute_gradient(ctx, gradients[0])

    @staticmethod
    def _compute_gradient(ctx: Any, gradient: Tensor) -> Tensor:
        (images,) = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        (count, channels, height, width), outputs = images.shape, gradient.shape[1]
        places, terms, columns = count * height * width, 9 * channels, _count_columns(outputs)
        programs = min(_PROGRAMS, triton.cdiv(places, _ROWS))
        parts = images.new_empty(programs, outputs, _fill(terms))
        _sum_weights[programs, triton.cdiv(outputs, columns)](
            images, gradient, parts, places, height, width, outputs,
            CHANNELS=channels, TERMS=_fill(terms), ROWS=_ROWS, COLUMNS=columns,
        )  # fmt: skip
        whole = add_parts(parts.flatten(1)).view(outputs, -1)
        return whole[:, :terms].reshape(outputs, channels, 3, 3)


def _count_columns(outputs: int) -> int:
    return min(_MOST_COLUMNS, _fill(outputs))


def _fill(count: int) -> int:
    return max(_LEAST_SIDE, int(triton.next_power_of_2(count)))


@triton.jit
def _load_windows(
    images, rows, places, height, width, CHANNELS: tl.constexpr, TERMS: tl.constexpr
):  # fmt: skip
    """float32[rows, terms]: the windows about these places, in the order channel, row, column."""
    terms = tl.arange(0, TERMS)
    channel = terms // 9
    x = (rows % width)[:, None] + (terms % 3 - 1)[None, :]
    y = (rows // width % height)[:, None] + (terms // 3 % 3 - 1)[None, :]
    is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    is_value = is_inside & (rows < places)[:, None] & (terms < 9 * CHANNELS)[None, :]
    record = (rows // width // height)[:, None].to(tl.int64)
    sources = ((record * height + y) * width + x) * CHANNELS + channel[None, :]
    return tl.load(images + sources, mask=is_value, other=0)


@triton.jit(do_not_specialize=["places", "height", "width"])
def _sum_windows(
    images, weights, sums, places, height, width, outputs,
    CHANNELS: tl.constexpr, TERMS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    terms = tl.arange(0, TERMS)
    windows = _load_windows(images, rows, places, height, width, CHANNELS, TERMS)
    mask = (terms < 9 * CHANNELS)[:, None] & (columns < outputs)[None, :]
    factors = tl.load(weights + columns[None, :] * (9 * CHANNELS) + terms[:, None], mask=mask, other=0)
    dtype = sums.dtype.element_ty
    results = tl.dot(windows.to(dtype), factors.to(dtype))
    targets = sums + rows[:, None].to(tl.int64) * outputs + columns[None, :]
    mask = (rows < places)[:, None] & (columns < outputs)[None, :]
    tl.store(targets, results.to(dtype), mask=mask)


@triton.jit(do_not_specialize=["places", "height", "width"])
def _sum_weights(
    images, gradient, parts, places, height, width, outputs,
    CHANNELS: tl.constexpr, TERMS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A program's part of the weights' gradient, float32[outputs, TERMS]."""
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_output = (columns < outputs)[None, :]
    total = tl.zeros((TERMS, COLUMNS), tl.float32)
    for start in range(tl.program_id(0) * ROWS, places, tl.num_programs(0) * ROWS):
        rows = start + tl.arange(0, ROWS)
        windows = _load_windows(images, rows, places, height, width, CHANNELS, TERMS)
        sources = gradient + rows[:, None].to(tl.int64) * outputs + columns[None, :]
        values = tl.load(sources, mask=(rows < places)[:, None] & is_output, other=0)
        total = tl.dot(tl.trans(windows.to(values.dtype)), values, total)
    terms = tl.arange(0, TERMS)
    target = parts + (tl.program_id(0) * outputs + columns)[None, :] * TERMS + terms[:, None]
    tl.store(target, total, mask=is_output)
