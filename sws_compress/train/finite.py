"""Checks that the loss, the gradients and the weights of a run stay finite."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from sws_compress.train.select import DivergedError

START_AGAIN = "lower learning_rate and start again"


class FiniteCheck:
    """Raises DivergedError for what is NaN or infinite.

    Parameters
    ----------
    trainable : sequence of nn.Parameter
        The parameters that are trained.
    total_steps : int
        Length of the run, for the message.
    """

    def __init__(self, trainable: Sequence[nn.Parameter], total_steps: int) -> None:
        self._trainable, self._total_steps = trainable, total_steps

    def loss(self, loss: torch.Tensor, step: int) -> float:
        """Value of the loss, if it and all gradients are finite: before a step carries them on."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._diverged("loss", value, step)
        gradients = [parameter.grad for parameter in self._trainable if parameter.grad is not None]
        # The Euclidean norm takes a thirtieth of the time of the largest gradient, but overflows earlier.
        if not math.isfinite(float(torch.nn.utils.get_total_norm(gradients))):
            largest = float(torch.nn.utils.get_total_norm(gradients, norm_type=math.inf))
            if not math.isfinite(largest):
                raise self._diverged("gradients", largest, step)
        return value

    @torch.no_grad()
    def weights(self, step: int) -> None:
        """Nothing, if all weights are finite."""
        largest = float(torch.nn.utils.get_total_norm(self._trainable, norm_type=math.inf))
        if not math.isfinite(largest):
            raise self._diverged("weights", largest, step)

    def _diverged(self, thing: str, value: float, step: int) -> DivergedError:
        return DivergedError(
            f"{thing} must stay finite, got {value} at step {step} of {self._total_steps}", START_AGAIN
        )
