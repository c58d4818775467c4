from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from sws_compress.train.norms import fold_batch_norm_statistics, reestimate_batch_norms


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
    reestimate_batch_norms(net, batches(7))
    maps = [net[0](inputs).detach().double() for inputs, _ in batches(7)]
    mean = torch.stack([part.mean((0, 2, 3)) for part in maps]).mean(0)
    variance = torch.stack([part.var((0, 2, 3)) for part in maps]).mean(0)
    np.testing.assert_allclose(net[1].running_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(net[1].running_var, variance, rtol=1e-5)
    assert net[1].momentum == 0.1
    assert all(module.training for module in net.modules())


def test_no_more_batches_than_a_hundred_are_drawn() -> None:
    drawn = []
    reestimate_batch_norms(network(), (drawn.append(1) or batch for batch in batches(2) * 80))
    assert 100 <= len(drawn) <= 101


def test_folding_leaves_the_function_and_trivial_statistics() -> None:
    net = network()
    reestimate_batch_norms(net, batches(5))
    folded = copy.deepcopy(net)
    fold_batch_norm_statistics(folded)
    assert folded[1].running_mean.unique().tolist() == [0]
    assert folded[1].running_var.unique().tolist() == [1]
    inputs = batches(1)[0][0]
    torch.testing.assert_close(folded.eval()(inputs), net.eval()(inputs), rtol=1e-5, atol=1e-5)


def test_norms_that_share_a_parameter_or_lack_one_stay() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False))
    net[1].weight = net[0].weight
    reestimate_batch_norms(net, [(2 + torch.randn(9, 3),)] * 2)
    before = copy.deepcopy(net.state_dict())
    fold_batch_norm_statistics(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
