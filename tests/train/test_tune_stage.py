"""The tuning stage moves codebooks, and nothing else."""

from __future__ import annotations

import copy

import torch

from sws_compress.train.stages import hard_em as hard
from tests.train.staged import OPTIMIZERS, em_step, network, set_gradients, staged, train, tuning


def test_tuning_moves_the_codebook_only_and_down_the_gradient() -> None:
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    train(model, stage, optimizer, range(2))
    em_step(stage, optimizer, 3000.0)
    before = copy.deepcopy(stage.weights.states)
    set_gradients(model, 3)
    sums = [
        hard.member_sums(layer.weight.grad, state.assignment[0], 7)
        for layer, state in zip(model, stage.weights.states, strict=True)
    ]
    optimizer.step()
    tuning(stage).step(optimizer, 1.0)
    for old, new, total in zip(before, stage.weights.states, sums, strict=True):
        assert torch.equal(old.assignment[0], new.assignment[0])
        assert torch.equal(old.latent[0], new.latent[0])
        moved = (total != 0) & (torch.arange(7) > 0)
        # Adam's first step is its rate, whatever the size of the gradient.
        torch.testing.assert_close(
            (new.codebook - old.codebook)[moved], -0.3 * 2e-3 * total[moved].sign().float(), rtol=1e-3, atol=1e-8
        )
        assert torch.equal(new.codebook[~moved], old.codebook[~moved])
    loss_change = sum(
        float(((new.codebook - old.codebook).double() * total).sum())
        for old, new, total in zip(before, stage.weights.states, sums, strict=True)
    )
    assert loss_change < 0


def test_tuning_follows_an_optimizer_that_maximises() -> None:
    found = []
    for sign in (1, -1):
        model = network()
        stage = staged(model)
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, maximize=sign < 0)
        em_step(stage, optimizer)
        tune = tuning(stage)
        for step in range(4):
            set_gradients(model, step)
            for parameter in model.parameters():
                parameter.grad *= sign
            optimizer.step()
            tune.step(optimizer, 1.0)
        found.append([state.codebook.clone() for state in stage.weights.states])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
