"""Hostile submissions that only an evaluation can refute: solutions, counts, the parent's witness (§6)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from functools import partial

from consensus.block import Header
from consensus.dataset import SPLITS, SplitName
from consensus.encoding import U32_MAX, ZERO_HASH
from consensus.errors import Code
from consensus.solution import compute_solution_bytes
from tests.acceptance.real_work import (
    build_twin,
    meets_rung,
    mine_wrong_on_last,
    recount,
    steal_work,
)
from tests.acceptance.scene import Hostile, Scene
from tests.builders import NETWORK, RUNGS, BuiltBlock, get_rung
from tests.independent.mutations import SolutionLayout, put
from tools import independent_verifier

M_LIMIT, B_BOUND, BIAS_BOUND = 1 << 24, 1 << 52, 1 << 30
Forge = Callable[[Header, int], Header]
Field = tuple[Code, str, str]
"""Code of a value out of range, name, and how struct packs it."""
WEIGHT: Field = (Code.WEIGHT_OUT_OF_RANGE, "weight", "<b")
M: Field = (Code.MULTIPLIER_OUT_OF_RANGE, "M", "<I")
B: Field = (Code.OFFSET_OUT_OF_RANGE, "B", "<q")
BIAS: Field = (Code.BIAS_OUT_OF_RANGE, "bias", "<i")

FALSE_VALUES: dict[Field, tuple[int, ...]] = {
    WEIGHT: (-128,),
    M: (M_LIMIT, U32_MAX),
    B: (-(1 << 63), -B_BOUND - 1, B_BOUND + 1, (1 << 63) - 1),
    BIAS: (-(1 << 31), -BIAS_BOUND - 1, BIAS_BOUND + 1, (1 << 31) - 1),
}
EXTREME_VALUES: dict[Field, tuple[int, ...]] = {
    WEIGHT: (-127, 127),
    M: (0, M_LIMIT - 1),
    B: (-B_BOUND, B_BOUND),
    BIAS: (-BIAS_BOUND, BIAS_BOUND),
}
PLACES = ("first", "last")


def iterate_solutions() -> Iterator[Hostile]:
    """Solutions outside the bounds of §6, each value at the first and the last place where it can be."""
    for change in (-1, 1):
        build = partial(_resize, change=change)
        yield Hostile(f"solution of {change:+} byte", Code.SOLUTION_LENGTH, build, evaluations=1)
    yield Hostile("an empty solution", Code.SOLUTION_LENGTH, _empty, evaluations=1)
    yield Hostile("a solution of the lowest rung's length", Code.SOLUTION_LENGTH, _lengthen, evaluations=1)
    for field, values in FALSE_VALUES.items():
        for place in PLACES:
            for value in values:
                build = partial(_put_value, field=field, place=place, value=value)
                yield Hostile(f"{place} {field[1]} {value}", field[0], build, evaluations=1)


def iterate_counts() -> Iterator[Hostile]:
    """Well-formed solutions that do not do what is claimed."""
    train, right = Code.WRONG_TRAIN_COUNT, Code.WRONG_EVAL_COUNT
    for change in (-1, 1):
        yield Hostile(f"train claim {change:+}", train, partial(_claim, train=change), evaluations=1)
        yield Hostile(f"eval claim {change:+}", right, partial(_claim, evaluated=change), evaluations=1)
    yield Hostile("claims with the right sum", train, partial(_claim, train=1, evaluated=-1), evaluations=1)
    for split in SPLITS:
        name, code = f"{split} claim one too high in the last record", train if split == "train" else right
        yield Hostile(name, code, partial(_claim_last, split=split), evaluations=1)
    thefts: tuple[tuple[str, Forge, Code], ...] = (
        ("another nonce", lambda header, n: replace(header, nonce=n), train),
        ("another miner", lambda header, n: replace(header, miner=bytes([n]) * 32), train),
        ("another timestamp", lambda header, n: replace(header, timestamp=header.timestamp + n), right),
    )
    for name, forge, code in thefts:
        yield Hostile(f"stolen under {name}", code, partial(_steal, forge=forge, code=code), evaluations=1)
    yield Hostile("the work of the parent again", train, _repeat_parent_work, evaluations=1)


def iterate_commitments() -> Iterator[Hostile]:
    """Blocks with real work that commit to a witness of the parent which nobody has or can have."""
    missing, wrong = Code.MISSING_PARENT_WITNESS, Code.WRONG_PARENT_WITNESS
    yield Hostile("a parent's witness that nobody serves", missing, _mine_on_twin, evaluations=1)
    zero = partial(Scene.mine, parent_witness=ZERO_HASH)
    yield Hostile("no witness of the parent", missing, zero, evaluations=1)
    yield Hostile("a witness of genesis", wrong, mine_on_genesis_witness, evaluations=1)


def iterate_extremes() -> Iterator[tuple[str, Callable[[Scene], bytes]]]:
    """Valid blocks with the extreme legal values of §6, named: the other side of every bound."""
    for field, values in EXTREME_VALUES.items():
        for place in PLACES:
            for value in values:
                name = f"{place} {field[1]} {value}"
                yield name, partial(_mine_extreme, field=field, place=place, value=value)


def _get_layout(scene: Scene) -> SolutionLayout:
    rung = get_rung(scene.spec, scene.tip, scene.honest.header)
    free = NETWORK.weight_count - scene.spec.task.compute_frozen_count(rung)
    return SolutionLayout(independent_verifier.Network(*astuple(NETWORK)), free)


def _find_place(layout: SolutionLayout, field: Field, place: str) -> int:
    """Offset in the solution of the first or the last value of a kind."""
    m_at, b_at, _ = layout.norm_offsets[0]
    last_m_at, last_b_at, units = layout.norm_offsets[-1]
    places = {
        WEIGHT: (0, layout.free - 1),
        M: (m_at, last_m_at + 4 * (units - 1)),
        B: (b_at, last_b_at + 8 * (units - 1)),
        BIAS: (layout.bias_at, layout.bias_at + 4 * (NETWORK.classes - 1)),
    }
    return places[field][PLACES.index(place)]


def _replace_value(scene: Scene, field: Field, place: str, value: int) -> bytes:
    """The honest block's solution with one value replaced."""
    at = _find_place(_get_layout(scene), field, place)
    return put(scene.honest.witness.solution, at, struct.pack(field[2], value))


