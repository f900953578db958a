"""Key pairs, signatures, the keystore and chain.json."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chain.errors import KeystoreError, StoreError
from chain.keys import SigningKey
from chain.keystore import create_keystore, open_keystore, read_keystore_address
from chain.signatures import compute_public_key, sign, verify_signature
from chain.spec_file import read_chain_spec, write_chain_spec
from consensus.address import decode_address
from consensus.keys import GROUP_ORDER
from consensus.params import ChainSpec
from consensus.transaction import check_transfer_form
from tests.builders import ALICE, BOB, build_transfer

# RFC 8032 §7.1, TEST 2.
RFC_SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
RFC_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
RFC_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_signs_as_the_rfc_does() -> None:
    assert compute_public_key(RFC_SEED) == RFC_PUBLIC
    assert sign(RFC_SEED, b"\x72") == RFC_SIGNATURE
    assert verify_signature(RFC_PUBLIC, b"\x72", RFC_SIGNATURE)


def test_rejects_false_and_malformed_signatures() -> None:
    scalar = int.from_bytes(RFC_SIGNATURE[32:], "little") + GROUP_ORDER
    malleable = RFC_SIGNATURE[:32] + scalar.to_bytes(32, "little")
    for key, message, signature in (
        (RFC_PUBLIC, b"\x73", RFC_SIGNATURE),
        (RFC_PUBLIC, b"\x72", malleable),
        (RFC_PUBLIC, b"\x72", RFC_SIGNATURE[:-1]),
        (RFC_PUBLIC[:-1], b"\x72", RFC_SIGNATURE),
        (b"\xff" * 32, b"\x72", RFC_SIGNATURE),
    ):
        assert not verify_signature(key, message, signature)


def test_key_signs_its_own_transfers(spec: ChainSpec) -> None:
    signed = build_transfer(spec, ALICE, BOB.public)
    check_transfer_form(signed, verify_signature)
    with pytest.raises(ValueError, match="another key"):
        BOB.sign_transfer(signed.transfer)


def test_key_keeps_its_seed_to_itself() -> None:
    key = SigningKey.generate()
    assert decode_address(key.address) == key.public
    assert key.seed.hex() not in repr(key)
    assert repr(key.seed) not in repr(key)
    assert SigningKey.from_seed(key.seed) == key
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey.from_seed(bytes(31))


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "alice.json"
    create_keystore(path, "correct horse", ALICE.seed)
    return path


def test_keystore_opens_with_its_password_alone(keystore: Path) -> None:
    assert open_keystore(keystore, "correct horse") == ALICE
    assert read_keystore_address(keystore) == ALICE.address
    with pytest.raises(KeystoreError, match="wrong password"):
        open_keystore(keystore, "wrong horse")


def test_keystore_is_its_owners_and_secret(keystore: Path) -> None:
    assert stat.S_IMODE(keystore.stat().st_mode) == 0o600
    assert ALICE.seed.hex() not in keystore.read_text()


def test_keystore_is_never_overwritten(keystore: Path) -> None:
    with pytest.raises(KeystoreError, match="never overwritten"):
        create_keystore(keystore, "other")
    assert open_keystore(keystore, "correct horse") == ALICE


def test_keystore_draws_a_seed(tmp_path: Path) -> None:
    keys = [create_keystore(tmp_path / name, "") for name in ("a", "b")]
    assert keys[0] != keys[1]
    assert open_keystore(tmp_path / "a", "") == keys[0]
    with pytest.raises(KeystoreError, match="cannot write"):
        create_keystore(tmp_path / "nowhere" / "a", "")


def change(fields: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for name in outer:
        fields = fields[name]
    fields[last] = value


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("version", 2, "another version"),
        ("kdf.name", "argon2", "another version"),
        ("cipher.name", "aes", "another version"),
        ("address", BOB.address, "the file was changed"),
        ("kdf.salt", "00" * 16, "the file was changed"),
        ("kdf.n", 2**30, "out of bounds"),
        ("kdf.p", 17, "out of bounds"),
        ("kdf.r", 0, "out of bounds"),
        ("kdf.n", 3, "not a keystore"),
        ("kdf", None, "not a keystore"),
        ("cipher.nonce", "zz", "not a keystore"),
        ("cipher.sealed", "00", "the file was changed"),
    ],
)
def test_rejects_a_changed_keystore(
    keystore: Path, tmp_path: Path, place: str, value: object, message: str
) -> None:
    fields = json.loads(keystore.read_text())
    change(fields, place, value)
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(fields))
    with pytest.raises(KeystoreError, match=message):
        open_keystore(changed, "correct horse")


@pytest.mark.parametrize("text", ["", "[]", "{}", "\x00", '{"version": 1}'])
def test_rejects_what_is_no_keystore(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(text)
    with pytest.raises(KeystoreError, match="not a keystore"):
        open_keystore(path, "")
    with pytest.raises(KeystoreError, match="not a keystore"):
        read_keystore_address(path)


def test_rejects_a_missing_keystore(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="cannot read"):
        open_keystore(tmp_path / "none.json", "")


def test_spec_file_goes_round(tmp_path: Path, spec: ChainSpec) -> None:
    path = tmp_path / "chain.json"
    write_chain_spec(path, spec)
    assert read_chain_spec(path) == spec
    assert set(json.loads(path.read_text())) == {"params_hex", "dataset_hex"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["chain.json"]


def test_rejects_a_broken_spec_file(tmp_path: Path, spec: ChainSpec) -> None:
    path = tmp_path / "chain.json"
    broken = replace(spec.params, maturity=0)
    write_chain_spec(path, ChainSpec(broken, spec.dataset))
    with pytest.raises(StoreError, match="does not describe a chain: bad-params"):
        read_chain_spec(path)
    for text in ("", "[]", "{}", '{"params_hex": 1}', '{"params_hex": "00", "dataset_hex": ""}', "\xff"):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(StoreError, match="does not describe a chain"):
            read_chain_spec(path)
    with pytest.raises(StoreError, match="cannot read"):
        read_chain_spec(tmp_path / "none.json")
    with pytest.raises(StoreError, match="cannot write"):
        write_chain_spec(tmp_path / "nowhere" / "chain.json", spec)
