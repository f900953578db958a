"""The root of the command line: what it lists, what it imports, and how failures end."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest
import typer

import node.cli
from node.cli import COMMANDS, main
from node.cli.errors import CommandError, NodeUnreachable, UsageError

SLOW = ("torch", "sqlalchemy", "fastapi", "rich.live", "sklearn", "numpy")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name in ("devnet", "node", "miner", "wallet", "chain", "dataset", "db", "dev"):
        assert name in listed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_is_listed_is_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage: freezenet " + name in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"freezenet {version('freezenet')}\n"


@pytest.mark.parametrize("words", [["absent"], ["devnet", "absent"], ["devnet", "up", "--absent"]])
def test_wrong_usage_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "absent" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--data", "absent.dataset"], ["--data=absent.dataset"]])
def test_the_lab_reads_the_data_that_it_is_given(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "calibrate", "--task", "digits", "--check", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("freezenet lab: ")
    assert "absent.dataset" in error


def raise_error(error: Exception) -> Callable[[], typer.Typer]:
    """An app whose one command fails."""
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def fail() -> None:
        raise error

    return lambda: app


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (CommandError("no luck"), 1, "freezenet: no luck"),
        (UsageError("not so"), 2, "freezenet: not so"),
        (NodeUnreachable("gone"), 3, "freezenet: gone"),
        (OSError(errno.ENOSPC, "full", "/d/f"), 1, "freezenet: the disk is full: /d/f"),
        (OSError(errno.EDQUOT, "full"), 1, "freezenet: the disk is full"),
        (FileExistsError(errno.EEXIST, "File exists", "/d/f"), 1, "freezenet: /d/f: File exists"),
        (OSError("broken"), 1, "freezenet: broken"),
        (
            ModuleNotFoundError("x", name="torch.nn"),
            1,
            "freezenet: the package torch.nn is missing: run `make setup`",
        ),
    ],
)
def test_a_failure_is_one_line(
    error: Exception,
    exit_code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node.cli, "build_app", lambda _command: raise_error(error)())
    assert main([]) == exit_code
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("error", [ValueError("a bug"), ModuleNotFoundError("x", name="node.typo")])
def test_a_bug_is_not_hidden(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.cli, "build_app", lambda _command: raise_error(error)())
    with pytest.raises(type(error)):
        main([])


@pytest.mark.parametrize("words", [["--help"], ["devnet", "--help"], ["miner", "run", "--help"]])
def test_help_imports_little(words: list[str]) -> None:
    code = (
        "import sys; from node.cli import main; main(sys.argv[1:]);"
        f" sys.exit(str([name for name in {SLOW!r} if name in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    assert result.stderr == "[]\n"
