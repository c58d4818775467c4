"""A network with heavy-tailed weights in the hard stage, and steps of it, for the tests of the stages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from sws_compress.mixture.mixture import Mixture
from sws_compress.train.schedule import Schedule
from sws_compress.train.select import select_parameters
from sws_compress.train.sharing import Sharing
from sws_compress.train.stages.hard import HardStage
from sws_compress.train.stages.price import PriceRamp, follow
from sws_compress.train.stages.snapped import SnappedWeights
from sws_compress.train.stages.tune import TuneStage

SCHEDULE = Schedule(sensitivity_power=0.5, codebook_rate=0.3)
MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]
OPTIMIZERS: dict[str, MakeOptimizer] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5),
    "adam": lambda model: torch.optim.Adam(model.parameters(), lr=2e-3),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1),
}


def mixture(components: int, reach: float) -> Mixture:
    grid = np.linspace(-reach, reach, components - 1 + components % 2)
    means = np.concatenate([[0.0], grid[np.abs(grid) > 1e-9]])[:components]
    weights = np.full(components, 0.4 / (components - 1))
    weights[0] = 0.6
    return Mixture(weights, means, np.full(components, 1e-3))


def network(seed: int = 0) -> nn.Sequential:
    """Heavy-tailed weights, off centre, unequal layers."""
    model = nn.Sequential(nn.Linear(64, 30), nn.Linear(30, 20))
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for layer, scale in zip(model, (0.05, 0.2), strict=True):
            layer.weight.copy_(torch.from_numpy(rng.laplace(0.1 * scale, scale, layer.weight.shape)))
    return model


def staged(model: nn.Module, components: int = 7, sharing: Sharing = Sharing.TENSOR) -> HardStage:
    groups = select_parameters(model, sharing=sharing)
    mixtures = [mixture(components, 3 * float(np.std(group.values()))) for group in groups]
    return HardStage(SnappedWeights.start(groups, mixtures), PriceRamp(1.0, SCHEDULE), SCHEDULE)


def tuning(stage: HardStage) -> TuneStage:
    return TuneStage(stage.weights, SCHEDULE)


def em_step(stage: HardStage, optimizer: torch.optim.Optimizer, target_bits: float | None = None) -> None:
    """EM step at the present price, which then follows the bits, if any are given."""
    stage.em_step(optimizer)
    if target_bits is not None:
        follow(stage.weights, target_bits)


def set_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        columns = torch.linspace(0.1, 2.0, parameter.shape[-1])  # unequal sensitivities
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 0.02 * columns


def train(
    model: nn.Module, stage: HardStage, optimizer: torch.optim.Optimizer, steps: range, pull: float = 0.7
) -> None:
    for step in steps:
        set_gradients(model, step)
        optimizer.step()
        stage.carry_over(optimizer, pull)
