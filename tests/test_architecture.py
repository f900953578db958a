"""What a process loads: the main processes stay light, and consensus stands on numpy alone.

The direction of imports between the packages is import-linter's; these tests see what really gets imported.
"""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import consensus
import node

ROOT = Path(__file__).parents[1]
# Run in a process of its own, where torch belongs.
LOADS_TORCH = {"node.miner.bench"}

NODE_MODULES = [
    module.name for module in pkgutil.walk_packages(node.__path__, "node.") if module.name not in LOADS_TORCH
]


def _list_loaded(code: str) -> set[str]:
    """The top-level packages that a fresh interpreter holds after running `code`."""
    report = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}\n{report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_help_is_light() -> None:
    loaded = _list_loaded("from node.cli import main; assert main(['--help']) == 0")
    assert not loaded & {"torch", "torchvision", "sklearn", "scipy", "PIL", "fastapi", "sqlalchemy"}


def test_the_node_never_loads_torch() -> None:
    assert not _list_loaded("import node.app, node.runtime") & {"torch", "torchvision", "matplotlib"}


def test_no_other_module_of_the_application_loads_torch() -> None:
    loaded = _list_loaded(f"import importlib\nfor name in {NODE_MODULES}: importlib.import_module(name)")
    assert not loaded & {"torch", "torchvision", "matplotlib"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("consensus.rules", {"torch", "fastapi", "sqlalchemy", "cryptography"}),
        ("chain.store", {"torch", "fastapi", "httpx"}),
        ("training.tasks", {"torch", "fastapi", "sqlalchemy", "cryptography"}),
        ("dataset_server.store", {"torch", "fastapi", "httpx", "pydantic", "sklearn", "PIL"}),
        ("dataset_server.client", {"torch", "fastapi", "sklearn", "PIL"}),
        ("dataset_server.importers", {"torch", "fastapi", "httpx", "sklearn", "PIL"}),
    ],
)
def test_a_module_loads_no_more_than_it_needs(module: str, absent: set[str]) -> None:
    assert not _list_loaded(f"import {module}") & absent


def test_consensus_imports_the_standard_library_and_numpy_alone() -> None:
    allowed = sys.stdlib_module_names | {"consensus", "numpy"}
    imported = {
        name.partition(".")[0]
        for module in pkgutil.walk_packages(consensus.__path__)
        for name in _list_imports(Path(consensus.__path__[0]) / f"{module.name}.py")
    }
    assert imported - allowed == set()


def _list_imports(path: Path) -> set[str]:
    names: set[str] = set()
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            assert statement.module, f"{path}: a relative import"
            names.add(statement.module)
    return names
