"""Hostile submissions whose transfers are false: not the header's, forged, or against the ledger (§7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from chain.keys import SigningKey
from consensus.block import encode_block
from consensus.encoding import U64_MAX, ZERO_HASH
from consensus.errors import Code
from consensus.keys import GROUP_ORDER
from consensus.transaction import SignedTransfer
from tests.acceptance.scene import Hostile, Scene
from tests.builders import BOB, CAROL, INITIAL_BALANCE, build_transfer
from tests.consensus import edwards
from tests.independent.mutations import flip

Transfers = tuple[SignedTransfer, ...]
NOBODY = SigningKey.from_seed(b"\x4d" * 32)
IDENTITY = edwards.encode(edwards.IDENTITY)
NOT_CANONICAL = tuple(
    encoded.to_bytes(32, "little")
    for encoded in (edwards.P, edwards.P + 1, 2**255 - 1, 1 | 1 << 255, edwards.P - 1 | 1 << 255)
)
"""y not below p, and -0 as x."""
OFF_CURVE = next(y for y in range(2, 100) if not edwards.find_xs(y)).to_bytes(32, "little")

SPOILT_SIGNATURES: dict[str, Callable[[bytes], bytes]] = {
    "R flipped": lambda signature: flip(signature, 0),
    "S flipped": lambda signature: flip(signature, 32),
    "R and S zero": lambda signature: bytes(64),
    "S + L": lambda signature: _add_to_s(signature, GROUP_ORDER),
    "S = L": lambda signature: signature[:32] + GROUP_ORDER.to_bytes(32, "little"),
}


def iterate_roots() -> Iterator[Hostile]:
    """Transfers that are not the header's."""
    root = Code.WRONG_TRANSACTIONS_ROOT
    yield Hostile("a root of zeros", root, partial(Scene.mine, transactions_root=ZERO_HASH))
    yield Hostile("transfers exchanged", root, partial(_carry, change=lambda pair: pair[::-1]))
    yield Hostile("a transfer left out", root, partial(_carry, change=lambda pair: pair[:1]))
    yield Hostile("all transfers left out", root, partial(_carry, change=lambda pair: ()))
    yield Hostile("a transfer repeated", root, partial(_carry, change=lambda pair: (*pair, pair[1])))
    yield Hostile("a signature changed", root, partial(_carry, change=_spoil_last_signature))


def iterate_forgeries() -> Iterator[Hostile]:
    """Transfers that nobody can have signed."""
    for version in (0, 2):
        build = partial(_mine_signed, version=version)
        yield Hostile(f"transfer version {version}", Code.WRONG_TRANSFER_VERSION, build)
    keys = [edwards.encode(point) for point in edwards.get_small_order_points()]
    for key in (*keys, *NOT_CANONICAL, OFF_CURVE):
        name = f"sender {key[:2].hex()}..{key[-2:].hex()}"
        yield Hostile(name, Code.BAD_SENDER_KEY, partial(_mine_from_key, key=key))
    for name, spoil in SPOILT_SIGNATURES.items():
        yield Hostile(name, Code.BAD_SIGNATURE, partial(_mine_spoilt, spoil=spoil))
    yield Hostile("signed by another", Code.BAD_SIGNATURE, _mine_signed_by_another)
    yield Hostile("recipient changed after signing", Code.BAD_SIGNATURE, _mine_redirected)


def iterate_ledger() -> Iterator[Hostile]:
    """Transfers that their sender's account does not allow."""
    nonce, balance = Code.WRONG_NONCE, Code.INSUFFICIENT_BALANCE
    yield Hostile("another chain", Code.WRONG_CHAIN, partial(_mine_signed, chain_id=ZERO_HASH))
    yield Hostile("nonce ahead", nonce, partial(_mine_payment, nonce=1))
    yield Hostile("a transfer of the tip again", nonce, lambda s: s.mine(s.tip.block.transfers))
    yield Hostile("one nonce twice", nonce, lambda s: s.mine([s.pay(BOB), s.pay(BOB, 7)]))
    yield Hostile("nonce 2^64 - 1", Code.NONCE_EXHAUSTED, partial(_mine_payment, nonce=U64_MAX))
    yield Hostile("one coin too many", balance, partial(_mine_payment, amount=INITIAL_BALANCE + 100))
    yield Hostile("no coin left for the fee", balance, lambda s: s.mine([s.pay(CAROL, INITIAL_BALANCE)]))
    yield Hostile("amount and fee beyond 2^64", balance, lambda s: s.mine([s.pay(CAROL, U64_MAX, fee=2)]))
    yield Hostile("a balance spent twice", balance, _mine_spent_twice)
    yield Hostile("a sender without coins", balance, lambda s: s.mine([s.pay(NOBODY)]))
    yield Hostile("overspent beside the tip", balance, mine_overspent_aside, evaluations=1)


def _carry(scene: Scene, change: Callable[[Transfers], Transfers]) -> bytes:
    """The honest block with other transfers under the same header."""
    block = scene.honest.block
    return encode_block(replace(block, transfers=change(block.transfers)))


def _spoil_last_signature(transfers: Transfers) -> Transfers:
    *others, last = transfers
    return (*others, replace(last, signature=flip(last.signature, 63)))


def _mine_payment(scene: Scene, amount: int = 100, nonce: int = 0) -> bytes:
    """A block with one transfer of BOB, who has got 100 coins in the tip."""
    return scene.mine([scene.pay(BOB, amount, nonce=nonce)])


def _mine_signed(scene: Scene, **changes: int | bytes) -> bytes:
    """A block with a transfer that was changed before BOB signed it."""
    transfer = replace(scene.pay(BOB).transfer, **changes)  # type: ignore[arg-type]
    return scene.mine([BOB.sign_transfer(transfer)])


def _mine_from_key(scene: Scene, key: bytes) -> bytes:
    """R the identity and S zero: libraries without a rule for keys take that for some or all messages."""
    transfer = replace(scene.pay(BOB, 0, fee=0).transfer, sender=key)
    return scene.mine([SignedTransfer(transfer, IDENTITY + bytes(32))])


def _mine_spoilt(scene: Scene, spoil: Callable[[bytes], bytes]) -> bytes:
    signed = scene.pay(BOB)
    return scene.mine([replace(signed, signature=spoil(signed.signature))])


def _add_to_s(signature: bytes, term: int) -> bytes:
    s = int.from_bytes(signature[32:], "little") + term
    return signature[:32] + s.to_bytes(32, "little")


def _mine_signed_by_another(scene: Scene) -> bytes:
    """BOB's signature, good for the same transfer of his own coins, under one of CAROL's."""
    own = build_transfer(scene.spec, BOB, BOB.public)
    forged = replace(own.transfer, sender=CAROL.public)
    return scene.mine([replace(own, transfer=forged)])


def _mine_redirected(scene: Scene) -> bytes:
    signed = scene.pay(BOB)
    redirected = replace(signed.transfer, recipient=NOBODY.public)
    return scene.mine([replace(signed, transfer=redirected)])


def _mine_spent_twice(scene: Scene) -> bytes:
    most = INITIAL_BALANCE - 1
    return scene.mine([scene.pay(CAROL, most), scene.pay(CAROL, most, nonce=1)])


def mine_overspent_aside(scene: Scene, fee: int = 1) -> bytes:
    """A sibling of the tip that spends the coins which BOB got in the tip alone."""
    payment = build_transfer(scene.spec, BOB, CAROL.public, INITIAL_BALANCE, fee=fee)
    return scene.mine_on(scene.first, [payment])
