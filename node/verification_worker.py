"""The process that evaluates witnesses: loads the dataset once, then answers one question at a time.

Only the standard library is imported before the number of threads is fixed; torch comes after it.
"""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection


def run_worker(pipe: Connection, dataset_root: str, dataset_id: bytes) -> None:
    """Serve until the pipe's other end is gone.

    Sends None, or the text of a problem, once; then for each (task, rung, header, witness) that comes the
    verdict: None, the ConsensusError it ends in, or any other exception where the evaluation itself failed.
    """
    # Ctrl-C reaches the whole foreground group; the node decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    from pathlib import Path

    import torch

    from dataset_server.store import DatasetStore
    from training.evaluator import ExactWorkVerifier

    torch.set_num_threads(1)
    try:
        verifier = ExactWorkVerifier(DatasetStore(Path(dataset_root)).load(dataset_id))
    except Exception as error:
        pipe.send(f"the dataset cannot be loaded: {error}")
        return
    pipe.send(None)
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        try:
            verifier.check(*question)
        except Exception as error:
            pipe.send(error)
        else:
            pipe.send(None)
