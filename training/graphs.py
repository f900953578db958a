"""Steps that repeat: on a GPU one is recorded and from then on replayed, with no Python between its kernels.

A small network's kernels take microseconds each, and starting them from Python ten times that. Owns the
recording alone: what a step does is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_EAGER_STEPS = 3
"""Before the recording: libraries choose algorithms, optimisers make their state."""


class RepeatedStep:
    """A function of tensors and floats that returns a tensor, to be called many times on one device.

    On a GPU a float reaches the function as a tensor, float32[]. Inputs keep their shapes and dtypes, and
    what else the function reads and writes stays where it is.
    """

    def __init__(self, act: Callable[..., Tensor], device: torch.device) -> None:
        self._act = act
        self._stream = open_stream(device) if device.type == "cuda" else None
        self._inputs: list[Tensor] = []
        self._eager_steps = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result = torch.empty(0)

    def __call__(self, *inputs: Tensor | float) -> Tensor:
        """What the function returns, the caller's to keep. On a GPU raises ValueError for another shape."""
        if self._stream is None:
            return self._act(*inputs)
        self._take(inputs, self._stream.device)
        if self._graph is None:
            if self._eager_steps < _EAGER_STEPS:
                return self._act_eagerly(self._stream)
            self._record(self._stream)
        assert self._graph is not None, "it was recorded"
        self._graph.replay()
        return self._result.clone()

    def _take(self, inputs: tuple[Tensor | float, ...], device: torch.device) -> None:
        """Puts the inputs where the recording finds them."""
        if not self._inputs:
            self._inputs = [torch.as_tensor(value, **_form(value)).to(device, copy=True) for value in inputs]
            return
        for place, value in zip(self._inputs, inputs, strict=True):
            if not isinstance(value, Tensor):
                place.fill_(value)
            elif value.shape != place.shape:
                raise ValueError(f"a step of {tuple(place.shape)} was recorded, not of {tuple(value.shape)}")
            else:
                place.copy_(value, non_blocking=True)

    def _act_eagerly(self, stream: torch.cuda.Stream) -> Tensor:
        """On the stream of the recording, where what it leaves behind belongs."""
        self._eager_steps += 1
        current = torch.cuda.current_stream(stream.device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            result = self._act(*self._inputs)
        current.wait_stream(stream)
        return result

    def _record(self, stream: torch.cuda.Stream) -> None:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            self._result = self._act(*self._inputs)
        self._graph = graph


def open_stream(device: torch.device) -> torch.cuda.Stream:
    """A new stream of a GPU."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _form(value: Tensor | float) -> dict[str, Any]:
    return {} if isinstance(value, Tensor) else {"dtype": torch.float32}
