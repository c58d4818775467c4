"""Squared gradients of outputs: those of the Jacobian, summed over places, whatever a module does in between."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.train import output_gradients as gradients
from sws_compress.train.output_distillation import Readout


def test_gradients_of_linear_layers_are_the_squared_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in output o of the first layer comes out times column o of the second, in each of six rows."""
    monkeypatch.setattr(gradients, "PROJECTIONS", 400)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    inputs = torch.randn(6, 5)
    found = gradients.output_gradients(network, [(inputs,)], [Readout()], seed=0)
    energy = network(inputs).detach().square().sum()
    wanted = 6 * network[1].weight.detach().square().sum(dim=0) / energy
    np.testing.assert_allclose(found["0.weight"], wanted.numpy(), rtol=0.25)
    np.testing.assert_allclose(found["1.weight"], np.full(3, 6 / float(energy)), rtol=1e-5)


class Maps(nn.Module):
    """A convolution that is changed in place and used twice, and outputs of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = self.relu(self.conv(self.relu(self.conv(images))))
        scores = self.head(maps.mean(dim=(2, 3)))
        return scores, 1e4 * scores[:, :1], scores.argmax(dim=1)


def test_modules_are_left_as_they_were_and_frozen_ones_have_gradients() -> None:
    torch.manual_seed(0)
    network = Maps().eval()
    readouts, images = [Readout(), Readout(), Readout("ArgMax")], torch.randn(4, 2, 8, 8)
    before = network(images)[0].detach()
    first = gradients.output_gradients(network, [(images,)], readouts, seed=1)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    second = gradients.output_gradients(network, [(images,)], readouts, seed=1)
    assert sorted(first) == ["conv.weight", "head.weight"]
    for name in first:
        assert (first[name] > 0).all()
        np.testing.assert_allclose(first[name], second[name])
    assert torch.equal(network(images)[0], before)
    assert not network.conv._forward_hooks
    assert all(parameter.grad is None for parameter in network.parameters())


def test_channels_that_the_next_layer_ignores_have_none() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(3, 4, 1), nn.Conv1d(4, 2, 1))
    with torch.no_grad():
        network[1].weight[:, 1] = 0
        network[1].weight[:, 2] *= 100
    found = gradients.output_gradients(network, [(torch.randn(5, 3, 6),)], [Readout()], seed=0)["0.weight"]
    assert found[1] == 0
    assert found.argmax() == 2
