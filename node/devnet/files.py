"""The names inside a devnet's directory, and files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.devnet.errors import DevnetError


@dataclass(frozen=True, slots=True)
class DevnetFiles:
    """Where everything of one devnet lies. Each service has a directory of its name beside these."""

    root: Path

    @property
    def chain(self) -> Path:
        """The chain's parameters: there iff the devnet was created."""
        return self.root / "chain.json"

    @property
    def plan(self) -> Path:
        """Task, seed, counts and ports."""
        return self.root / "devnet.json"

    @property
    def running(self) -> Path:
        """The processes of the present or last run."""
        return self.root / "running.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor."""
        return self.root / "lock"

    @property
    def wallets(self) -> Path:
        """Keystores of the miners and of the funded accounts."""
        return self.root / "wallets"

    @property
    def addresses(self) -> Path:
        """A file a wallet with its address, which is no secret."""
        return self.root / "addresses"

    @property
    def dataset_store(self) -> Path:
        """What the dataset server serves."""
        return self.root / "dataset" / "store"

    def get_dataset_file(self, task: str) -> Path:
        """The task's dataset in one file, for measuring and for the lab."""
        return self.root / "dataset" / f"{task}.dataset"

    def get_service(self, name: str) -> Path:
        """The directory of a service."""
        return self.root / name

    def get_log(self, name: str) -> Path:
        """What a service printed."""
        return self.root / name / "log.txt"

    def get_status(self, name: str) -> Path:
        """The journal of a miner."""
        return self.root / name / "status.jsonl"

    def get_admin_token(self, name: str) -> Path:
        """What opens a node's admin routes."""
        return self.root / name / "admin.token"


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces the file in one step."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is no file. Raises DevnetError for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DevnetError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise DevnetError(f"{path} is damaged: no JSON object")
    return value
