"""RFC 6962 trees against its published vectors and against its recursive definition."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.merkle import (
    compute_audit_path,
    compute_leaf_hash,
    compute_merkle_root,
    compute_root_of_hashes,
    is_in_tree,
)

LEAVES = [
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", bytes(range(96, 112)).hex())
]
# The roots over the first 0, 1, … 8 of these leaves in the tests of certificate-transparency-go.
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def compute_root_by_the_rfc(leaves: list[bytes]) -> bytes:
    """§2.1: split at the largest power of two below n."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = compute_root_by_the_rfc(leaves[:split]), compute_root_by_the_rfc(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert compute_merkle_root(LEAVES[:size]).hex() == ROOTS[size]


@given(st.lists(st.binary(max_size=4), max_size=70))
def test_root_equals_the_recursive_definition(leaves: list[bytes]) -> None:
    assert compute_merkle_root(leaves) == compute_root_by_the_rfc(leaves)


def test_a_repeated_last_leaf_changes_the_root() -> None:
    assert compute_merkle_root(LEAVES[:3]) != compute_merkle_root([*LEAVES[:3], LEAVES[2]])


@pytest.mark.parametrize("size", range(1, 18))
def test_every_audit_path_leads_to_the_root_and_to_nothing_else(size: int) -> None:
    hashes = [compute_leaf_hash(bytes([leaf])) for leaf in range(size)]
    root = compute_root_of_hashes(hashes)
    for index, leaf in enumerate(hashes):
        path = compute_audit_path(hashes, index)
        assert is_in_tree(leaf, index, size, path, root)
        assert not is_in_tree(leaf, index, size, [*path, root], root)
        assert not is_in_tree(leaf, index, size, path[:-1], root) or not path
        assert not is_in_tree(compute_leaf_hash(b"other"), index, size, path, root)
        assert not any(is_in_tree(leaf, other, size, path, root) for other in range(size) if other != index)


def test_rejects_an_index_outside_the_tree() -> None:
    hashes = [compute_leaf_hash(leaf) for leaf in LEAVES]
    with pytest.raises(IndexError):
        compute_audit_path(hashes, 8)
    assert not is_in_tree(hashes[0], 8, 8, [], compute_root_of_hashes(hashes))
    assert not is_in_tree(hashes[0], -1, 8, [], compute_root_of_hashes(hashes))
