from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.train.norms import cluster_vectors, fold_batch_norm_statistics, reestimate_batch_norms
from sws_compress.train.select import ParameterGroup


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, eps=0.01), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(80, 4)
    )
    with torch.no_grad():
        for parameter in net[1].parameters():
            parameter.add_(torch.randn(5))
    return net.train()


def batches(count: int) -> list[tuple[torch.Tensor, None]]:
    generator = torch.Generator().manual_seed(1)
    return [(3 + 2 * torch.randn(20, 3, 6, 6, generator=generator), None) for _ in range(count)]


def test_statistics_are_the_mean_over_all_batches() -> None:
    net = network()
    reestimate_batch_norms(net, batches(7), torch.device("cpu"))
    maps = [net[0](inputs).detach().double() for inputs, _ in batches(7)]
    mean = torch.stack([part.mean((0, 2, 3)) for part in maps]).mean(0)
    variance = torch.stack([part.var((0, 2, 3)) for part in maps]).mean(0)
    np.testing.assert_allclose(net[1].running_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(net[1].running_var, variance, rtol=1e-5)
    assert net[1].momentum == 0.1
    assert all(module.training for module in net.modules())


def test_no_more_batches_than_a_hundred_are_drawn() -> None:
    drawn = []
    reestimate_batch_norms(network(), (drawn.append(1) or batch for batch in batches(2) * 80), torch.device("cpu"))
    assert 100 <= len(drawn) <= 101


def test_folding_leaves_the_function_and_trivial_statistics() -> None:
    net = network()
    reestimate_batch_norms(net, batches(5), torch.device("cpu"))
    folded = copy.deepcopy(net)
    fold_batch_norm_statistics(folded)
    assert folded[1].running_mean.unique().tolist() == [0]
    assert folded[1].running_var.unique().tolist() == [1]
    inputs = batches(1)[0][0]
    torch.testing.assert_close(folded.eval()(inputs), net.eval()(inputs), rtol=1e-5, atol=1e-5)


def test_norms_that_share_a_parameter_or_lack_one_stay() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False))
    net[1].weight = net[0].weight
    reestimate_batch_norms(net, [(2 + torch.randn(9, 3),)] * 2, torch.device("cpu"))
    before = copy.deepcopy(net.state_dict())
    fold_batch_norm_statistics(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("components", [2, 5, 256])
def test_vectors_of_one_name_share_a_codebook(components: int) -> None:
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
