"""A node's data directory: which chain it is for, who the node is, and who may give it orders.

Owns chain.json, node.json and admin.token in it; the database is chain.store's, the datasets are those of
dataset_server.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path

from chain.spec_file import read_chain_spec, write_chain_spec
from consensus.params import ChainSpec
from node.settings import NodeSettings

_NODE_ID_BYTES = 16


class DataDirectoryError(Exception):
    """The directory cannot be used; the message is one line that says why."""


def init_data_directory(settings: NodeSettings, chain_file: Path) -> ChainSpec:
    """Make the directory one for the chain that a file describes; does nothing where it is that already.

    Raises DataDirectoryError, or StoreError where the file describes no chain.
    """
    spec = read_chain_spec(chain_file)
    try:
        settings.dir.mkdir(parents=True, exist_ok=True)
        _check_writable(settings.dir)
    except OSError as error:
        raise DataDirectoryError(f"cannot write to {settings.dir}: {error.strerror}") from error
    if settings.chain_path.exists():
        _check_same_chain(settings, spec)
    else:
        write_chain_spec(settings.chain_path, spec)
    load_node_id(settings)
    load_admin_token(settings)
    return spec


def open_data_directory(settings: NodeSettings) -> ChainSpec:
    """The chain of a directory that was made before. Raises DataDirectoryError, StoreError."""
    if not settings.chain_path.exists():
        raise DataDirectoryError(
            f"{settings.dir} holds no chain: give --chain FILE once, or run `freezenet node init`"
        )
    spec = read_chain_spec(settings.chain_path)
    try:
        _check_writable(settings.dir)
    except OSError as error:
        raise DataDirectoryError(f"cannot write to {settings.dir}: {error.strerror}") from error
    return spec


def load_admin_token(settings: NodeSettings) -> str:
    """The 64 hex digits that admin routes ask for, made at the first call. Raises DataDirectoryError."""
    path = settings.token_path
    try:
        token = _load_or_create(path, secrets.token_hex(32)).strip()
        # An empty one would let in whoever gives none.
        if re.fullmatch("[0-9a-fA-F]{64}", token) is None:
            raise ValueError("not 64 hex digits")
    except ValueError as error:
        raise DataDirectoryError(f"{path} is damaged: {error}; remove it to get a new token") from error
    return token


def load_node_id(settings: NodeSettings) -> str:
    """32 hex digits that tell this node from every other, made at the first call."""
    fresh = json.dumps({"node_id": secrets.token_hex(_NODE_ID_BYTES)})
    path = settings.dir / "node.json"
    try:
        node_id = json.loads(_load_or_create(path, fresh))["node_id"]
        if not isinstance(node_id, str) or len(bytes.fromhex(node_id)) != _NODE_ID_BYTES:
            raise ValueError("not 32 hex digits")
    except (ValueError, KeyError, TypeError) as error:
        raise DataDirectoryError(f"{path} is damaged: {error}; remove it to get a new node id") from error
    return node_id


def _check_same_chain(settings: NodeSettings, spec: ChainSpec) -> None:
    held = read_chain_spec(settings.chain_path)
    if held.chain_id != spec.chain_id:
        raise DataDirectoryError(
            f"{settings.dir} holds chain {held.params.name} {held.chain_id.hex()},"
            f" not {spec.params.name} {spec.chain_id.hex()}"
        )


def _check_writable(directory: Path) -> None:
    probe = directory / f".writable-{os.getpid()}"
    probe.touch()
    probe.unlink()


def _load_or_create(path: Path, fresh: str) -> str:
    """The text of a file; where it is missing, it is made, with `fresh` in it and for its owner alone."""
    try:
        if not path.exists():
            draft = path.with_name(f"{path.name}.{os.getpid()}")
            draft.touch(mode=0o600)
            with draft.open("w", encoding="utf-8") as file:
                file.write(fresh + "\n")
                file.flush()
                # Or a power cut could leave the name with nothing in it.
                os.fsync(file.fileno())
            draft.replace(path)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataDirectoryError(f"cannot use {path}: {error.strerror}") from error
