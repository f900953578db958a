"""Torch's own forward pass of an integer network, against which the bench holds the exact evaluation."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from consensus.network import IntegerNetwork, Layer

_BATCHES = {"cpu": (32, 64, 128, 256, 512, 1_024), "cuda": (512, 1_024, 2_048, 4_096, 10_000)}
_TRIALS = 3
_FOLD = 2.0**-24
_NO_EPSILON = 1e-30
"""Lost beside a variance of 1, and torch wants one."""


class ForwardPass:
    """The same network as everyone writes it in torch: float32, channels last, in evaluation mode.

    It keeps torch's settings (on CUDA its convolutions may use TensorFloat-32), and takes records in batches
    of the size that is fastest here.
    """

    def __init__(self, network: IntegerNetwork, pixels: Tensor) -> None:
        model = _build(network).to(pixels.device).eval()
        self._model = model.to(memory_format=torch.channels_last)
        self._inputs = (pixels >> 1).float().to(memory_format=torch.channels_last)
        self.batch_records = min(_BATCHES[pixels.device.type], key=self._measure_record)

    @torch.inference_mode()
    def compute_logits(self) -> Tensor:
        """float32[n, classes] logits of all records."""
        return torch.cat([self._model(part) for part in torch.split(self._inputs, self.batch_records)])

    def count_right(self, labels: Tensor) -> int:
        """Records of int64[n] labels whose class is their label, as floats see it."""
        return int((self.compute_logits().argmax(1) == labels).sum())

    @torch.inference_mode()
    def _measure_record(self, batch_records: int) -> float:
        """Seconds for a record in batches of this size, at best."""
        part = self._inputs[:batch_records]
        seconds = []
        for _ in range(1 + _TRIALS):
            started = time.perf_counter()
            self._model(part).argmax(1).cpu()
            seconds.append(time.perf_counter() - started)
        return min(seconds[1:]) / len(part)


def _build(network: IntegerNetwork) -> nn.Sequential:
    *normalised, last = network.spec.layers
    modules: list[nn.Module] = []
    for index, layer in enumerate(normalised):
        modules += [*_build_sums(network, layer), _build_norm(network, index, layer), nn.ReLU()]
        if layer.pooled:
            modules.append(nn.MaxPool2d(2))
    logits = nn.Linear(last.inputs, last.outputs)
    _load(logits.weight, network.weights[last.start : last.stop])
    _load(logits.bias, network.bias)
    return nn.Sequential(*modules, logits)


def _build_sums(network: IntegerNetwork, layer: Layer) -> list[nn.Module]:
    weights = network.weights[layer.start : layer.stop]
    if layer.kind == "convolution":
        convolution = nn.Conv2d(layer.inputs, layer.outputs, 3, padding=1, bias=False)
        _load(convolution.weight, weights)
        return [convolution]
    dense = nn.Linear(layer.inputs, layer.outputs, bias=False)
    _load(dense.weight, weights)
    return [nn.Flatten(), dense]


def _build_norm(network: IntegerNetwork, index: int, layer: Layer) -> nn.Module:
    kind = nn.BatchNorm2d if layer.kind == "convolution" else nn.BatchNorm1d
    norm = kind(layer.outputs, eps=_NO_EPSILON)
    _load(norm.weight, network.multipliers[index] * _FOLD)
    _load(norm.bias, network.offsets[index] * _FOLD)
    return norm


@torch.no_grad()
def _load(parameter: Tensor, values: npt.NDArray[np.generic]) -> None:
    parameter.copy_(torch.from_numpy(values.astype(np.float32)).view(parameter.shape))
