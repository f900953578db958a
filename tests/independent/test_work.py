"""Watermark and integer inference of the independent verifier, against known answers and plain integers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.independent.mutations import put
from tests.independent.tiny_chain import NETWORK, RUNGS, build_tiny_chain, encode_task
from tools import independent_verifier as verifier
from tools.independent_verifier import Network, Norm, Refused

# From NIST's Hash_DRBG vectors (SHA-256, no reseeding), one without and one with a personalisation string:
# entropy, nonce, personalisation, and the second of two requests.
DRBG_VECTORS = [
    (
        "a65ad0f345db4e0effe875c3a2e71f42c7129d620ff5c119a9ef55f05185e0fb",
        "8581f9317517276e06e9607ddbcbcc2e",
        "",
        "d3e160c35b99f340b2628264d1751060e0045da383ff57a57d73a673d2b8d80d"
        "aaf6a6c35a91bb4579d73fd0c8fed111b0391306828adfed528f018121b3febd"
        "c343e797b87dbb63db1333ded9d1ece177cfa6b71fe8ab1da46624ed6415e51c"
        "cde2c7ca86e283990eeaeb91120415528b2295910281b02dd431f4c9f70427df",
    ),
    (
        "dfeabab904bfe93a37bb5b1ea4a696f881ab5ab4be87ffbf2d4e8cdfaabb37fd",
        "a2d458b475053a0346b57fc518849ba1",
        "d15d5d9a4a3a41877b4ea98dbda5079ee393f6ab24105dbd70f5bf145772b15c",
        "86d8c63ed4a8a19f3429b4dd57ede5ca573e861712e631400645ceee763c37cf"
        "950bdcc4d9c886ead3f0f1bf46a63bf22bd2eb39b2dac61d2e8c8f29e26045b3"
        "db56b2265adc8152d4f736c09ee90364a1e265eb5e77b0c5988c8fa52717fd33"
        "b6da760e78f2a7c27065227c47ac2134b95b7dadbf96e4ea2dad78ef200e174b",
    ),
]


@pytest.mark.parametrize(("entropy", "nonce", "personalisation", "expected"), DRBG_VECTORS)
def test_drbg_gives_the_answers_of_nist(
    entropy: str, nonce: str, personalisation: str, expected: str
) -> None:
    drbg = verifier.HashDrbg(bytes.fromhex(entropy), bytes.fromhex(nonce), bytes.fromhex(personalisation))
    drbg.generate(len(expected) // 2)
    assert drbg.generate(len(expected) // 2).hex() == expected


def test_frozen_indices_are_the_smallest_pairs_of_key_and_index() -> None:
    keys = np.array([5, 0, 5, (1 << 32) - 1, 5, 0, 7], np.uint32)
    for count in range(1, 8):
        pairs = sorted((int(key), at) for at, key in enumerate(keys))[:count]
        assert verifier.compute_frozen_indices(keys, count).tolist() == sorted(at for _, at in pairs)


@pytest.mark.parametrize(("weights", "frozen"), [(1_200, 1_080), (16_384, 16_000), (25_104, 25_078)])
def test_watermark_reads_keys_then_values_from_one_stream(weights: int, frozen: int) -> None:
    header, tag = bytes(range(190)), "FreezeNet/1/watermark"
    drbg = verifier.HashDrbg(verifier.tagged_hash(tag, header), b"", tag.encode())
    stream = b"".join(drbg.generate(65_536) for _ in range(4))
    keys = [int.from_bytes(stream[at : at + 4], "little") for at in range(0, 4 * weights, 4)]
    smallest = sorted(sorted(range(weights), key=lambda at: (keys[at], at))[:frozen])
    values = [byte - 127 for byte in stream[4 * weights :] if byte != 255][:frozen]
    found = verifier.compute_watermark(header, weights, frozen)
    assert (found[0].tolist(), found[1].tolist()) == (smallest, values)


def test_free_weights_fill_the_gaps_of_the_watermark_in_order() -> None:
    task = verifier.decode_task(encode_task())
    header, rung = bytes(190), RUNGS[0]
    indices, values = verifier.compute_watermark(header, NETWORK.weights, task.compute_frozen_count(rung))
    free = np.arange(NETWORK.weights - len(indices)).astype(np.int8)
    weights = verifier.compute_weights(task, rung, header, free)
    gaps = sorted(set(range(NETWORK.weights)) - set(indices.tolist()))
    assert weights[indices].tolist() == values.tolist()
    assert weights[gaps].tolist() == free.tolist()


@pytest.mark.parametrize(
    ("offset", "replacement"),
    [
        (0, (-127).to_bytes(1, "little", signed=True)),
        (1_140, ((1 << 24) - 1).to_bytes(4, "little")),
        (1_140 + 4 * 8, (1 << 52).to_bytes(8, "little")),
        (1_140 + 4 * 8, (-(1 << 52)).to_bytes(8, "little", signed=True)),
        (-8, (1 << 30).to_bytes(4, "little")),
        (-4, (-(1 << 30)).to_bytes(4, "little", signed=True)),
    ],
)
def test_accepts_a_solution_at_the_bounds(offset: int, replacement: bytes) -> None:
    tiny = build_tiny_chain()
    solution = tiny.decode(2).witness.solution
    spoiled = put(solution, offset % len(solution), replacement)
    verifier.decode_solution(tiny.chain.params.task, RUNGS[0], spoiled)
    with pytest.raises(Refused):
        verifier.decode_solution(tiny.chain.params.task, RUNGS[1], spoiled)


# ------------------------------------------------------------------------------------ plain integers

Planes = list[list[list[int]]]
Pairs = list[tuple[int, int]]
M_MAX, B_MAX, ACC_MAX = (1 << 24) - 1, 1 << 52, 127 * 127 * 16_640


def squash(acc: int, m: int, b: int) -> int:
    return min(max((acc * m + b + (1 << 23)) >> 24, 0), 127)


def convolve(planes: Planes, weights: Iterator[int], norm: Pairs) -> Planes:
    """3×3 cross-correlation, normalise and ReLU of planes [channel][row][column]."""
    h, w = len(planes[0]), len(planes[0][0])
    found = []
    for m, b in norm:
        kernels = [[[next(weights) for _ in range(3)] for _ in range(3)] for _ in planes]
        rows = [[squash(correlate(planes, kernels, y, x), m, b) for x in range(w)] for y in range(h)]
        found.append(rows)
    return found


def correlate(planes: Planes, kernels: Planes, y: int, x: int) -> int:
    """One output of a convolution; outside the planes is 0."""
    total = 0
    for plane, kernel in zip(planes, kernels, strict=True):
        for r in range(3):
            for s in range(3):
                row, column = y + r - 1, x + s - 1
                if 0 <= row < len(plane) and 0 <= column < len(plane[0]):
                    total += kernel[r][s] * plane[row][column]
    return total


def shrink(plane: list[list[int]]) -> list[list[int]]:
    rows, columns = range(len(plane) // 2), range(len(plane[0]) // 2)
    return [[max(plane[2 * y + r][2 * x + s] for r in (0, 1) for s in (0, 1)) for x in columns] for y in rows]


def infer(weights: Sequence[int], norms: Sequence[Pairs], bias: Sequence[int], image: Planes) -> int:
    """The class of one image, by the formulas of the protocol on integers without bounds."""
    stream = iter(weights)
    planes = [[[pixel >> 1 for pixel in row] for row in plane] for plane in image]
    for at, norm in enumerate(norms[:-1]):
        planes = convolve(planes, stream, norm)
        if at % 2:
            planes = [shrink(plane) for plane in planes]
    flat = [value for plane in planes for row in plane for value in row]
    hidden = [squash(sum(next(stream) * value for value in flat), m, b) for m, b in norms[-1]]
    logits = [sum(next(stream) * value for value in hidden) + offset for offset in bias]
    assert next(stream, None) is None
    return logits.index(max(logits))


def draw_norm(rng: np.random.Generator, layer: verifier.Layer) -> Pairs:
    """Pairs that keep activations moving, here and there a pair at its bounds."""
    spread = 127 * 64 * layer.fan_in**0.5
    m = rng.integers(0, max(2, int(2**24 * 120 / spread)), layer.outputs).clip(0, M_MAX)
    b = rng.integers(-(1 << 30), 1 << 31, layer.outputs)
    pairs = list(zip(m.tolist(), b.tolist(), strict=True))
    if rng.integers(0, 3) == 0:
        pairs[0] = (M_MAX, int(rng.choice([B_MAX, -B_MAX])))
    return pairs


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "network", [Network(2, 5, 7, 3, 2, 2, 3), Network(1, 2, 2, 2, 1, 1, 1), Network(3, 4, 5, 4, 1, 3, 5)]
)
def test_classes_are_those_of_plain_integers(network: Network, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, network.weights).astype(np.int8)
    norms = [draw_norm(rng, layer) for layer in network.layers[:-1]]
    bias = rng.integers(-20_000, 20_000, network.classes)
    pixels = rng.integers(0, 256, (12, *network[:3])).astype(np.uint8)
    arrays = [Norm(*np.array(pairs, np.float64).T) for pairs in norms]
    found = verifier.compute_classes(network, weights, arrays, bias.astype(np.float64), pixels)
    expected = [infer(weights.tolist(), norms, bias.tolist(), image) for image in pixels.tolist()]
    assert found.tolist() == expected


def test_images_in_several_batches_are_classed_as_alone() -> None:
    rng = np.random.default_rng(3)
    network = Network(1, 64, 64, 4, 1, 8, 4)
    weights = rng.integers(-127, 128, network.weights).astype(np.int8)
    norms = [Norm(*np.array(draw_norm(rng, layer), np.float64).T) for layer in network.layers[:-1]]
    pixels = rng.integers(0, 256, (40, 1, 64, 64)).astype(np.uint8)
    together = verifier.compute_classes(network, weights, norms, np.zeros(4), pixels)
    alone = [
        verifier.compute_classes(network, weights, norms, np.zeros(4), pixels[at : at + 1])
        for at in range(40)
    ]
    assert together.tolist() == np.concatenate(alone).tolist()


@pytest.mark.parametrize("acc", [ACC_MAX, -ACC_MAX, ACC_MAX - 1, 0, 1])
@pytest.mark.parametrize("m", [M_MAX, M_MAX - 1, 1, 0])
def test_normalise_is_exact_at_every_bound(acc: int, m: int) -> None:
    offsets = {(value << 24) - (1 << 23) - acc * m + step for value in range(-1, 129) for step in (-1, 0, 1)}
    offsets |= {B_MAX, -B_MAX, B_MAX - 1, 1 - B_MAX, 0}
    within = sorted(b for b in offsets if -B_MAX <= b <= B_MAX)
    norm = Norm(np.full(len(within), m, np.float64), np.array(within, np.float64))
    found = verifier.normalise(np.full(len(within), acc, np.float64), norm)
    assert found.tolist() == [squash(acc, m, b) for b in within]


def test_accumulators_are_exact_for_the_longest_row() -> None:
    weights = np.full((16_640, 1), 127.0)
    weights[7] = 126.0
    assert (np.full((1, 16_640), 127.0) @ weights).tolist() == [[ACC_MAX - 127]]


@pytest.mark.parametrize(
    ("bias", "expected"), [([5, 5, 5], 0), ([4, 5, 5], 1), ([-(1 << 30), 1 << 30, 1 << 30], 1)]
)
def test_equal_logits_give_the_lowest_class(bias: list[int], expected: int) -> None:
    network = Network(1, 2, 2, 3, 1, 1, 1)
    norms = [Norm(np.zeros(1), np.zeros(1)) for _ in network.layers[:-1]]
    pixels = np.zeros((1, 1, 2, 2), np.uint8)
    weights = np.zeros(network.weights, np.int8)
    found = verifier.compute_classes(network, weights, norms, np.array(bias, np.float64), pixels)
    assert found.tolist() == [expected]
