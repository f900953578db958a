"""The rule of tests/conftest.py: a skip without its marker, or for another reason, fails the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
REASON = "needs a running container engine"


def _run_pytest(directory: Path, test: str, *options: str) -> subprocess.CompletedProcess[str]:
    (directory / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    (directory / "test_it.py").write_text(
        f"import pytest\n{test}\ndef test_other():\n    pass\n", encoding="utf-8"
    )
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


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["serial", "parallel"])
@pytest.mark.parametrize(
    "test",
    [
        "@pytest.mark.skip(reason='later')\ndef test_it():\n    pass",
        f"def test_it():\n    pytest.skip('{REASON}')",
        "@pytest.mark.docker\n@pytest.mark.skip(reason='later')\ndef test_it():\n    pass",
        "pytest.skip('later', allow_module_level=True)",
    ],
    ids=["unmarked", "unmarked-with-an-allowed-reason", "another-reason", "whole-module"],
)
def test_rejects_a_skip(tmp_path: Path, test: str, options: tuple[str, ...]) -> None:
    run = _run_pytest(tmp_path, test, *options)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    assert "skips that are not allowed" in run.stdout


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["serial", "parallel"])
def test_accepts_a_marked_skip(tmp_path: Path, options: tuple[str, ...]) -> None:
    test = f"@pytest.mark.docker\ndef test_it():\n    pytest.skip('{REASON}')"
    run = _run_pytest(tmp_path, test, *options)
    assert run.returncode == pytest.ExitCode.OK, run.stdout + run.stderr
    assert "1 passed, 1 skipped" in run.stdout
