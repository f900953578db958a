"""The devnet's keys: derived from a seed that everybody knows, and therefore worth nothing."""

from __future__ import annotations

from collections.abc import Iterable

from chain.keys import SigningKey
from chain.keystore import create_keystore
from consensus.encoding import compute_tagged_hash
from node.devnet.files import DevnetFiles

FUNDED_NAMES = ("alice", "bob", "carol")
"""Accounts that genesis funds."""
PASSWORD = "devnet"
"""Of every wallet; it protects nothing, the keys are public."""


def build_key(seed: str, name: str) -> SigningKey:
    """The key of a name: the same wherever the seed is."""
    return SigningKey.from_seed(compute_tagged_hash("FreezeNet/devnet/key", f"{seed}/{name}".encode()))


def write_wallets(files: DevnetFiles, seed: str, names: Iterable[str]) -> None:
    """A keystore for each name without one, and its address for scripts. Raises KeystoreError, OSError."""
    for directory in (files.wallets, files.addresses):
        directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        key = build_key(seed, name)
        (files.addresses / name).write_text(f"{key.address}\n", encoding="utf-8")
        if not (files.wallets / f"{name}.json").exists():
            create_keystore(files.wallets / f"{name}.json", PASSWORD, key.seed)


def format_warning(seed: str) -> str:
    """What an operator must know of these keys."""
    return (
        f"Keys come from the seed {seed!r} and wallets have the password {PASSWORD!r}:"
        " anyone can spend these coins, they are worth nothing."
    )
