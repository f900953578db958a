"""The rule of tests/conftest.py: a skip without its marker, or for another reason, fails the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
REASON = "needs a running container engine"

ALLOWED = f"@pytest.mark.docker\ndef test_it():\n    pytest.skip('{REASON}')"
FORBIDDEN = {
    "unmarked": "@pytest.mark.skip(reason='later')\ndef test_it():\n    pass",
    "unmarked_with_an_allowed_reason": f"def test_it():\n    pytest.skip('{REASON}')",
    "another_reason": "@pytest.mark.docker\n@pytest.mark.skip(reason='later')\ndef test_it():\n    pass",
    "whole_module": "pytest.skip('later', allow_module_level=True)",
}

both_ways = pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["serial", "parallel"])


def _run_pytest(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        *options,
    ]
    return subprocess.run(
        [*command, str(directory)], cwd=directory, capture_output=True, text=True, timeout=100
    )


def _write_test(directory: Path, name: str, body: str) -> None:
    (directory / f"test_{name}.py").write_text(f"import pytest\n{body}\n", encoding="utf-8")


@both_ways
def test_rejects_skips_off_the_list(tmp_path: Path, options: tuple[str, ...]) -> None:
    _write_test(tmp_path, "passes", "def test_it():\n    pass")
    for name, body in FORBIDDEN.items():
        _write_test(tmp_path, name, body)
    run = _run_pytest(tmp_path, *options)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    _, _, section = run.stdout.partition("skips that are not allowed")
    assert all(f"test_{name}.py" in section for name in FORBIDDEN)


@both_ways
def test_accepts_a_marked_skip(tmp_path: Path, options: tuple[str, ...]) -> None:
    _write_test(tmp_path, "passes", "def test_it():\n    pass")
    _write_test(tmp_path, "skips", ALLOWED)
    run = _run_pytest(tmp_path, *options)
    assert run.returncode == pytest.ExitCode.OK, run.stdout + run.stderr
    assert "1 passed, 1 skipped" in run.stdout
