"""Every way to spoil a valid chain that the protocol must catch.

Owns the classes of mutation, as functions from valid bytes to spoiled ones, for the independent verifier
and for anything else that must refuse them; each states the stage at which it falls, wherever the protocol
fixes that. It leaves signing to the tests: nothing in here holds a key.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tools import independent_verifier as verifier
from tools.independent_verifier import Block, Header, Rung, Stage, Tip, Witness

HEADER_BYTES = verifier.HEADER.size
COUNT_BYTES = 4
U32, U64 = (1 << 32) - 1, (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Mutation:
    """A spoiled block to be put on the state below the valid one; it must be refused at one of `stages`."""

    name: str
    raw: bytes
    stages: frozenset[Stage]


def spoil(name: str, raw: bytes, *stages: Stage) -> Mutation:
    """A mutation that must be refused at one of these stages; at any, if none is given."""
    return Mutation(name, raw, frozenset(stages or Stage))


# A header that keeps every rule but is not the one that was worked for means a new watermark. The timestamp
# also decides the rung, so the claims or the length may be what no longer fits.
NEW_WATERMARK = (Stage.COUNTS,)
HEADER_STAGES: dict[str, tuple[Stage, ...]] = {
    "version": (Stage.VERSION,),
    "height": (Stage.HEIGHT,),
    "parent": (Stage.PARENT,),
    "parent_witness": NEW_WATERMARK,
    "timestamp": (Stage.TIMESTAMP, Stage.FUTURE, Stage.CLAIMS, Stage.SOLUTION, Stage.COUNTS),
    "transactions_root": (Stage.TRANSACTIONS_ROOT,),
    "miner": NEW_WATERMARK,
    "difficulty": (Stage.DIFFICULTY,),
    "task_id": (Stage.TASK_ID,),
    "nonce": NEW_WATERMARK,
}


def compute_other_values(value: int | bytes, largest: int) -> Iterator[int | bytes]:
    """Values that a header field could hold instead."""
    if isinstance(value, int):
        yield from {(value + 1) & largest, (value - 1) & largest, 0, largest} - {value}
    else:
        yield from {flip(value, 0), flip(value, 31), bytes(32), b"\xff" * 32} - {value}


def flip(data: bytes, at: int) -> bytes:
    """The data with the lowest bit of one byte inverted."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def mutate_header(block: Block) -> Iterator[Mutation]:
    """Every header field, next to its value and at its extremes."""
    largest = {"version": (1 << 16) - 1, "height": U32}
    fields: dict[str, Any] = block.header._asdict()
    for name, value in fields.items():
        for other in compute_other_values(value, largest.get(name, U64)):
            spoiled = block._replace(header=Header(**{**fields, name: other}))
            shown = other.hex()[:8] if isinstance(other, bytes) else other
            yield spoil(f"header {name} = {shown}", spoiled.encode(), *HEADER_STAGES[name])


TRANSFER_REGIONS: dict[str, tuple[int, int]] = {
    "version": (0, 2),
    "chain_id": (2, 34),
    "sender": (34, 66),
    "recipient": (66, 98),
    "amount": (98, 106),
    "fee": (106, 114),
    "nonce": (114, 122),
    "signature R": (122, 154),
    "signature S": (154, 186),
}


def replace_transfers(block: Block, signed: Iterable[bytes]) -> tuple[bytes, bytes]:
    """The block with other transfers: under its own root, and under a header that commits to them."""
    spoiled = block._replace(signed=tuple(signed))
    leaves = [verifier.merkle_leaf(verifier.compute_transaction_id(one)) for one in spoiled.signed]
    header = block.header._replace(transactions_root=verifier.merkle_root(leaves))
    return spoiled.encode(), spoiled._replace(header=header).encode()


