"""RFC 6962 §2.1 Merkle trees with SHA-256: roots, audit paths and their check."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from consensus.encoding import Hash32


def compute_leaf_hash(leaf: bytes) -> Hash32:
    """SHA-256(0x00 ‖ leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def compute_merkle_root(leaves: Sequence[bytes]) -> Hash32:
    """The root over the leaves themselves; SHA-256 of nothing when there are none."""
    return compute_root_of_hashes([compute_leaf_hash(leaf) for leaf in leaves])


def compute_root_of_hashes(hashes: Sequence[Hash32]) -> Hash32:
    """The root over leaf hashes; SHA-256 of nothing when there are none."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    level = list(hashes)
    # Pairing level by level and lifting an odd last node unchanged gives the RFC's tree: its split at the
    # largest power of two below n leaves every left subtree complete.
    while len(level) > 1:
        paired = [_compute_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(level) & ~1 :]
    return level[0]


def compute_audit_path(hashes: Sequence[Hash32], index: int) -> list[Hash32]:
    """The RFC 6962 §2.1.1 audit path of leaf `index`, from the leaf upwards.

    Raises IndexError if it is out of range.
    """
    if not 0 <= index < len(hashes):
        raise IndexError(index)
    path: list[Hash32] = []
    level = list(hashes)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        paired = [_compute_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(level) & ~1 :]
        index //= 2
    return path


def is_in_tree(leaf_hash: Hash32, index: int, count: int, path: Sequence[Hash32], root: Hash32) -> bool:
    """Whether `path` leads from leaf `index` of `count` leaves to `root`."""
    if not 0 <= index < count:
        return False
    node, last, rest = leaf_hash, count - 1, list(path)
    while last:
        if index & 1 or index < last:
            if not rest:
                return False
            sibling = rest.pop(0)
            node = _compute_node(sibling, node) if index & 1 else _compute_node(node, sibling)
        index, last = index // 2, last // 2
    return not rest and node == root


def _compute_node(left: Hash32, right: Hash32) -> Hash32:
    return hashlib.sha256(b"\x01" + left + right).digest()
