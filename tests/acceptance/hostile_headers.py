"""Hostile submissions that fall before their transfers are looked at: bytes, ids, headers, claims (§4)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from consensus.block import HEADER_BYTES, Block, encode_block
from consensus.encoding import U32_MAX, U64_MAX, ZERO_HASH
from consensus.errors import Code
from tests.acceptance.real_work import build_twin, finish_real_block, mine_real_block
from tests.acceptance.scene import Hostile, Scene
from tests.builders import ALICE, N_EVAL, N_TRAIN, RUNGS, TARGET_SECONDS, BuiltBlock, get_rung
from tests.independent.mutations import put

TRANSFERS_AT = HEADER_BYTES + 4
LENGTH_BYTES = 4
LATE_SECONDS = 30 * TARGET_SECONDS
"""Late enough for the lowest rung."""
IN_AN_HOUR = 3_600

FALSE_FIELDS: tuple[tuple[Code, dict[str, Any]], ...] = (
    (Code.UNKNOWN_PARENT, {"parent": b"\5" * 32}),
    (Code.UNKNOWN_PARENT, {"parent": ZERO_HASH}),
    (Code.WRONG_HEIGHT, {"height": 1}),
    (Code.WRONG_HEIGHT, {"height": 2}),
    (Code.WRONG_HEIGHT, {"height": 4}),
    (Code.WRONG_HEIGHT, {"height": U32_MAX}),
    (Code.WRONG_VERSION, {"version": 0}),
    (Code.WRONG_VERSION, {"version": 2}),
    (Code.WRONG_VERSION, {"version": 0xFFFF}),
    (Code.WRONG_TASK, {"task_id": ZERO_HASH}),
    (Code.TIMESTAMP_TOO_EARLY, {"timestamp": 0}),
    (Code.WRONG_DIFFICULTY, {"difficulty": 0}),
    (Code.WRONG_DIFFICULTY, {"difficulty": RUNGS[0].work}),
    (Code.WRONG_DIFFICULTY, {"difficulty": RUNGS[-1].work}),
    (Code.WRONG_DIFFICULTY, {"difficulty": U64_MAX}),
    (Code.FROM_THE_FUTURE, {"timestamp": U64_MAX}),
)


def iterate_deliveries() -> Iterator[Hostile]:
    """Bytes that are no block of this chain."""
    undecodable, too_large = Code.UNDECODABLE, Code.TOO_LARGE
    for size in (0, 1, HEADER_BYTES - 1, HEADER_BYTES, TRANSFERS_AT, TRANSFERS_AT + 185, -1):
        yield Hostile(f"cut at {size}", undecodable, partial(_cut, size=size))
    yield Hostile("one byte too many", undecodable, lambda s: s.honest.raw + b"\0")
    yield Hostile("JSON", undecodable, lambda s: b'{"header": {}}')
    yield Hostile("a length one too low", undecodable, partial(_state_length, change=-1))
    yield Hostile("a length one too high", undecodable, partial(_state_length, change=1))
    yield Hostile("a transfer at height 0", undecodable, lambda s: put(_build_root(s), HEADER_BYTES, b"\1"))
    yield Hostile("a witness at height 0", undecodable, lambda s: _build_root(s) + bytes(12))
    yield Hostile("2^32 - 1 transfers stated", too_large, partial(_state_count, count=U32_MAX))
    yield Hostile("a transfer more than allowed", too_large, _build_crowded)
    yield Hostile("a solution longer than any", too_large, _build_overlong)
    yield Hostile("a body longer than any", too_large, lambda s: bytes(s.spec.limits.max_block_bytes + 1))


def iterate_known() -> Iterator[Hostile]:
    """Blocks that were judged before, and what builds on them."""
    duplicate, condemned = Code.DUPLICATE, Code.CONDEMNED
    yield Hostile("genesis", duplicate, lambda s: encode_block(s.spec.genesis_block))
    yield Hostile("the tip again", duplicate, lambda s: s.tip.raw)
    yield Hostile("a valid twin of the tip", duplicate, _build_twin_of_tip)
    yield Hostile("the tip under a false claim", duplicate, lambda s: s.claim(s.tip, N_TRAIN, N_EVAL))
    yield Hostile("a condemned block", condemned, lambda s: _build_condemned(s).raw, before=_mine_condemned)
    yield Hostile(
        "a condemned block with another witness",
        condemned,
        lambda s: s.claim(_build_condemned(s), N_TRAIN, N_EVAL),
        before=_mine_condemned,
    )
    yield Hostile(
        "a child of a condemned block",
        Code.INVALID_ANCESTOR,
        lambda s: s.mine_on(_build_condemned(s)),
        before=_mine_condemned,
    )


def iterate_headers() -> Iterator[Hostile]:
    """Headers that break a rule."""
    for code, changes in FALSE_FIELDS:
        (field, value), *_ = changes.items()
        shown = value.hex()[:4] if isinstance(value, bytes) else value
        yield Hostile(f"{field} {shown}", code, partial(Scene.mine, **changes))
    for change in (-1, 1):
        yield Hostile(f"difficulty {change:+}", Code.WRONG_DIFFICULTY, partial(_mine_beside, change=change))
    yield Hostile("eased difficulty stated", Code.WRONG_DIFFICULTY, _mine_eased)
    yield Hostile("height 0 above the tip", Code.WRONG_HEIGHT, _build_height_0)
    yield Hostile("another genesis", Code.UNKNOWN_PARENT, lambda s: _build_root(s))
    yield Hostile("at its parent's time", Code.TIMESTAMP_TOO_EARLY, partial(_mine_after, seconds=0))
    earliest = TARGET_SECONDS // 4
    yield Hostile("a second too early", Code.TIMESTAMP_TOO_EARLY, partial(_mine_after, seconds=earliest - 1))
    yield Hostile("in an hour", Code.FROM_THE_FUTURE, _mine_in_an_hour)


def iterate_claims() -> Iterator[Hostile]:
    """Claims that cannot be right, and a branch that is not worth an evaluation."""
    for field, size in (("train_correct", N_TRAIN), ("eval_correct", N_EVAL)):
        for claimed in (size + 1, U32_MAX):
            name = f"{field} {claimed} of {size}"
            yield Hostile(name, Code.CLAIM_ABOVE_SPLIT, partial(_claim, field=field, claimed=claimed))
        nothing = partial(_claim, field=field, claimed=0)
        yield Hostile(f"{field} 0", Code.CLAIM_BELOW_RUNG, nothing)
        yield Hostile(
            f"{field} one below the rung", Code.CLAIM_BELOW_RUNG, partial(_claim_below, field=field)
        )
    yield Hostile("a branch of too little work", Code.PUT_OFF, _mine_light_branch)


def _cut(scene: Scene, size: int) -> bytes:
    return scene.honest.raw[:size]


def _state_count(scene: Scene, count: int) -> bytes:
    return put(scene.honest.raw, HEADER_BYTES, count.to_bytes(4, "little"))


def _state_length(scene: Scene, change: int) -> bytes:
    """The honest block whose solution is as long as ever, but stated to be longer or shorter."""
    raw, length = scene.honest.raw, len(scene.honest.witness.solution)
    return put(raw, len(raw) - length - LENGTH_BYTES, (length + change).to_bytes(4, "little"))


def _build_crowded(scene: Scene) -> bytes:
    """A transfer more than a block may hold, and a solution so short that the body is not too long."""
    crowd = [scene.pay(ALICE, nonce=1 + n) for n in range(scene.spec.params.max_transactions + 1)]
    witness = replace(scene.honest.witness, solution=b"")
    return encode_block(Block(scene.build_header(crowd), tuple(crowd), witness))


def _build_overlong(scene: Scene) -> bytes:
    """A solution of a byte more than the longest rung's, in a body that transfers could have made as long."""
    witness = replace(scene.honest.witness, solution=bytes(scene.spec.limits.max_solution_bytes + 1))
    return scene.honest.with_witness(witness).raw


