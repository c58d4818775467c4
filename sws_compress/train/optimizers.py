"""The metric in which an optimiser moves a weight: the H of the pull ``w <- (H w + tau a m) / (H + tau a)``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from sws_compress.errors import ArgumentError
from sws_compress.train.ranks import local


@dataclass(frozen=True)
class Metric:
    """Metric H = (sqrt(second_moment / bias_correction2) + epsilon) / rate; without a second moment, H = 1 / rate.

    Parameters
    ----------
    rate : float
        Learning rate > 0, as of `rate_of`.
    second_moment : tensor, optional
        Running mean of squared gradients; of a sharded parameter, this rank's part.
    bias_correction2 : float or float64 tensor, default 1.0
        Adam's correction. It is a tensor where the optimiser counts its steps on a device: reading the count would
        make every step wait for the device.
    epsilon : float, default 0.0
        Adam's epsilon.
    """

    rate: float
    second_moment: torch.Tensor | None = None
    bias_correction2: float | torch.Tensor = 1.0
    epsilon: float = 0.0


class StepWatch:
    """Tells whether an optimiser has moved its parameters since it was last asked.

    GradScaler skips steps whose gradients overflowed, and loops that accumulate gradients step now and then. Only
    torch's own hook tells for every loop. The hook outlives the prior, so it holds no reference to it.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        The optimiser to watch.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._moved = False
        optimizer.register_step_post_hook(self._note)

    def moved(self) -> bool:
        """True once for any number of steps since the last call."""
        moved, self._moved = self._moved, False
        return moved

    def _note(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        # GradScaler calls step of a fused optimiser whatever the gradients are, and leaves it the skipping.
        overflow = getattr(optimizer, "found_inf", None)
        if overflow is None or not bool(overflow):
            self._moved = True


def unwrapped(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Torch optimiser inside wrappers that keep it as ``optimizer``, such as those of Accelerate and Lightning."""
    inner = getattr(optimizer, "optimizer", None)
    return unwrapped(inner) if isinstance(inner, torch.optim.Optimizer) else optimizer


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Raise ArgumentError unless the metric of ``optimizer`` is known."""
    if not isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW | torch.optim.SGD):
        raise ArgumentError(
            f"optimizer must be torch.optim.SGD, Adam or AdamW, got {type(optimizer).__name__}: "
            "the pull needs to know the metric in which it moves"
        )


def check_in_optimizer(optimizer: torch.optim.Optimizer, parameters: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise ArgumentError for the first of the named ``parameters`` that ``optimizer`` does not train."""
    known = groups_by_parameter(optimizer)
    for name, parameter in parameters:
        if id(parameter) not in known:
            raise ArgumentError(
                f"every compressed parameter must be in the optimizer, got {name}, which is not: "
                "pass model.parameters() to the optimizer or leave the parameter out"
            )


def groups_by_parameter(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """Parameter group of each parameter of the optimiser, by ``id(parameter)``.

    It is made anew for every step: ``load_state_dict`` and schedulers replace groups, and one pass over the parameters
    costs less than a search for each.
    """
    return {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}


def rate_of(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> float:
    """Effective learning rate: how far a steady unit gradient (SGD) or a gradient's sign (Adam) moves a weight.

    SGD with momentum moves a weight by ``lr * (1 - dampening) / (1 - momentum)`` per step and unit of steady gradient.
    With lr alone the pull would be weaker against the loss by that factor.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        SGD, Adam or AdamW.
    group : dict
        One of its parameter groups.

    Returns
    -------
    float
        At least 0.
    """
    rate = float(group["lr"])
    if isinstance(optimizer, torch.optim.SGD) and group["momentum"]:
        rate *= (1 - group["dampening"]) / (1 - group["momentum"])
    return rate


def second_moment_of(
    optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: torch.Tensor
) -> torch.Tensor | None:
    """Running mean of squared gradients that Adam divides by, before its bias correction.

    Returns
    -------
    tensor or None
        This rank's part, if the parameter is sharded; None for SGD, and before the first step.
    """
    state = optimizer.state.get(parameter)
    if not state or isinstance(optimizer, torch.optim.SGD):
        return None
    moment: torch.Tensor = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    return local(moment)


@torch.no_grad()
def gradient_of(group: dict[str, Any], parameter: torch.Tensor) -> torch.Tensor | None:
    """Gradient of what the optimiser minimises: negated where its ``group`` maximises.

    Returns
    -------
    tensor or None
        Dense; this rank's part, if the parameter is sharded. None if there is no gradient.
    """
    if parameter.grad is None:
        return None
    gradient = local(parameter.grad)
    if gradient.is_sparse:  # of embeddings with sparse=True
        gradient = gradient.to_dense()
    return -gradient if group.get("maximize") else gradient


def metric_of(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: torch.Tensor) -> Metric | None:
    """Metric after the last step; None if the rate is 0 or no step was taken yet: then nothing is pulled."""
    rate = rate_of(optimizer, group)
    if rate <= 0:
        return None
    if isinstance(optimizer, torch.optim.SGD):
        return Metric(rate)
    moment = second_moment_of(optimizer, group, parameter)
    if moment is None:
        return None
    step = optimizer.state[parameter]["step"]
    on_device = isinstance(step, torch.Tensor) and step.device.type != "cpu"
    correction = 1 - group["betas"][1] ** (step.double() if on_device else float(step))
    return Metric(rate, moment, correction, float(group["eps"]))
