"""Workers of the lab do not outlive the command that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import psutil
import pytest

from training.lab.pool import start_pool

COMMAND = """
import os
from training.lab.pool import start_pool

def start():
    pass

if __name__ == "__main__":
    with start_pool(1, start) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        input()
"""


def start() -> None:
    pass


def wait_for_ever() -> None:
    threading.Event().wait()


def test_an_error_ends_workers_that_are_at_work() -> None:
    workers = []

    def interrupt() -> None:
        with start_pool(1, start) as pool:
            workers.append(psutil.Process(pool.submit(os.getpid).result()))
            pool.submit(wait_for_ever)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


def test_workers_end_with_a_killed_command(tmp_path: os.PathLike[str]) -> None:
    script = os.path.join(tmp_path, "command.py")
    with open(script, "w", encoding="utf-8") as file:
        file.write(COMMAND)
    with subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    ) as command:
        assert command.stdout is not None
        worker = psutil.Process(int(command.stdout.readline()))
        assert worker.is_running()
        command.kill()
        command.wait()
        _, alive = psutil.wait_procs([worker], timeout=30)
    assert not alive
