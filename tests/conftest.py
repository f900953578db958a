"""Rules of the test run itself: which tests may be skipped, and how Hypothesis draws its examples.

A test is skipped only through the markers below, and only where the machine lacks what the marker names.
Any other skip fails the run, so that a suite cannot quietly shrink.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable
from functools import cache

import hypothesis
import pytest

# Set before anything imports torch or numpy: two workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@cache
def _is_cuda_missing() -> bool:
    import torch

    return not torch.cuda.is_available()


def _is_triton_missing() -> bool:
    return importlib.util.find_spec("triton") is None


@cache
def _is_container_engine_missing() -> bool:
    if shutil.which("docker") is None:
        return True
    return subprocess.run(["docker", "info"], capture_output=True, timeout=60).returncode != 0


def _is_other_processor() -> bool:
    return platform.machine() != "x86_64"


def _is_browser_missing() -> bool:
    return shutil.which("chromium") is None


# marker -> (the one reason its tests may be skipped for, the condition that skips them)
ALLOWED_SKIPS: dict[str, tuple[str, Callable[[], bool]]] = {
    "cuda": ("needs a CUDA device", _is_cuda_missing),
    "triton": ("needs Triton, which comes with torch's builds for GPUs", _is_triton_missing),
    "docker": ("needs a running container engine", _is_container_engine_missing),
    "x86": ("needs the instruction sets of x86", _is_other_processor),
    "browser": ("needs Chromium, Debian's package chromium", _is_browser_missing),
}

_forbidden_skips: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    for marker, (reason, _) in ALLOWED_SKIPS.items():
        config.addinivalue_line("markers", f"{marker}: {reason}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker, (reason, is_missing) in ALLOWED_SKIPS.items():
            if item.get_closest_marker(marker) and is_missing():
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # An expected failure also reports as skipped; xfail_strict already keeps those honest.
    if report.skipped and not hasattr(report, "wasxfail"):
        _note_skip(report, report.keywords)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _note_skip(report, ())


def _note_skip(report: pytest.TestReport | pytest.CollectReport, markers: Iterable[str]) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    allowed = {f"Skipped: {ALLOWED_SKIPS[marker][0]}" for marker in markers if marker in ALLOWED_SKIPS}
    if reason not in allowed:
        _forbidden_skips.append(f"{report.nodeid}: {reason}")


# The controller of a parallel run sees the reports of all workers, so the verdict falls there; a worker's own
# exit status counts for nothing.
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _forbidden_skips:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _forbidden_skips:
        terminalreporter.section("skips that are not allowed", red=True)
        for line in dict.fromkeys(_forbidden_skips):
            terminalreporter.write_line(line)
