"""Vectors that the loop leaves in float32: few values, chosen by what they do to the outputs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.entropy import entropy_bits
from sws_compress.train import remaining_vectors as vectors
from sws_compress.train.remaining_vectors import Seen, cluster_vectors, palettes_within
from sws_compress.train.select import ParameterGroup


def network() -> nn.Sequential:
    """A network whose second bias hardly matters: what follows is small."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Linear(6, 90), nn.Tanh(), nn.Linear(90, 70), nn.LayerNorm(70), nn.ReLU(), nn.Linear(70, 5), nn.Tanh()
    )
    for module in net:
        if isinstance(module, nn.Linear | nn.LayerNorm):
            nn.init.normal_(module.bias, std=0.3)
    return net.eval()


MATRICES = ("0.weight", "2.weight", "5.weight")
INPUTS = torch.randn(50, 6, generator=torch.Generator().manual_seed(5))


def values_of(net: nn.Module) -> int:
    """Distinct values of all vectors of a network."""
    held = torch.cat([parameter.reshape(-1) for parameter in net.parameters() if parameter.dim() == 1])
    return len(held.unique())


@pytest.mark.parametrize("changed_by", [0.01, 0.1])
def test_outputs_keep_what_the_weights_have_left(changed_by: float) -> None:
    """The error that vectors add stays near a share of what rounding the weights has done, and costs few values."""
    net = network()
    seen = Seen.by(net, (INPUTS,))
    with torch.no_grad():
        for name in MATRICES:
            weight = net.get_parameter(name)
            weight += changed_by * torch.randn(weight.shape, generator=torch.Generator().manual_seed(7)) * weight.std()
    before = Seen.by(net, (INPUTS,))
    error = seen.error(before.outputs)
    snapped = copy.deepcopy(net)
    names = cluster_vectors(snapped, 254, besides=MATRICES, seed=0, seen=seen)
    assert sorted(names) == ["0.bias", "2.bias", "3.bias", "3.weight", "5.bias"]
    added = before.error(Seen.by(snapped, (INPUTS,)).outputs)
    assert 0 < added <= vectors.MISJUDGED * error / 30
    plain = copy.deepcopy(net)
    cluster_vectors(plain, 254, besides=MATRICES, seed=0)
    assert values_of(snapped) < 0.7 * values_of(plain)


def test_the_closer_the_weights_the_more_values() -> None:
    counts = []
    for noise in (0.003, 0.03, 0.3):
        net = network()
        seen = Seen.by(net, (INPUTS,))
        with torch.no_grad():
            net[0].weight.add_(noise * torch.randn(90, 6, generator=torch.Generator().manual_seed(7)))
        cluster_vectors(net, 254, besides=MATRICES, seed=0, seen=seen)
        counts.append(values_of(net))
    assert counts[0] > counts[1] > counts[2]