def _build_root(scene: Scene) -> bytes:
    """Another genesis: the chain's own with another nonce."""
    return encode_block(Block(replace(scene.spec.genesis, nonce=1), (), None))


def _build_height_0(scene: Scene) -> bytes:
    return encode_block(Block(scene.build_header(height=0), (), None))


def _build_twin_of_tip(scene: Scene) -> bytes:
    return scene.tip.with_witness(build_twin(scene.spec, scene.tip)).raw


def _build_condemned(scene: Scene) -> BuiltBlock:
    return finish_real_block(scene.spec, scene.tip, scene.build_header(version=3))


def _mine_condemned(scene: Scene) -> bytes:
    return _build_condemned(scene).raw


def _mine_beside(scene: Scene, change: int) -> bytes:
    return scene.mine(difficulty=scene.build_header().difficulty + change)


def _mine_eased(scene: Scene) -> bytes:
    """A late block that states the difficulty that it must meet instead of the one that it must state."""
    late = scene.build_header(timestamp=scene.tip.header.timestamp + LATE_SECONDS)
    return scene.mine(timestamp=late.timestamp, difficulty=get_rung(scene.spec, scene.tip, late).work)


def _mine_after(scene: Scene, seconds: int) -> bytes:
    return scene.mine(timestamp=scene.tip.header.timestamp + seconds)


def _mine_in_an_hour(scene: Scene) -> bytes:
    return scene.mine(timestamp=int(time.time()) + IN_AN_HOUR)


def _mine_light_branch(scene: Scene) -> bytes:
    """A valid child of genesis, late enough for a rung below that of the first block."""
    return mine_real_block(scene.spec, scene.genesis, seconds=LATE_SECONDS).raw


def _claim(scene: Scene, field: str, claimed: int) -> bytes:
    witness = scene.honest.witness
    claims = {"train_correct": witness.train_correct, "eval_correct": witness.eval_correct, field: claimed}
    return scene.claim(scene.honest, **claims)


def _claim_below(scene: Scene, field: str) -> bytes:
    rung = get_rung(scene.spec, scene.tip, scene.honest.header)
    return _claim(scene, field, getattr(rung, f"min_{field}") - 1)
