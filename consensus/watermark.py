"""The watermark: which weights a header freezes, and at which values (protocol §5; paper §3.1, §3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consensus.drbg import HashDrbg
from consensus.encoding import Hash32, compute_tagged_hash

_TAG = "FreezeNet/1/watermark"
_REQUEST_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Watermark:
    """The frozen weights of one header at one rung."""

    weight_count: int
    """N: weights of the whole network."""
    indices: npt.NDArray[np.int64]
    """int64[frozen_count], the frozen places, strictly increasing."""
    values: npt.NDArray[np.int8]
    """int8[frozen_count] in [-127, 127], the value at each of them."""

    @property
    def frozen_mask(self) -> npt.NDArray[np.bool_]:
        """bool[N]: True where the weight is frozen."""
        mask = np.zeros(self.weight_count, dtype=np.bool_)
        mask[self.indices] = True
        return mask

    def assemble(self, free: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """int8[N]: the frozen values and, between them, the int8[N - frozen_count] free ones in order."""
        weights = np.empty(self.weight_count, dtype=np.int8)
        weights[self.indices] = self.values
        weights[~self.frozen_mask] = free
        return weights


def compute_watermark_seed(header: bytes) -> Hash32:
    """H("FreezeNet/1/watermark", header): binds the watermark to every byte of the candidate."""
    return compute_tagged_hash(_TAG, header)


def derive_watermark(header: bytes, weight_count: int, frozen_count: int) -> Watermark:
    """The watermark of a header's bytes on `weight_count` weights, `frozen_count` of them frozen."""
    drbg = _start_drbg(header)
    stream = bytearray()
    key_bytes = 4 * weight_count
    while len(stream) < key_bytes:
        stream += drbg.generate(_REQUEST_BYTES)
    keys = np.frombuffer(bytes(stream[:key_bytes]), dtype="<u4")
    indices = select_smallest(keys, frozen_count)
    rest = _drop_255(bytes(stream[key_bytes:]))
    while len(rest) < frozen_count:
        rest = np.concatenate([rest, _drop_255(drbg.generate(_REQUEST_BYTES))])
    values = (rest[:frozen_count].astype(np.int16) - 127).astype(np.int8)
    return Watermark(weight_count, indices, values)


def derive_indices(header: bytes, weight_count: int, frozen_count: int) -> npt.NDArray[np.int64]:
    """The frozen places alone, as `derive_watermark` has them, by a part of its hashes."""
    drbg = _start_drbg(header)
    stream = bytearray()
    while missing := 4 * weight_count - len(stream):
        # The bytes of a shorter request are the first of a longer one.
        stream += drbg.generate(min(missing, _REQUEST_BYTES))
    return select_smallest(np.frombuffer(bytes(stream), dtype="<u4"), frozen_count)


def _start_drbg(header: bytes) -> HashDrbg:
    return HashDrbg(compute_watermark_seed(header), b"", _TAG.encode("ascii"))


def select_smallest(keys: npt.NDArray[np.uint32], count: int) -> npt.NDArray[np.int64]:
    """The indices of the `count` smallest pairs (key, index), increasing; equal keys go by their index."""
    ranks = keys.astype(np.uint64) << np.uint64(32) | np.arange(len(keys), dtype=np.uint64)
    if count < len(ranks):
        ranks = np.partition(ranks, count)[:count]
    return np.sort((ranks & np.uint64(0xFFFF_FFFF)).astype(np.int64))


def _drop_255(data: bytes) -> npt.NDArray[np.uint8]:
    """The bytes without 255, so that the remaining 255 values are uniform."""
    values: npt.NDArray[np.uint8] = np.frombuffer(data, dtype=np.uint8)
    kept: npt.NDArray[np.uint8] = values[values != 255]
    return kept