def test_sensitivities_are_the_squared_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "PROBES", 3000)
    monkeypatch.setattr(vectors, "LEAST_SENSITIVITY", 0.0)
    net = network()
    net[0].bias.requires_grad_(False)
    seen = Seen.by(net, (INPUTS[:9],))
    group = ParameterGroup("bias", ("0.bias", "5.bias"), (net[0].bias, net[5].bias))
    found = vectors._sensitivities(net, [group], seen, seed=1)
    assert found is not None
    assert not net[0].bias.requires_grad

    def outputs(first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(net, {"0.bias": first, "5.bias": last}, (INPUTS[:9],))

    jacobians = torch.autograd.functional.jacobian(outputs, (net[0].bias, net[5].bias))
    y = seen.outputs[0]
    energy = (y - y.mean(0)).square().sum()
    wanted = torch.cat([each.square().sum((0, 1)) / energy for each in jacobians])
    np.testing.assert_allclose(found[0], wanted, rtol=0.25)
    np.testing.assert_allclose(found[0].sum(), wanted.sum(), rtol=0.05)


def test_what_does_not_reach_the_outputs_costs_few_values() -> None:
    draw = np.random.default_rng(0)
    values = [draw.standard_normal(400).astype(np.float32), draw.standard_normal(300).astype(np.float32)]
    sensitivities = [np.full(400, 1e-6), np.full(300, 1.0)]
    silent, heard = palettes_within(values, sensitivities, 254, 0.03, seed=0)
    assert np.count_nonzero(silent.counts) <= 4
    assert np.count_nonzero(heard.counts) > 30


@pytest.mark.parametrize("components", [2, 31, 254])
def test_palettes_keep_the_error_where_they_can(components: int) -> None:
    draw = np.random.default_rng(1)
    values = [draw.gumbel(size=size).astype(np.float32) for size in (211, 37)]
    sensitivities = [draw.exponential(size=each.size) for each in values]
    last = 0.0
    for error in (30.0, 3.0, 0.3):
        palettes = palettes_within(values, sensitivities, components, error, seed=0)
        assert all(np.count_nonzero(each.counts) <= components for each in palettes)
        parts = zip(values, sensitivities, palettes, strict=True)
        lost = sum(float((h * (each - palette.expand()) ** 2).sum()) for each, h, palette in parts)
        assert lost <= error or all(len(each.codebook) == min(components, each.indices.size) for each in palettes)
        bits = sum(entropy_bits(each.counts) for each in palettes)
        assert bits >= last
        last = bits


def test_networks_without_gradients_get_all_values() -> None:
    class Signs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.inner(x) > 0).float()

    net, plain = Signs().eval(), Signs().eval()
    kept = [f"inner.{name}" for name in MATRICES]
    cluster_vectors(net, 100, besides=kept, seed=0, seen=Seen.by(net, (INPUTS,)))
    cluster_vectors(plain, 100, besides=kept, seed=0)
    assert all(torch.equal(one, other) for one, other in zip(net.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("components", [2, 5, 256])
def test_biases_share_a_codebook_and_norms_another(components: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(9, width) for width in (30, 17)), nn.LayerNorm(40), nn.Linear(40, 11))
    nn.init.normal_(net[2].weight)
    kept = net[3].bias.detach().clone()
    matrices = [net[i].weight.detach().clone() for i in (0, 1, 3)]
    names = cluster_vectors(net, components, besides=["3.bias"], seed=0)
    assert sorted(names) == ["0.bias", "1.bias", "2.bias", "2.weight"]
    assert torch.equal(net[3].bias, kept)
    assert all(torch.equal(net[i].weight, matrix) for i, matrix in zip((0, 1, 3), matrices, strict=True))
    biases = ParameterGroup("", ("0.bias", "1.bias", "2.bias"), (net[0].bias, net[1].bias, net[2].bias))
    assert len(np.unique(biases.values())) == min(components, 48)  # 47 of the linear layers, and zero of the norm
    assert len(net[2].weight.unique()) == min(components, 40)
    for name in names:
        assert torch.equal(net.get_parameter(name).half().float(), net.get_parameter(name))


@pytest.mark.parametrize("size", [1e6, 1e-6])
def test_vectors_beyond_float16_stay_float32(size: float) -> None:
    net = nn.Sequential(nn.Linear(3, 40))
    with torch.no_grad():
        net[0].bias.copy_(size * torch.linspace(-1, 1, 40))
    before = net[0].bias.detach().clone()
    cluster_vectors(net, 256, besides=["0.weight"], seed=0)
    assert torch.equal(net[0].bias, before)


def test_vectors_have_one_zero() -> None:
    """Negative values that float16 rounds to zero become +0.0: -0.0 would be one more distinct value."""
    net = nn.Sequential(nn.Linear(3, 3))
    with torch.no_grad():
        net[0].bias.copy_(torch.tensor([0.0, -1e-9, 1.0]))
    cluster_vectors(net, 256, besides=["0.weight"], seed=0)
    assert net[0].bias.tolist() == [0, 0, 1]
    assert not torch.signbit(net[0].bias).any()
