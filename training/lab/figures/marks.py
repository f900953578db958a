"""What a watermark puts where, in both modes and in the variants that the paper asks for (its §3.1 to §3.6).

Owns the paper's generators and the distributions. The protocol's own watermark is consensus.watermark's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import torch

from consensus.block import encode_header
from consensus.watermark import Watermark, derive_watermark
from training.quantisation import LEVELS
from training.rate import build_practice_header

Values = npt.NDArray[np.float64]

_NORMAL_DEVIATION = 0.5


@dataclass(frozen=True, slots=True)
class Mark:
    """A watermark in floats."""

    indices: npt.NDArray[np.int64]
    """int64[count], the frozen places, strictly increasing."""
    values: Values
    """float64[count] in [-1, 1], the value at each of them."""


def draw_by_hash_drbg(seed: int, size: int, count: int) -> Mark:
    """The protocol's watermark of practice header `seed`: uniform on the grid of 1/127 (protocol §5)."""
    watermark = derive_watermark(encode_header(build_practice_header(seed)), size, count)
    return Mark(watermark.indices, watermark.values / LEVELS)


def draw_by_mersenne_twister(seed: int, size: int, count: int) -> Mark:
    """The paper's: SHA-256 mod 2^32 seeds two twisters, one for the places, one for the values."""
    digest = sha256(encode_header(build_practice_header(seed))).digest()
    places, values = (np.random.RandomState(int.from_bytes(digest, "big") % 2**32) for _ in range(2))
    indices = np.sort(places.permutation(size)[:count]).astype(np.int64)
    return Mark(indices, values.uniform(-1, 1, count))


def _keep(uniform: Values) -> Values:
    return uniform


def _cut_in_two(uniform: Values) -> Values:
    return np.where(uniform < 0, -1.0, 1.0)


def _cut_in_two_narrow(uniform: Values) -> Values:
    return np.asarray(_cut_in_two(uniform) / np.sqrt(3))


def _bend_to_normal(uniform: Values) -> Values:
    """Inverse of the distribution function of a normal one cut off at -1 and 1."""
    width = _NORMAL_DEVIATION * 2**0.5
    scaled = torch.from_numpy(uniform) * torch.erf(torch.tensor(1 / width, dtype=torch.float64))
    bent: Values = (torch.erfinv(scaled) * width).clamp(-1, 1).numpy()
    return bent


DISTRIBUTIONS: dict[str, Callable[[Values], Values]] = {
    "uniform": _keep,
    "two-point": _cut_in_two,
    "two-point-narrow": _cut_in_two_narrow,
    "normal": _bend_to_normal,
}
"""Each makes other values of uniform ones in [-1, 1], so that variants of a seed share places and signs:
±1, ±1/√3 (the variance of the uniform ones), and a normal distribution of deviation 1/2 cut off at ±1."""

GENERATORS: dict[str, Callable[[int, int, int], Mark]] = {
    "hash-drbg": draw_by_hash_drbg,
    "mersenne-twister": draw_by_mersenne_twister,
}
"""(seed, places in all, places frozen) → uniform values."""

DEFAULT_GENERATORS = {"paper": "mersenne-twister", "protocol": "hash-drbg"}
"""Of each mode."""


def draw_mark(mode: str, variant: str, seed: int, size: int, count: int) -> Mark:
    """The watermark of a run: of its mode's generator, uniform, unless the variant says otherwise."""
    generator = variant if variant in GENERATORS else DEFAULT_GENERATORS[mode]
    mark = GENERATORS[generator](seed, size, count)
    return Mark(mark.indices, DISTRIBUTIONS.get(variant, _keep)(mark.values))


def put_on_grid(mark: Mark, size: int) -> Watermark:
    """The nearest watermark that the integer network can carry, on `size` weights."""
    return Watermark(size, mark.indices, np.rint(mark.values * LEVELS).astype(np.int8))
