"""Small networks of one shape, computed side by side, each with its own parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy


def initial(inputs: int, hidden: int, outputs: int, seed: int) -> dict[str, torch.Tensor]:
    """Initial parameters of a network with one tanh layer, uniform within 1 / sqrt(inputs of the layer)."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(rows: int, columns: int, fan_in: int) -> torch.Tensor:
        return (2 * torch.rand(rows, columns, generator=generator) - 1) / math.sqrt(fan_in)

    return {
        "hidden_weight": uniform(inputs, hidden, inputs),
        "hidden_bias": uniform(1, hidden, inputs),
        "output_weight": uniform(hidden, outputs, hidden),
        "output_bias": uniform(1, outputs, hidden),
    }


class Nets(nn.Module):
    """Networks side by side; network i starts from ``seeds[i]``.

    ``apart`` gives every network its own parameters, which a prior needs. Otherwise the parameters of all networks are
    stacked, which gives the same results faster.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, seeds: Sequence[int], *, apart: bool = False) -> None:
        super().__init__()
        starts = [initial(inputs, hidden, outputs, seed) for seed in seeds]
        self.count, self.apart = len(seeds), apart
        if not apart:
            starts = [{name: torch.stack([start[name] for start in starts]) for name in starts[0]}]
        self.parts = nn.ModuleList(
            nn.ParameterDict({name: nn.Parameter(value) for name, value in start.items()}) for start in starts
        )

    def stacked(self, name: str) -> torch.Tensor:
        """Parameter ``name`` of all networks, shape (nets, rows, columns)."""
        return torch.stack([part[name] for part in self.parts]) if self.apart else self.parts[0][name]

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Outputs (nets, n, outputs) for inputs (nets, n, d) or (n, d); the stacked weights of both layers."""
        first, last = self.stacked("hidden_weight"), self.stacked("output_weight")
        hidden = torch.tanh(inputs @ first + self.stacked("hidden_bias"))
        return hidden @ last + self.stacked("output_bias"), (first, last)


def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Loss of every case, (nets, n): half the squared error, or the cross-entropy in nats."""
    if outputs.shape[-1] == 1:
        return (outputs.squeeze(-1) - targets).square() / 2
    return cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


def scores(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Score of every case, (nets, n): the squared error, or 1 for a wrong answer."""
    if outputs.shape[-1] == 1:
        return (outputs.squeeze(-1) - targets).square()
    return (outputs.argmax(-1) != targets).float()