def mutate_transfer_bytes(block: Block) -> Iterator[Mutation]:
    """One bit in the first and in the last byte of every region of every transfer, committed to and not."""
    for index, signed in enumerate(block.signed):
        for name, (start, end) in TRANSFER_REGIONS.items():
            for at in (start, end - 1):
                others = [*block.signed[:index], flip(signed, at), *block.signed[index + 1 :]]
                bare, committed = replace_transfers(block, others)
                yield spoil(f"transfer {index} {name} at {at}", bare, Stage.TRANSACTIONS_ROOT)
                yield spoil(f"transfer {index} {name} at {at}, committed", committed, Stage.SIGNATURE)


def mutate_transfer_list(block: Block) -> Iterator[Mutation]:
    """Transfers dropped, repeated and put in another order, committed to and not."""
    signed = block.signed
    orders = [("dropped", signed[:at] + signed[at + 1 :]) for at in range(len(signed))]
    orders += [("repeated", (*signed[: at + 1], *signed[at:])) for at in range(len(signed))]
    orders += [("reversed", signed[::-1]), ("rotated", signed[1:] + signed[:1])]
    for name, others in orders:
        if others != signed:
            bare, committed = replace_transfers(block, others)
            yield spoil(f"transfers {name}", bare, Stage.TRANSACTIONS_ROOT, Stage.DECODING)
            yield spoil(f"transfers {name}, committed", committed, Stage.LEDGER, Stage.COUNTS, Stage.DECODING)


def mutate_transfer_count(block: Block) -> Iterator[Mutation]:
    """The count of transfers, with the bytes after it unchanged."""
    raw, count = block.encode(), len(block.signed)
    for other in {count + 1, count - 1, 0, 1 << 16, U32} - {count, -1}:
        spoiled = raw[:HEADER_BYTES] + struct.pack("<I", other) + raw[HEADER_BYTES + COUNT_BYTES :]
        yield spoil(f"transfer count {other}", spoiled, Stage.DECODING)


def mutate_solution_length(block: Block) -> Iterator[Mutation]:
    """The length of the solution, with the bytes after it unchanged."""
    solution = block.witness.solution
    head = block.encode()[: -len(solution) - 4]
    for other in {len(solution) + 1, len(solution) - 1, 0, U32} - {len(solution)}:
        yield spoil(f"solution length {other}", head + struct.pack("<I", other) + solution, Stage.DECODING)


def mutate_size(block: Block) -> Iterator[Mutation]:
    """The block cut short at every boundary and many other places, and with bytes after its end."""
    raw = block.encode()
    witness_at = HEADER_BYTES + COUNT_BYTES + verifier.SIGNED_BYTES * len(block.signed)
    cuts = {0, 1, HEADER_BYTES, HEADER_BYTES + COUNT_BYTES, witness_at, witness_at + 12, len(raw) - 1}
    for size in sorted(cuts | set(range(0, len(raw), 97))):
        yield spoil(f"cut to {size} bytes", raw[:size], Stage.DECODING)
    for extra in (b"\x00", b"\xff", raw):
        yield spoil(f"{len(extra)} bytes too many", raw + extra, Stage.DECODING)


def mutate_claims(block: Block) -> Iterator[Mutation]:
    """Claims next to the right ones and at the extremes."""
    witness = block.witness
    for name in ("train_correct", "eval_correct"):
        right = witness.train_correct if name == "train_correct" else witness.eval_correct
        for other in {right + 1, right - 1, 0, U32}:
            fields = {
                "train_correct": witness.train_correct,
                "eval_correct": witness.eval_correct,
                name: other,
            }
            spoiled = block._replace(witness=Witness(**fields, solution=witness.solution))
            stages = (Stage.CLAIMS,) if other in (0, U32) else (Stage.COUNTS, Stage.CLAIMS)
            yield spoil(f"{name} = {other}, right is {right}", spoiled.encode(), *stages)


