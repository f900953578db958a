"""The integer network of §2 in plain Python: one loop per index, no arrays, nothing shared with consensus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Image = list[list[list[int]]]
"""[channel][row][column]."""
Norms = Iterator[tuple[Sequence[int], Sequence[int]]]


def predict(
    shape: tuple[int, int, int, int, int, int, int],
    weights: Sequence[int],
    norms: Sequence[tuple[Sequence[int], Sequence[int]]],
    bias: Sequence[int],
    pixels: Image,
) -> tuple[list[int], int]:
    """Logits and class of one image; `shape` is (c, h, w, classes, blocks, filters, hidden)."""
    _, _, _, classes, blocks, filters, hidden = shape
    taken, norm = iter(weights), iter(norms)
    a = [[[pixel >> 1 for pixel in row] for row in channel] for channel in pixels]
    for block in range(blocks):
        for _ in range(2):
            a = normalise_image(convolve(a, filters * 2**block, taken), norm)
        a = [[pool_row(c, y) for y in range(len(c) // 2)] for c in a]
    flat = [value for channel in a for row in channel for value in row]
    sums = dense(flat, hidden, taken)
    multipliers, offsets = next(norm)
    units = [normalise(*unit) for unit in zip(sums, multipliers, offsets, strict=True)]
    logits = [total + b for total, b in zip(dense(units, classes, taken), bias, strict=True)]
    assert next(taken, None) is None
    return logits, logits.index(max(logits))


def convolve(a: Image, outputs: int, weights: Iterator[int]) -> Image:
    """out[o,y,x] = Σ w[o,i,r,s]·a[i, y+r-1, x+s-1], a = 0 outside."""
    result = []
    for _ in range(outputs):
        kernels = [[[next(weights) for _ in range(3)] for _ in range(3)] for _ in a]
        result.append(
            [[apply_kernels(a, kernels, y, x) for x in range(len(a[0][0]))] for y in range(len(a[0]))]
        )
    return result


def apply_kernels(a: Image, kernels: Image, y: int, x: int) -> int:
    total = 0
    for channel, kernel in zip(a, kernels, strict=True):
        for r in range(3):
            for s in range(3):
                if 0 <= y + r - 1 < len(channel) and 0 <= x + s - 1 < len(channel[0]):
                    total += kernel[r][s] * channel[y + r - 1][x + s - 1]
    return total


def dense(inputs: Sequence[int], outputs: int, weights: Iterator[int]) -> list[int]:
    return [sum(next(weights) * value for value in inputs) for _ in range(outputs)]


def normalise_image(sums: Image, norms: Norms) -> Image:
    multipliers, offsets = next(norms)
    return [
        [[normalise(total, multipliers[o], offsets[o]) for total in row] for row in channel]
        for o, channel in enumerate(sums)
    ]


def normalise(total: int, multiplier: int, offset: int) -> int:
    """clamp((acc·M + B + 2^23) >> 24, 0, 127), the shift written as a division that rounds down."""
    return min(max((total * multiplier + offset + 2**23) // 2**24, 0), 127)


def pool_row(channel: list[list[int]], y: int) -> list[int]:
    """The largest of each 2×2 window in rows 2y and 2y + 1; an odd last column is dropped."""
    above, below = channel[2 * y], channel[2 * y + 1]
    return [max(above[x], above[x + 1], below[x], below[x + 1]) for x in range(0, len(above) // 2 * 2, 2)]
