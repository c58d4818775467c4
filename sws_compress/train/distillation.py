"""What a teacher adds to the loss: self-distillation from the float network, or from another."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sws_compress.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A teacher: ``weight`` of temperature * KL(teacher || student) in the loss (Hinton 2015).

    The teacher is the float network, or another ``teacher`` that takes the same inputs, such as a larger network.
    Classes lie on dimension 1 of the outputs, as in torch's cross_entropy.
    """

    weight: float = 0.7
    temperature: float = 3.0
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ArgumentError(
                f"distillation weight must be in (0, 1], got {self.weight}: leave distillation out for 0"
            )
        if not self.temperature > 0:
            raise ArgumentError(f"distillation temperature must be > 0, got {self.temperature}: 3 is usual")


def frozen_copy(model: nn.Module, device: torch.device) -> nn.Module:
    """On ``device``, in evaluation mode, without gradients."""
    teacher = copy.deepcopy(model).to(device).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher


def distillation_loss(outputs: Any, wanted: Any, temperature: float) -> torch.Tensor:
    """temperature * KL(teacher || student) of softened classes on dimension 1, mean over all other dimensions.

    Raises ArgumentError for outputs without classes.
    """
    if not isinstance(outputs, torch.Tensor):
        raise ArgumentError(
            f"distillation must have a model of one output tensor, got {type(outputs).__name__}: "
            "leave distillation out and give a loss"
        )
    if outputs.dim() < 2 or outputs.shape[1] < 2:
        raise ArgumentError(
            f"distillation must have outputs (batch, classes, ...) of two classes or more, got {tuple(outputs.shape)}: "
            "give a loss, and leave distillation out"
        )
    student = functional.log_softmax(outputs / temperature, dim=1)
    teacher = functional.log_softmax(wanted / temperature, dim=1)
    return temperature * (teacher.exp() * (teacher - student)).sum(1).mean()
