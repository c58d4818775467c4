"""The prior as a regulariser: a penalty on the loss, from the first step to the last."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.mixture.majoriser import quadratic_majoriser
from sws_compress.mixture.mixture import Mixture
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.schedule import Schedule, Stage

STEPS = 600
PENALTY = 0.02
REGULARISER = Schedule(soft_until=1, penalty=(PENALTY, PENALTY), floor=(0.3, 0.3), soft_every=50)


def wanted_weights() -> torch.Tensor:
    rng = np.random.default_rng(5)
    return torch.from_numpy((rng.gamma(2.0, 0.3, (15, 20)) - 0.5).astype(np.float32))


def train(kind: str, schedule: Schedule) -> tuple[nn.Linear, Mixture, SoftWeightSharing]:
    """The loss is half the squared distance to ``wanted_weights``."""
    model = nn.Linear(20, 15, bias=False)
    wanted = wanted_weights()
    with torch.no_grad():
        model.weight.copy_(wanted.flip(0))
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(model.parameters(), lr=0.05)
        if kind == "sgd"
        else torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.9, 0.99))
    )
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    prior = SoftWeightSharing(model, optimizer, components=5, total_steps=STEPS, schedule=schedule)
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((model.weight - wanted).square().sum() / 2).backward()
        optimizer.step()
        prior.step()
        rates.step()
    return model, prior.mixtures["weight"], prior


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_ends_where_loss_and_penalty_balance(kind: str) -> None:
    """The gradient of loss + penalty * -log p is zero: it does not depend on the optimiser's metric."""
    model, mixture, _ = train(kind, REGULARISER)
    weights = model.weight.detach().numpy().ravel().astype(np.float64)
    a, am = quadratic_majoriser(weights, mixture)
    from_loss = weights - wanted_weights().numpy().ravel()
    from_prior = PENALTY * (a * weights - am)
    assert np.abs(from_prior).mean() > 0.05
    assert np.abs(from_loss + from_prior).mean() < 0.03 * np.abs(from_prior).mean()  # a few still change clusters


def test_relative_strength_fades_with_the_gradients_and_a_penalty_does_not() -> None:
    relative = Schedule(soft_until=1, strength=(0.01, 0.01), floor=(0.3, 0.3), soft_every=50)
    distances = [
        float((train("sgd", schedule)[0].weight.detach() - wanted_weights()).square().mean().sqrt())
        for schedule in (relative, REGULARISER)
    ]
    assert distances[0] < 0.01
    assert distances[1] > 0.05


def test_never_leaves_the_soft_stage() -> None:
    schedule = Schedule(soft_until=1)
    assert all(schedule.stage(progress) is Stage.SOFT for progress in (0.0, 0.7, 0.95, 1.0))
    model, _, prior = train("sgd", REGULARISER)
    before = model.weight.detach().clone()
    prior.update()
    assert prior.stage is Stage.SOFT
    assert prior.coded_bits is None
    assert torch.equal(model.weight.detach(), before)


def test_penalty_runs_geometrically_between_its_ends() -> None:
    schedule = Schedule(soft_until=0.5, target_at=0.6, penalty=(1e-4, 1e-2))
    assert [schedule.pull_strength(progress) for progress in (0, 0.25, 0.5, 0.9)] == pytest.approx(
        [1e-4, 1e-3, 1e-2, 1e-2]
    )
