"""The independent verifier knows nothing of the packages: one file, three sources of imports."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

from tools import independent_verifier as verifier

FILE = Path(verifier.__file__)
OURS = {"consensus", "chain", "training", "dataset_server", "node", "tests", "tools"}
ALLOWED = {*sys.stdlib_module_names, "numpy", "cryptography"}


def get_imports(source: str) -> set[str]:
    """Top-level names of every absolute import, and a dot for every relative one."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else str(node.module))
    return {name.split(".")[0] or "." for name in names}


def test_imports_numpy_cryptography_and_the_standard_library_alone() -> None:
    imports = get_imports(FILE.read_text("utf-8"))
    assert imports <= ALLOWED
    assert {"numpy", "cryptography"} <= imports
    assert not imports & {"importlib", "runpy", "__import__"}


def test_loads_none_of_the_packages() -> None:
    program = "import json, runpy, sys; runpy.run_path(sys.argv[1]); print(json.dumps([*sys.modules]))"
    command = [sys.executable, "-I", "-c", program, str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert "numpy" in loaded
    assert not loaded & OURS
