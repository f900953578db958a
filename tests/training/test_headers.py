"""The freest header: what freedom counts, and which of several headers has most of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from consensus.block import Header, encode_header
from consensus.watermark import derive_watermark
from tests.training.samples import NETWORK
from training.headers import compute_freedom, pick_freest
from training.rate import build_practice_header, pick_practice_header
from training.tasks import load_recipe

FROZEN_COUNT = NETWORK.weight_count * 98 // 100


def _count_slowly(header: Header) -> float:
    """Filter by filter, from the whole watermark."""
    frozen = derive_watermark(encode_header(header), NETWORK.weight_count, FROZEN_COUNT).frozen_mask
    freedom = 0.0
    for layer in NETWORK.layers[:-2]:
        for weights in frozen[layer.start : layer.stop].reshape(layer.outputs, -1):
            freedom += 1 - weights.mean()
    return freedom


def test_freedom_is_the_sum_of_the_filters_free_shares() -> None:
    for nonce in range(5):
        header = build_practice_header(nonce)
        indices = derive_watermark(encode_header(header), NETWORK.weight_count, FROZEN_COUNT).indices
        assert compute_freedom(NETWORK, indices) == pytest.approx(_count_slowly(header))


def test_dense_layers_give_no_freedom() -> None:
    stop = NETWORK.layers[-2].start
    assert compute_freedom(NETWORK, np.arange(stop)) == 0
    filters = sum(layer.outputs for layer in NETWORK.layers[:-2])
    assert compute_freedom(NETWORK, np.arange(stop, NETWORK.weight_count)) == filters


def test_freest_of_several_is_the_first_with_most_freedom() -> None:
    first = build_practice_header(2**64 - 3)
    headers = [replace(first, nonce=(first.nonce + offset) % 2**64) for offset in range(12)]
    expected = max(headers, key=_count_slowly)
    assert expected != first
    assert pick_freest(first, 12, NETWORK, FROZEN_COUNT) == expected
    assert pick_freest(first, 1, NETWORK, FROZEN_COUNT) == first


def test_seeds_share_no_header() -> None:
    recipe = replace(load_recipe("digits"), headers=4)
    nonces = [pick_practice_header(seed, recipe, NETWORK, FROZEN_COUNT).nonce for seed in range(6)]
    assert [nonce // 4 for nonce in nonces] == list(range(6))
