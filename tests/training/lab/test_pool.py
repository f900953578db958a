"""Workers of the lab do not outlive the command that started them."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil

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
