"""Where training multiplies in bfloat16. A chain counts on integers, whatever is chosen here."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch


def mix_precision(device: torch.device) -> torch.autocast:
    """Products of bfloat16, sums and weights of float32, where the device has instructions for that."""
    is_fast = device.type == "cuda" or has_bfloat16()
    return torch.autocast(device.type, torch.bfloat16, enabled=is_fast)


@cache
def has_bfloat16() -> bool:
    """Whether this x86 processor multiplies bfloat16 (AVX-512's BF16, or AMX), as Linux tells it.

    Where oneDNN is held to older instructions (`ONEDNN_MAX_CPU_ISA`) it still does, slowly.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags
