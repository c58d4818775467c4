"""Distillation: a teacher in the loss, by default the float network itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from sws_compress.arguments import check_kind, own_numbers
from sws_compress.errors import ArgumentError
from sws_compress.train.copies import copied_module


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A teacher in the loss: ``(1 - weight) * loss + weight * temperature * KL(teacher || student)``.

    Classes lie on dimension 1 of the outputs, as in ``torch.nn.functional.cross_entropy``. The model must have one
    output tensor.

    Parameters
    ----------
    weight : float, default 0.7
        Share of the teacher in the loss, in (0, 1].
    temperature : float, default 3.0
        Outputs of teacher and student are divided by it before the softmax: a higher temperature tells more about
        the classes that the teacher does not choose.
    teacher : torch.nn.Module, optional
        Another network that takes the same inputs, such as a larger one. Default: the float network.

    Raises
    ------
    ArgumentError
        If ``weight`` or ``temperature`` is out of range.

    References
    ----------
    Hinton, Vinyals & Dean, Distilling the knowledge in a neural network, 2015.

    Examples
    --------
    >>> Distillation(weight=0.5)
    Distillation(weight=0.5, temperature=3.0, teacher=None)
    """

    weight: float = 0.7
    temperature: float = 3.0
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        own_numbers(self, "distillation ")
        if self.teacher is not None:
            check_kind("distillation teacher", self.teacher, nn.Module, "the module itself")
        if not 0 < self.weight <= 1:
            raise ArgumentError(
                f"distillation weight must be in (0, 1], got {self.weight}: leave distillation out for 0"
            )
        if not self.temperature > 0:
            raise ArgumentError(f"distillation temperature must be > 0, got {self.temperature}: 3 is usual")


def frozen_copy(model: nn.Module, device: torch.device) -> nn.Module:
    """Copy of ``model`` on ``device``, in evaluation mode and without gradients."""
    teacher = copied_module(model).to(device).eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    return teacher


def distillation_loss(outputs: Any, wanted: Any, temperature: float) -> torch.Tensor:
    """Distillation loss ``temperature * KL(teacher || student)``, mean over all dimensions but the classes.

    Parameters
    ----------
    outputs, wanted : tensor, shape (batch, classes, ...)
        Logits of student and teacher.
    temperature : float
        Logits are divided by it before the softmax.

    Returns
    -------
    tensor, shape ()

    Raises
    ------
    ArgumentError
        If the outputs are not one tensor of two classes or more.
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
