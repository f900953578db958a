"""`freezenet` in a process that kills itself on the way: `doomed_node.py STAGE NUMBER node run …`.

The process is ended by kill -9 when its chain enters STAGE of its NUMBERth commit. Nothing else differs from
the real command; no option, setting or variable of the product can do this.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count

import node.runtime
from chain.chain import Chain
from chain.store import Store
from consensus.keys import VerifySignature
from consensus.params import ChainSpec
from node.cli import main


def build_hook(stage: str, number: int) -> Callable[[str], None]:
    """A hook that kills the process the `number`th time that it is told of `stage`."""
    passed = count(1)

    def on_stage(entered: str) -> None:
        if entered == stage and next(passed) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return on_stage


def doom(stage: str, number: int) -> None:
    """Make the chain of this process's node one that kills it."""

    class DoomedChain(Chain):
        def __init__(self, store: Store, spec: ChainSpec, verify_signature: VerifySignature) -> None:
            super().__init__(store, spec, verify_signature, build_hook(stage, number))

    vars(node.runtime)["Chain"] = DoomedChain


if __name__ == "__main__":
    doom(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
