"""What is installed: every package by name and no test."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = ("consensus", "chain", "training", "dataset_server", "node")


def test_every_package_is_listed_by_name() -> None:
    present = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for init in (ROOT / package).rglob("__init__.py")
    }
    assert present == set(PROJECT["tool"]["setuptools"]["packages"])


def test_no_lock_names_a_location() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text(encoding="utf-8")
        assert "://" not in text
        assert " @ " not in text


def test_runtime_and_development_locks_agree() -> None:
    runtime, development = (
        {line for line in (ROOT / lock).read_text(encoding="utf-8").splitlines() if "==" in line}
        for lock in ("requirements.lock", "requirements-dev.lock")
    )
    assert runtime <= development