def _put_value(scene: Scene, field: Field, place: str, value: int) -> bytes:
    return _put_solution(scene, _replace_value(scene, field, place, value))


def _mine_extreme(scene: Scene, field: Field, place: str, value: int) -> bytes:
    built = recount(scene.spec, scene.honest, _replace_value(scene, field, place, value))
    assert meets_rung(scene.spec, built), "the builders' rungs are low enough for any network that guesses"
    return built.raw


def _put_solution(scene: Scene, solution: bytes) -> bytes:
    return scene.honest.with_witness(replace(scene.honest.witness, solution=solution)).raw


def _resize(scene: Scene, change: int) -> bytes:
    solution = scene.honest.witness.solution
    return _put_solution(scene, (solution + b"\0")[: len(solution) + change])


def _empty(scene: Scene) -> bytes:
    return _put_solution(scene, b"")


def _lengthen(scene: Scene) -> bytes:
    frozen_count = scene.spec.task.compute_frozen_count(RUNGS[0])
    return _put_solution(scene, bytes(compute_solution_bytes(NETWORK, frozen_count)))


def _claim(scene: Scene, train: int = 0, evaluated: int = 0) -> bytes:
    return _claim_beside(scene, scene.honest, train, evaluated)


def _claim_last(scene: Scene, split: SplitName) -> bytes:
    """True but for the last record of the split, which the claim counts as right."""
    built = mine_wrong_on_last(scene.spec, scene.tip, split)
    return _claim_beside(scene, built, int(split == "train"), int(split == "eval"))


def _claim_beside(scene: Scene, built: BuiltBlock, train: int, evaluated: int) -> bytes:
    witness = built.witness
    return scene.claim(built, witness.train_correct + train, witness.eval_correct + evaluated)


def _steal(scene: Scene, forge: Forge, code: Code) -> bytes:
    return steal_work(scene.spec, scene.honest, forge, code).raw


def _repeat_parent_work(scene: Scene) -> bytes:
    lazy = scene.honest.with_witness(scene.tip.witness)
    return steal_work(
        scene.spec, lazy, lambda header, n: replace(header, nonce=n), Code.WRONG_TRAIN_COUNT
    ).raw


def _mine_on_twin(scene: Scene) -> bytes:
    return scene.mine(parent_witness=build_twin(scene.spec, scene.tip).witness_id)


def mine_on_genesis_witness(scene: Scene, witness: bytes = b"\1" * 32) -> bytes:
    """A sibling of the first block that commits to a witness, although genesis has none."""
    return scene.mine_on(scene.genesis, parent_witness=witness)
