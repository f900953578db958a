"""Acts side by side on a GPU, where kernels of small networks leave most of it idle."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from training.graphs import open_stream


class SideBySide:
    """Takes independent acts on one device: on a GPU none waits for another, as their kernels are small."""

    def __init__(self, count: int, device: torch.device) -> None:
        self._streams = [open_stream(device) for _ in range(count)] if device.type == "cuda" else []

    def __call__(self, acts: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
        """What they return, in order."""
        if not self._streams:
            return [act() for act in acts]
        current = torch.cuda.current_stream(self._streams[0].device)
        results = []
        for act, stream in zip(acts, self._streams, strict=True):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                results.append(act())
        for stream in self._streams:
            current.wait_stream(stream)
        return results