@dataclass(frozen=True, slots=True)
class SolutionLayout:
    """Where the parts of a solution lie."""

    network: verifier.Network
    free: int

    @property
    def norm_offsets(self) -> list[tuple[int, int, int]]:
        """(offset of M, offset of B, units) of every normalised layer."""
        offsets, at = [], self.free
        for layer in self.network.layers[:-1]:
            offsets.append((at, at + 4 * layer.outputs, layer.outputs))
            at += 12 * layer.outputs
        return offsets

    @property
    def bias_at(self) -> int:
        return self.free + self.network.solution_bytes_beside_weights - 4 * self.network.classes


def get_layout(task: verifier.Task, rung: Rung) -> SolutionLayout:
    return SolutionLayout(task.network, task.network.weights - task.compute_frozen_count(rung))


def put(data: bytes, at: int, replacement: bytes) -> bytes:
    """The data with some of its bytes replaced."""
    return data[:at] + replacement + data[at + len(replacement) :]


def put_solution(block: Block, solution: bytes) -> bytes:
    """The block with another solution and the same claims."""
    return block._replace(witness=block.witness._replace(solution=solution)).encode()


def mutate_solution_ranges(block: Block, layout: SolutionLayout) -> Iterator[Mutation]:
    """A weight, an M, a B or a bias out of range, at the first and the last place it can be."""
    edits: list[tuple[str, int, bytes]] = []
    for at in (0, layout.free // 2, layout.free - 1):
        edits.append((f"weight {at} = -128", at, b"\x80"))
    for layer, (m_at, b_at, units) in enumerate(layout.norm_offsets):
        for unit in (0, units - 1):
            for m in (1 << 24, U32):
                edits.append((f"M[{layer}][{unit}] = {m}", m_at + 4 * unit, struct.pack("<I", m)))
            for b in ((1 << 52) + 1, -(1 << 52) - 1, (1 << 63) - 1, -(1 << 63)):
                edits.append((f"B[{layer}][{unit}] = {b}", b_at + 8 * unit, struct.pack("<q", b)))
    for unit in (0, layout.network.classes - 1):
        for bias in ((1 << 30) + 1, -(1 << 30) - 1, (1 << 31) - 1, -(1 << 31)):
            edits.append((f"bias[{unit}] = {bias}", layout.bias_at + 4 * unit, struct.pack("<i", bias)))
    for name, at, replacement in edits:
        yield spoil(name, put_solution(block, put(block.witness.solution, at, replacement)), Stage.SOLUTION)


def mutate_solution_size(block: Block, task: verifier.Task) -> Iterator[Mutation]:
    """A solution of another length, stated as such: empty, a byte more or less, or that of another rung."""
    solution = block.witness.solution
    sizes = {0, 1, len(solution) - 1, len(solution) + 1} | set(map(task.compute_solution_bytes, task.rungs))
    for size in sorted(sizes - {len(solution)}):
        spoiled = put_solution(block, (solution + bytes(size))[:size])
        yield spoil(f"solution of {size} bytes", spoiled, Stage.SOLUTION, Stage.DECODING)


def iterate_well_formed(solution: bytes, layout: SolutionLayout, seed: int) -> Iterator[tuple[str, bytes]]:
    """Other well-formed solutions: parts silenced, pushed to their bounds, exchanged or drawn anew."""
    rng = np.random.default_rng(seed)
    limit = struct.pack("<i", 1 << 30)
    for unit in range(layout.network.classes):
        yield f"bias[{unit}] = 2^30", put(solution, layout.bias_at + 4 * unit, limit)
    for layer, (m_at, b_at, units) in enumerate(layout.norm_offsets):
        yield f"M[{layer}] = 0", put(solution, m_at, bytes(4 * units))
        for bound in (1 << 52, -(1 << 52)):
            yield f"B[{layer}] = {bound}", put(solution, b_at, struct.pack("<q", bound) * units)
    yield "free weights = 127", put(solution, 0, b"\x7f" * layout.free)
    yield "free weights reversed", put(solution, 0, solution[: layout.free][::-1])
    for at in rng.integers(0, layout.free, 40).tolist():
        yield f"weight {at} drawn anew", put(solution, at, bytes([int(rng.integers(0, 128))]))


Count = Callable[[bytes], tuple[int, int]]


def split_solutions(
    block: Block, layout: SolutionLayout, compute_counts: Count
) -> tuple[list[Mutation], list[bytes]]:
    """Other well-formed solutions under the same claims: those that change a count, and valid twins."""
    claims = (block.witness.train_correct, block.witness.eval_correct)
    spoiled, twins = [], []
    for name, solution in iterate_well_formed(block.witness.solution, layout, seed=7):
        raw = put_solution(block, solution)
        if compute_counts(solution) != claims:
            spoiled.append(spoil(name, raw, Stage.COUNTS))
        elif solution != block.witness.solution:
            twins.append(raw)
    return spoiled, twins


def decode_block(chain: verifier.Chain, raw: bytes) -> Block:
    return verifier.decode_block(raw, chain.params.max_transactions, chain.longest_solution)


def get_rung(chain: verifier.Chain, below: Tip, raw: bytes) -> Rung:
    """The rung that a valid block met, given the state below it."""
    return chain.params.task.rungs[verifier.compute_rung(chain, below, decode_block(chain, raw).header)]


def get_solutions(chain: verifier.Chain, below: Tip, raw: bytes) -> tuple[list[Mutation], list[bytes]]:
    """Of a valid block: mutations of its solution that change a count, and twins with a valid witness."""
    block, rung, task = decode_block(chain, raw), get_rung(chain, below, raw), chain.params.task
    header = block.header.encode()

    def compute_counts(solution: bytes) -> tuple[int, int]:
        return verifier.compute_counts(task, rung, header, solution, chain.dataset)

    return split_solutions(block, get_layout(task, rung), compute_counts)


def iterate_mutations(chain: verifier.Chain, below: Tip, raw: bytes) -> Iterator[Mutation]:
    """Every class of mutation of a valid block, given the state below it."""
    block, task = decode_block(chain, raw), chain.params.task
    layout = get_layout(task, get_rung(chain, below, raw))
    yield from mutate_header(block)
    yield from mutate_transfer_bytes(block)
    yield from mutate_transfer_list(block)
    yield from mutate_transfer_count(block)
    yield from mutate_solution_length(block)
    yield from mutate_size(block)
    yield from mutate_claims(block)
    yield from mutate_solution_ranges(block, layout)
    yield from mutate_solution_size(block, task)
    yield from get_solutions(chain, below, raw)[0]


def find_wrong_verdicts(
    chain: verifier.Chain, below: Tip, mutations: Iterable[Mutation], now: int
) -> list[str]:
    """Mutations that are accepted on the state below, or refused at a stage that they should pass."""
    wrong = []
    for mutation in mutations:
        try:
            verifier.check_block(chain, below, mutation.raw, now)
            wrong.append(f"{mutation.name}: accepted")
        except verifier.Refused as refused:
            if refused.stage not in mutation.stages:
                wrong.append(f"{mutation.name}: {refused}")
    return wrong


def iterate_byte_flips(block: Block) -> Iterator[Mutation]:
    """One bit of every byte up to the solution."""
    raw = block.encode()
    for at in range(len(raw) - len(block.witness.solution)):
        yield spoil(f"byte {at}", flip(raw, at))


def mutate_chain(blocks: Sequence[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Valid blocks in a list that is no chain: one missing below another, repeated, or exchanged."""
    for at in range(len(blocks) - 1):
        yield f"block {at} missing", [*blocks[:at], *blocks[at + 1 :]]
        yield f"block {at} repeated", [*blocks[: at + 1], *blocks[at:]]
        yield (
            f"blocks {at} and {at + 1} exchanged",
            [*blocks[:at], blocks[at + 1], blocks[at], *blocks[at + 2 :]],
        )
