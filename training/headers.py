"""Which headers are worth a look: where the watermark happens to leave the convolutions' filters free.

A free weight of a small filter is worth more than one of a large layer, so what counts is the share of each
filter that is free. To know it takes hashes alone, a small part of the time of a look (training.probe), and
so of several nonces the freest alone is looked at. These hashes are in no count of multiply-accumulates.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from consensus.block import Header, encode_header
from consensus.network import NetworkSpec
from consensus.watermark import derive_indices

NONCES = 2**64


def compute_freedom(network: NetworkSpec, indices: npt.NDArray[np.int64]) -> float:
    """Sum over the filters of all convolutions of the share of its weights that is free.

    `indices` are the frozen places, int64[] and increasing.
    """
    freedom = 0.0
    for layer in network.layers[:-2]:
        start, stop = np.searchsorted(indices, (layer.start, layer.stop))
        freedom += layer.outputs * (1 - int(stop - start) / (layer.stop - layer.start))
    return freedom


def pick_freest(header: Header, count: int, network: NetworkSpec, frozen_count: int) -> Header:
    """Of `count` headers, the nonce counted up, the first that leaves the filters freest."""
    if count == 1:
        return header
    headers = [replace(header, nonce=(header.nonce + offset) % NONCES) for offset in range(count)]

    def measure(candidate: Header) -> float:
        indices = derive_indices(encode_header(candidate), network.weight_count, frozen_count)
        return compute_freedom(network, indices)

    return max(headers, key=measure)
