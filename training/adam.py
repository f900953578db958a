"""Adam by torch's fused kernel (D. Kingma and J. Ba, 2015), without what surrounds it in `torch.optim`.

That loads torch's compiler at its first step, which takes a miner's start two seconds, and looks through all
parameters at every one. The kernel and so the numbers are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

EPSILON = 1e-8


class Adam:
    """Steps of groups of parameters that lie on one device, each with a rate of its own."""

    param_groups: list[dict[str, Any]]
    """Of each `params` and `lr`: a float, or on a GPU a tensor there, so that a recorded step follows it."""
    state: dict[Parameter, dict[str, Tensor]]
    """Of each parameter `step`, `exp_avg` and `exp_avg_sq`, from its first step on."""

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        self.param_groups = [{**group, "lr": _open_rate(group["params"][0])} for group in groups]
        self.state = {}
        self._betas = betas

    def zero_grad(self) -> None:
        """Drops all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Moves every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            states = [self.state.get(parameter) or self._open(parameter) for parameter in parameters]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adam_(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=self._betas[0],
                beta2=self._betas[1],
                weight_decay=0.0,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def _open(self, parameter: Parameter) -> dict[str, Tensor]:
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        steps = torch.zeros((), dtype=torch.float32, device=parameter.device)
        self.state[parameter] = {"step": steps, **moments}
        return self.state[parameter]


def _open_rate(parameter: Parameter) -> float | Tensor:
    return torch.zeros((), device=parameter.device) if parameter.is_cuda else 0.0
