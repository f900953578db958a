"""What several processes train beside one: torchrun runs this in each, and rank 0 prints images per second.

`torchrun --nproc-per-node N -m training.lab.bench_ranks cpu BATCH TURNS` prints JSON pairs: alone, together.
"""

from __future__ import annotations

import json
import os
import sys

import torch
import torch.distributed as dist

from training.lab.bench_steps import PAPER, Ground
from training.parallel import ProcessRanks, leave_group

_STEPS = 3


def main(kind: str, batch: int, turns: int) -> None:
    """Rank 0 alone and all ranks together, in turns, on batches of the same size."""
    torch.set_num_threads(1)
    device = "cpu" if kind == "cpu" else f"cuda:{os.environ['LOCAL_RANK']}"
    dist.init_process_group("gloo" if kind == "cpu" else "nccl")
    ground = Ground(PAPER, 7_000, batch, device)
    alone, together = ground.build_step(), ground.build_step(ranks=ProcessRanks())
    pairs = []
    for turn in range(turns + 1):
        seconds = [ground.measure_seconds(alone, _STEPS) if dist.get_rank() == 0 else 0.0]
        dist.barrier()
        seconds.append(ground.measure_seconds(together, _STEPS))
        pairs += [[batch / value for value in seconds]] if turn and dist.get_rank() == 0 else []
    if pairs:
        print(json.dumps(pairs), flush=True)
    leave_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
