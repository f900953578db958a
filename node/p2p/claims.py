"""Headers that a peer says its chain continues with: checked by what they say, worth nothing until verified.

Owns how they are kept, bounded and extended. What a block among them is worth only its evaluation tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from chain.records import BlockRecord
from chain.view import View
from consensus.block import Header, decode_header, encode_header
from consensus.difficulty import get_required_rung
from consensus.encoding import Hash32
from consensus.errors import BadDelivery, Code, NotYet, RuleViolation
from consensus.params import ChainSpec
from consensus.rules import check_clock, check_header
from node.p2p.limits import MAX_CLAIMED_HEADERS, MAX_LOCATOR


@dataclass(frozen=True, slots=True)
class ClaimedHeader:
    """One unverified header."""

    block_id: Hash32
    """Its id."""
    raw: bytes
    """Its 190 bytes: decoded objects would take three times the memory."""
    chain_work: int
    """Chain work that its branch would have up to here."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A branch as one peer tells it: a block verified here and the headers above it."""

    base: BlockRecord
    """The highest block of the branch that was verified here when this was made."""
    base_parent_timestamp: int | None
    """Timestamp of the base's parent; None where the base is genesis."""
    headers: tuple[ClaimedHeader, ...] = ()
    """Headers above a former base, lowest first."""
    start: int = 0
    """Index of the first header that is still unverified."""
    positions: Mapping[Hash32, int] = field(default_factory=dict)
    """Index of each header by its id."""

    @property
    def pending_count(self) -> int:
        """Headers that are unverified."""
        return len(self.headers) - self.start

    @property
    def lowest(self) -> ClaimedHeader:
        """The header to verify next; there is one."""
        return self.headers[self.start]

    @property
    def height(self) -> int:
        """Height of the branch."""
        return self.base.height + self.pending_count

    @property
    def chain_work(self) -> int:
        """Chain work that the branch claims."""
        return self.headers[-1].chain_work if self.pending_count else self.base.chain_work


def extend_claim(
    spec: ChainSpec,
    view: View,
    is_condemned: Callable[[Hash32], bool],
    claim: Claim | None,
    headers: Sequence[Header],
    now_seconds: int,
) -> Claim | None:
    """The claim after a peer's answer to a locator: headers that follow each other, lowest first.

    Stops without blame where a header is from the future or the claim is full. Raises
    BadDelivery(UNDECODABLE) where the headers do not continue anything known here, and RuleViolation as
    `check_header` does or with INVALID_ANCESTOR.
    """
    if not headers:
        return claim
    draft = _start_draft(spec, view, claim, headers[0].parent)
    for header in headers:
        if header.parent != draft.last_id:
            raise BadDelivery(Code.UNDECODABLE, f"header {header.height} does not follow the one before it")
        block_id = header.block_id
        if not draft.kept and (record := view.get_block(block_id)) is not None:
            draft.rebase(record)
            continue
        if is_condemned(block_id):
            raise RuleViolation(Code.INVALID_ANCESTOR, block_id.hex())
        if len(draft.kept) >= MAX_CLAIMED_HEADERS or not draft.add(header, block_id, now_seconds):
            break
    return draft.build()


def advance_claim(view: View, claim: Claim) -> Claim:
    """The claim without the headers that are verified by now."""
    base, start = claim.base, claim.start
    parent_timestamp = claim.base_parent_timestamp
    while start < len(claim.headers):
        record = view.get_block(claim.headers[start].block_id)
        if record is None:
            break
        parent_timestamp = base.header.timestamp
        base, start = record, start + 1
    return replace(claim, base=base, base_parent_timestamp=parent_timestamp, start=start)


def build_locator(view: View, claim: Claim | None) -> list[Hash32]:
    """What to ask a peer's headers with: the end of its claim, then ever sparser down to genesis."""
    if claim is None:
        return _shorten(view.get_locator())
    steps = (2**n for n in range(claim.pending_count.bit_length()))
    sparse = [claim.headers[-step].block_id for step in steps]
    return _shorten([*sparse, *view.get_locator(claim.base.block_id)])


def _shorten(locator: list[Hash32]) -> list[Hash32]:
    return locator if len(locator) <= MAX_LOCATOR else [*locator[: MAX_LOCATOR - 1], locator[-1]]


@dataclass(slots=True)
class _Draft:
    """A claim in the making: the branch's last header and the one before it are all that a check needs."""

    spec: ChainSpec
    base: BlockRecord
    base_parent_timestamp: int | None
    kept: list[ClaimedHeader]
    last: Header
    last_id: Hash32
    before_last_timestamp: int | None

    def rebase(self, record: BlockRecord) -> None:
        """Go on from a block that is verified here already."""
        self.base_parent_timestamp = self.before_last_timestamp = self.base.header.timestamp
        self.base, self.last, self.last_id = record, record.header, record.block_id

    def add(self, header: Header, block_id: Hash32, now_seconds: int) -> bool:
        """Check and keep one header; False where it is from the future. Raises RuleViolation."""
        check_header(self.spec, header, self.last, self.before_last_timestamp)
        try:
            check_clock(self.spec.params, header, now_seconds)
        except NotYet:
            return False
        work = get_required_rung(self.spec.params, header, self.last.timestamp).work
        below = self.kept[-1].chain_work if self.kept else self.base.chain_work
        self.kept.append(ClaimedHeader(block_id, encode_header(header), below + work))
        self.before_last_timestamp = self.last.timestamp
        self.last, self.last_id = header, block_id
        return True

    def build(self) -> Claim:
        """The finished claim."""
        positions = {header.block_id: index for index, header in enumerate(self.kept)}
        return Claim(self.base, self.base_parent_timestamp, tuple(self.kept), 0, positions)


def _start_draft(spec: ChainSpec, view: View, claim: Claim | None, parent_id: Hash32) -> _Draft:
    """A draft whose last header is the given parent, in the old claim or verified here."""
    position = None if claim is None else claim.positions.get(parent_id)
    if claim is not None and position is not None and position >= claim.start:
        return _cut_claim(spec, claim, position)
    base = view.get_block(parent_id)
    if base is None:
        raise BadDelivery(Code.UNDECODABLE, "the headers do not continue the locator")
    before = view.get_block(base.header.parent)
    timestamp = None if before is None else before.header.timestamp
    return _Draft(spec, base, timestamp, [], base.header, base.block_id, timestamp)


def _cut_claim(spec: ChainSpec, claim: Claim, position: int) -> _Draft:
    kept = list(claim.headers[claim.start : position + 1])
    last = decode_header(kept[-1].raw)
    before = claim.base.header if len(kept) == 1 else decode_header(kept[-2].raw)
    return _Draft(
        spec,
        claim.base,
        claim.base_parent_timestamp,
        kept,
        last,
        kept[-1].block_id,
        before.timestamp,
    )
