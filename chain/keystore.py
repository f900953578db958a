"""A secret seed on disk: versioned JSON, password stretched by scrypt, seed sealed by ChaCha20-Poly1305.

The seal also covers the version, the address and the scrypt parameters: none of them can be changed unseen.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from chain.errors import KeystoreError
from chain.keys import SigningKey

KEYSTORE_VERSION = 1
_SALT_BYTES = 16
_NONCE_BYTES = 12
_SCRYPT = {"n": 2**15, "r": 8, "p": 1}
# A stranger's file must not make us stretch for hours or take all memory: scrypt needs 128·n·r bytes.
_MAX_SCRYPT_BYTES = 2**28
_MAX_PARALLEL = 16


def create_keystore(path: Path, password: str, seed: bytes | None = None) -> SigningKey:
    """Write a new keystore, readable by its owner alone, and return its key; without `seed`, a random one.

    Raises KeystoreError where the file exists or cannot be written.
    """
    key = SigningKey.generate() if seed is None else SigningKey.from_seed(seed)
    fields: dict[str, Any] = {
        "version": KEYSTORE_VERSION,
        "address": key.address,
        "kdf": {"name": "scrypt", **_SCRYPT, "salt": secrets.token_hex(_SALT_BYTES)},
    }
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = ChaCha20Poly1305(_stretch(password, fields["kdf"])).encrypt(nonce, key.seed, _bind(fields))
    fields["cipher"] = {"name": "chacha20-poly1305", "nonce": nonce.hex(), "sealed": sealed.hex()}
    _write_new(path, json.dumps(fields, indent=2) + "\n")
    return key


def open_keystore(path: Path, password: str) -> SigningKey:
    """The key in a keystore. Raises KeystoreError: missing, malformed, or the wrong password."""
    fields = _read(path)
    try:
        cipher = fields["cipher"]
        if (fields["version"], fields["kdf"]["name"], cipher["name"]) != (
            KEYSTORE_VERSION,
            "scrypt",
            "chacha20-poly1305",
        ):
            raise KeystoreError(f"{path} is a keystore of another version")
        nonce, sealed = bytes.fromhex(cipher["nonce"]), bytes.fromhex(cipher["sealed"])
        stretched = _stretch(password, fields["kdf"])
        key = SigningKey.from_seed(ChaCha20Poly1305(stretched).decrypt(nonce, sealed, _bind(fields)))
    except InvalidTag:
        raise KeystoreError(f"{path} does not open: wrong password, or the file was changed") from None
    except (KeyError, TypeError, ValueError) as error:
        raise KeystoreError(f"{path} is not a keystore: {error}") from error
    return key


def read_keystore_address(path: Path) -> str:
    """The address that a keystore states, without its password. Raises KeystoreError."""
    address = _read(path).get("address")
    if not isinstance(address, str):
        raise KeystoreError(f"{path} is not a keystore: it states no address")
    return address


def _stretch(password: str, kdf: Mapping[str, Any]) -> bytes:
    n, r, p = int(kdf["n"]), int(kdf["r"]), int(kdf["p"])
    if min(n, r, p) < 1 or 128 * n * r > _MAX_SCRYPT_BYTES or p > _MAX_PARALLEL:
        raise ValueError("its scrypt parameters are out of bounds")
    scrypt = Scrypt(salt=bytes.fromhex(kdf["salt"]), length=32, n=n, r=r, p=p)
    return scrypt.derive(password.encode("utf-8"))


def _bind(fields: Mapping[str, Any]) -> bytes:
    bound = {name: fields[name] for name in ("version", "address", "kdf")}
    return json.dumps(bound, sort_keys=True, separators=(",", ":")).encode("utf-8")


def _write_new(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise KeystoreError(f"{path} exists; a keystore is never overwritten") from None
    except OSError as error:
        raise KeystoreError(f"cannot write {path}: {error.strerror}") from error


def _read(path: Path) -> Mapping[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KeystoreError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise KeystoreError(f"{path} is not a keystore: {error}") from error
    if not isinstance(fields, dict):
        raise KeystoreError(f"{path} is not a keystore")
    return fields
