"""The metric in which an optimiser moves a weight: the H of the pull ``w <- (H w + tau a m) / (H + tau a)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sws_compress.errors import ArgumentError


@dataclass(frozen=True)
class Metric:
    """H = (sqrt(second_moment / bias_correction2) + epsilon) / rate; without a second moment H = 1 / rate."""

    rate: float
    second_moment: torch.Tensor | None = None
    bias_correction2: float = 1.0
    epsilon: float = 0.0


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Raise ArgumentError unless the metric of ``optimizer`` is known."""
    if not isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW | torch.optim.SGD):
        raise ArgumentError(
            f"optimizer must be torch.optim.SGD, Adam or AdamW, got {type(optimizer).__name__}: "
            "the pull needs to know the metric in which it moves"
        )


def group_of(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> dict[str, Any]:
    """The optimiser's parameter group that holds ``parameter`` (ArgumentError when none does)."""
    for group in optimizer.param_groups:
        if any(member is parameter for member in group["params"]):
            return group
    raise ArgumentError(
        f"every compressed parameter must be in the optimizer, got one of shape {tuple(parameter.shape)} that is not: "
        "pass model.parameters() to the optimizer or leave the parameter out"
    )


def metric_of(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: torch.Tensor) -> Metric | None:
    """The metric after the last step; None when there is nothing to pull in (rate 0, or no step taken yet).

    SGD with momentum moves a weight by rate / (1 - momentum) per unit of steady gradient, so that is its rate here:
    otherwise the pull would be weaker against the loss by the same factor.
    """
    rate = float(group["lr"])
    if rate <= 0:
        return None
    if isinstance(optimizer, torch.optim.SGD):
        return Metric(rate / (1 - group["momentum"]))
    state = optimizer.state.get(parameter)
    if not state:
        return None
    moment = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    return Metric(rate, moment, 1 - group["betas"][1] ** float(state["step"]), float(group["eps"]))
