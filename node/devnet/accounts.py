"""The devnet's keys: derived from a seed that everybody knows, and therefore worth nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from chain.keys import SigningKey
from chain.keystore import create_keystore
from consensus.encoding import compute_tagged_hash

FUNDED_NAMES = ("alice", "bob", "carol")
"""Accounts that genesis funds."""
PASSWORD = "devnet"
"""Of every wallet; it protects nothing, the keys are public."""


def build_key(seed: str, name: str) -> SigningKey:
    """The key of a name: the same wherever the seed is."""
    return SigningKey.from_seed(compute_tagged_hash("FreezeNet/devnet/key", f"{seed}/{name}".encode()))


def write_wallets(directory: Path, seed: str, names: Iterable[str]) -> None:
    """A keystore for each name that has none yet. Raises KeystoreError, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = directory / f"{name}.json"
        if not path.exists():
            create_keystore(path, PASSWORD, build_key(seed, name).seed)


def format_warning(seed: str) -> str:
    """What an operator must know of these keys."""
    return (
        f"Keys come from the seed {seed!r} and wallets have the password {PASSWORD!r}:"
        " anyone can spend these coins, they are worth nothing."
    )
