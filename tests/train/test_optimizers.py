"""The metric is the one in which the optimiser moves a weight, and the pull is its closed form."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sws_compress.errors import ArgumentError
from sws_compress.mixture.majoriser import pull_table
from sws_compress.mixture.mixture import Mixture
from sws_compress.train.device_pull import DeviceTable, pull_, pull_on_device
from sws_compress.train.optimizers import check_optimizer, groups_by_parameter, metric_of, rate_of
from tests import reference

MIXTURE = Mixture(np.array([0.6, 0.3, 0.1]), np.array([0.0, 0.3, -0.5]), np.array([0.01, 0.02, 0.04]))
TABLE = pull_table(MIXTURE, low=-1.5, high=2.0, size=1 << 20)  # so fine that the nearest point is exact to 1e-5
COUNT = 211

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True),
    "dampening": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, dampening=0.5),
    "adam": lambda p: torch.optim.Adam(p, lr=2e-3, betas=(0.9, 0.97), eps=1e-4),
    "fused": lambda p: torch.optim.Adam(p, lr=2e-3, betas=(0.9, 0.97), eps=1e-4, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=2e-3, betas=(0.9, 0.97), eps=1e-4),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=2e-3, betas=(0.9, 0.97), eps=1e-4, amsgrad=True),
}


def gradients(steps: int) -> Iterator[np.ndarray]:
    """Gradients that fall in size, so that the greatest second moment is not the last."""
    rng = np.random.default_rng(5)
    for step in range(steps):
        yield (rng.gamma(0.7, 0.1, COUNT) * rng.choice([-1, 1, 1], COUNT) * 0.5**step).astype(np.float32)


def stepped(name: str, steps: int = 6) -> tuple[torch.optim.Optimizer, torch.nn.Parameter]:
    parameter = torch.nn.Parameter(torch.linspace(-1.2, 1.7, COUNT))
    optimizer = OPTIMIZERS[name]([parameter])
    for gradient in gradients(steps):
        parameter.grad = torch.from_numpy(gradient)
        optimizer.step()
    return optimizer, parameter


def expected_metric(name: str, steps: int = 6) -> list[float]:
    """H from the definitions of the optimisers, in float64."""
    if name in ("sgd", "momentum", "nesterov", "dampening"):
        rate = {"sgd": 0.05, "dampening": 0.05 * 0.5 / 0.2}.get(name, 0.05 / 0.2)
        return [1 / rate] * COUNT
    history = [gradient.astype(np.float64) for gradient in gradients(steps)]
    metric = []
    for i in range(COUNT):
        v = greatest = 0.0
        for gradient in history:
            v = 0.97 * v + 0.03 * gradient[i] ** 2
            greatest = max(greatest, v)
        moment = greatest if name == "amsgrad" else v
        metric.append((math.sqrt(moment / (1 - 0.97**steps)) + 1e-4) / 2e-3)
    return metric


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("strength", [1e-4, 0.3])
def test_pull_is_the_closed_form(name: str, on_device: bool, strength: float) -> None:
    optimizer, parameter = stepped(name)
    before = parameter.detach().double().tolist()
    metric = metric_of(optimizer, groups_by_parameter(optimizer)[id(parameter)], parameter)
    assert metric is not None
    (pull_on_device if on_device else pull_)(parameter.data, metric, TABLE, strength)
    wanted = [
        reference.pull(w, h, strength, MIXTURE.weights, MIXTURE.means, MIXTURE.variances)
        for w, h in zip(before, expected_metric(name), strict=True)
    ]
    np.testing.assert_allclose(parameter.detach().numpy(), wanted, atol=1e-5)
    assert np.abs(np.array(wanted) - before).max() > 1e-4


@pytest.mark.parametrize("name", ["sgd", "momentum", "dampening", "adam", "adamw", "amsgrad"])
def test_rate_is_the_move_per_step_of_a_steady_gradient(name: str) -> None:
    parameter = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = OPTIMIZERS[name]([parameter])
    optimizer.param_groups[0].update(eps=0.0, weight_decay=0.0)
    for _ in range(100):
        before = parameter.detach().clone()
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    moved = float((before - parameter.detach()).mean())
    assert moved == pytest.approx(rate_of(optimizer, optimizer.param_groups[0]), rel=1e-6)


def test_nothing_to_pull_in() -> None:
    optimizer, parameter = stepped("adam")
    optimizer.param_groups[0]["lr"] = 0.0
    assert metric_of(optimizer, optimizer.param_groups[0], parameter) is None
    fresh = torch.nn.Parameter(torch.ones(3))
    assert metric_of(torch.optim.Adam([fresh]), {"lr": 1.0, "amsgrad": False}, fresh) is None


def test_groups_follow_a_restored_optimizer() -> None:
    """``load_state_dict`` makes new groups, and their learning rates count."""
    optimizer, parameter = stepped("adam")
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.param_groups[0]["lr"] = 0.125
    assert groups_by_parameter(optimizer)[id(parameter)]["lr"] == 0.125


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"must be torch.optim.SGD, Adam or AdamW, got RMSprop"):
        check_optimizer(torch.optim.RMSprop([torch.nn.Parameter(torch.ones(1))]))


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "sliced"])
def test_any_layout(layout: str) -> None:
    base = torch.linspace(-1.2, 1.7, 600).reshape(20, 30)
    weights = {"contiguous": base.clone(), "transposed": base.clone().t(), "sliced": base.clone()[::3, 1::2]}[layout]
    flat = weights.reshape(-1).clone()
    optimizer = torch.optim.SGD([torch.nn.Parameter(flat)], lr=0.1)
    metric = metric_of(optimizer, optimizer.param_groups[0], flat)
    assert metric is not None
    pull_(flat, metric, TABLE, 0.2)
    pull_(weights, metric, TABLE, 0.2)
    torch.testing.assert_close(weights.reshape(-1), flat, rtol=0, atol=1e-5)


@pytest.mark.parametrize("function", [pull_, pull_on_device])
@pytest.mark.parametrize("sigma", [1e-2, 1e-6])
def test_lands_between_the_weight_and_the_means(function: Any, sigma: float) -> None:
    mixture = Mixture(np.array([0.5, 0.5]), np.array([0.0, 0.25]), np.full(2, sigma**2))
    table = pull_table(mixture, low=-0.5, high=0.5)
    weights = torch.empty(5001).uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD([torch.nn.Parameter(weights)], lr=10.0)
    metric = metric_of(optimizer, optimizer.param_groups[0], weights)
    assert metric is not None
    before = weights.clone()
    function(weights, metric, table, 1e3)
    nearest = torch.where(before < 0.125, 0.0, 0.25)
    away = (before - 0.125).abs() > 2 * table.step + 100 * sigma**2  # further in, both components answer
    low, high = torch.minimum(before, nearest) - 1e-7, torch.maximum(before, nearest) + 1e-7
    assert bool(((weights >= low) & (weights <= high))[away].all())
    assert float((weights - nearest)[away].abs().max()) < 1e-4


def test_what_lies_on_a_device_pulls_alike() -> None:
    """The pull is the same with a table, and a bias correction, in the memory of a device."""
    optimizer, parameter = stepped("adam")
    metric = metric_of(optimizer, optimizer.param_groups[0], parameter)
    assert metric is not None
    there = replace(metric, bias_correction2=torch.tensor(metric.bias_correction2, dtype=torch.float64))
    found, wanted = parameter.detach().clone(), parameter.detach().clone()
    pull_(found, there, DeviceTable.of(TABLE, parameter.device), 0.1)
    pull_on_device(wanted, metric, TABLE, 0.1)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)
    assert not torch.equal(found, parameter)


def test_strength_zero_leaves_the_very_bits() -> None:
    optimizer, parameter = stepped("adam")
    before = parameter.detach().clone()
    metric = metric_of(optimizer, optimizer.param_groups[0], parameter)
    assert metric is not None
    pull_on_device(parameter.data, metric, TABLE, 0.0)
    assert torch.equal(parameter, before)


def test_nan_stays_nan_on_device() -> None:
    weights = torch.tensor([0.2, float("nan"), 0.4])
    optimizer = torch.optim.SGD([torch.nn.Parameter(weights)], lr=0.1)
    metric = metric_of(optimizer, optimizer.param_groups[0], weights)
    assert metric is not None
    pull_on_device(weights, metric, TABLE, 0.1)
    assert torch.isnan(weights).tolist() == [False, True, False]


def test_half_precision_is_pulled_in_float32() -> None:
    weights = torch.linspace(-1.2, 1.7, 300)
    halves = weights.bfloat16()
    optimizer = torch.optim.SGD([torch.nn.Parameter(weights)], lr=0.1)
    metric = metric_of(optimizer, optimizer.param_groups[0], weights)
    assert metric is not None
    wanted = halves.float()
    pull_on_device(wanted, metric, TABLE, 0.1)
    pull_(halves, metric, TABLE, 0.1)
    assert torch.equal(halves, wanted.bfloat16())


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_tensor_of_weights_times_components() -> None:
    rng = np.random.default_rng(0)
    mixture = Mixture(np.full(64, 1 / 64), np.sort(rng.normal(size=64)), np.full(64, 1e-3))
    table = pull_table(mixture, low=-3.0, high=3.0)
    weights = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD([torch.nn.Parameter(weights)], lr=0.1)
    metric = metric_of(optimizer, optimizer.param_groups[0], weights)
    assert metric is not None
    with LargestTensor() as seen:
        pull_on_device(weights, metric, table, 0.1)
    assert seen.elements == weights.numel()
    with LargestTensor() as none:
        pull_(weights, metric, table, 0.1)
    assert none.elements <= weights.numel()  # views only


def test_a_pull_takes_about_as_long_as_a_fused_adam_step() -> None:
    """About 1; so few weights that torch does not share them among threads, whose time is not counted."""
    parameter = torch.nn.Parameter(torch.randn(30_000, generator=torch.Generator().manual_seed(0)))
    parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer = torch.optim.Adam([parameter], lr=1e-6, fused=True)
    optimizer.step()
    metric = metric_of(optimizer, optimizer.param_groups[0], parameter)
    assert metric is not None
    table = pull_table(MIXTURE, low=-3.0, high=3.0)
    pull_(parameter.data, metric, table, 1e-6)  # compiles
    ratios = []
    for _ in range(15):
        start = time.thread_time()
        optimizer.step()
        between = time.thread_time()
        pull_(parameter.data, metric, table, 1e-6)
        ratios.append((time.thread_time() - between) / (between - start))
    assert statistics.median(ratios) < 4
