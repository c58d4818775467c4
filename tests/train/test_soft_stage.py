from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.errors import TrainingError
from sws_compress.mixture.em import Prior, fit
from sws_compress.mixture.mixture import Mixture
from sws_compress.quantize.assign import snap
from sws_compress.train.schedule import Schedule
from sws_compress.train.select import select_parameters
from sws_compress.train.sharing import Sharing
from sws_compress.train.stages.soft import SoftStage, group_histograms

FLOOR = 0.3**2
SCHEDULE = Schedule(floor=(0.3, 0.1))


def lopsided(rows: int, columns: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy((scale * (rng.gamma(2.0, 0.05, (rows, columns)) - 0.07)).astype(np.float32))


def network(scale: float = 1.0) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 10))
    with torch.no_grad():
        model[0].weight.copy_(lopsided(30, 40, scale))
        model[1].weight.copy_(lopsided(10, 30, scale, seed=1))
    return model


def with_gradients(model: nn.Module, scale: float = 1.0, seed: int = 2) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        gradient = torch.randn(parameter.shape, generator=generator) * 0.01 * scale
        parameter.grad = gradient.to(parameter.dtype)


def test_nothing_pulls_before_the_first_em_step() -> None:
    model = network()
    stage = SoftStage(select_parameters(model), 8, SCHEDULE)
    before = copy.deepcopy(model.state_dict())
    with_gradients(model)
    stage.pull(torch.optim.SGD(model.parameters(), lr=0.1), 1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_update_is_map_em_on_the_weights() -> None:
    model = network()
    stage = SoftStage(select_parameters(model), 8, SCHEDULE)
    start = stage.mixtures()[0]
    with_gradients(model)
    stage.em_step(torch.optim.SGD(model.parameters(), lr=0.1), 0.1**2)
    data = group_histograms(stage.groups)[0]
    deviation = float(model[0].weight.detach().double().std(correction=0))
    wanted = fit(data, start, Prior(variance_floor=(0.1 * deviation) ** 2), max_iterations=5)
    assert wanted.history[-1] > wanted.history[0]
    np.testing.assert_allclose(stage.mixtures()[0].means, wanted.mixture.means, rtol=1e-9)
    assert stage.mixtures()[0].means[0] == 0
    assert stage.gradient_rms[0] == pytest.approx(float(model[0].weight.grad.square().mean().sqrt()), rel=1e-6)


def test_no_variance_below_the_floor() -> None:
    model = network()
    stage = SoftStage(select_parameters(model), 12, SCHEDULE)
    with_gradients(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for floor in (0.3, 0.1, 0.02):
        stage.em_step(optimizer, floor**2)
        for mixture, scale in zip(stage.mixtures(), stage.scales, strict=True):
            assert mixture.variances.min() >= (floor * scale) ** 2 * (1 - 1e-12)
    assert any(
        mixture.variances.min() < (0.1 * scale) ** 2
        for mixture, scale in zip(stage.mixtures(), stage.scales, strict=True)
    )


def test_weights_gather() -> None:
    """Pulling alone raises the weights' likelihood under the mixture, step by step, and draws them to the means."""
    model = network()
    stage = SoftStage(select_parameters(model), 6, SCHEDULE)
    with_gradients(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    stage.em_step(optimizer, 0.2**2)
    likelihoods = []
    for _ in range(20):
        likelihoods.append(float(stage.mixtures()[0].log_density(model[0].weight.detach().numpy()).mean()))
        stage.pull(optimizer, 0.05)
    assert all(after > before for before, after in itertools.pairwise(likelihoods))
    assert likelihoods[-1] > likelihoods[0] + 0.05


@pytest.mark.parametrize("factor", [1e-3, 20.0])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_scale_law(kind: str, factor: float) -> None:
    """The same problem with weights in another unit has the same results in that unit.

    Gradients shrink by the factor; a rate per gradient (SGD) grows by its square, one in units of the weights (Adam)
    by the factor.
    """

    def run(c: float, strength: float = 0.02) -> list[torch.Tensor]:
        model = network(c)
        optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(model.parameters(), lr=0.5 * c**2)
            if kind == "sgd"
            else torch.optim.Adam(model.parameters(), lr=1e-3 * c, eps=0)
        )
        stage = SoftStage(select_parameters(model), 8, SCHEDULE)
        for step in range(6):
            with_gradients(model, 1 / c, seed=step)
            optimizer.step()
            if step % 3 == 0:
                stage.em_step(optimizer, 0.2**2)
            stage.pull(optimizer, strength)
        return [model[0].weight.detach(), model[1].weight.detach()]

    for one, other, alone in zip(run(1.0), run(factor), run(1.0, strength=0.0), strict=True):
        pulled = float((one - alone).square().mean().sqrt())
        assert pulled > 0.01 * float(one.std())
        assert float((other / factor - one).abs().max()) < 0.02 * pulled


@pytest.mark.parametrize("steps", [1, 5])
def test_gradients_are_measured_from_adams_moments(steps: int) -> None:
    model = network()
    stage = SoftStage(select_parameters(model), 8, SCHEDULE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with_gradients(model)
    for _ in range(steps):
        optimizer.step()
    stage.em_step(optimizer, FLOOR)
    for layer, rms in zip(model, stage.gradient_rms, strict=True):
        assert rms == pytest.approx(float(layer.weight.grad.square().mean().sqrt()), rel=1e-4)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_gradients_may_be_cleared_before_the_em_step(make: type[torch.optim.Optimizer]) -> None:
    found = []
    for clear in (False, True):
        model = network()
        stage = SoftStage(select_parameters(model), 8, SCHEDULE)
        optimizer = make(model.parameters(), lr=1e-3)
        with_gradients(model)
        optimizer.step()
        stage.pull(optimizer, 1.0)
        if clear:
            optimizer.zero_grad()
        stage.em_step(optimizer, FLOOR)
        found.append(stage.gradient_rms)
    assert found[0] == found[1]
    assert min(found[0]) > 0


def test_a_layer_that_starts_at_zero_gets_means_where_its_weights_go() -> None:
    model = network()
    nn.init.zeros_(model[1].weight)
    stage = SoftStage(select_parameters(model), 8, SCHEDULE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with_gradients(model)
    stage.em_step(optimizer, FLOOR)
    assert np.abs(stage.mixtures()[1].means).max() < 1e-30
    with torch.no_grad():
        model[1].weight.copy_(lopsided(10, 30, seed=1))
    stage.em_step(optimizer, FLOOR)
    fresh = SoftStage(stage.groups, 8, SCHEDULE)
    fresh.em_step(optimizer, FLOOR)
    np.testing.assert_array_equal(stage.mixtures()[1].means, fresh.mixtures()[1].means)
    assert stage.scales == fresh.scales
    assert stage.mixtures()[1].means.min() < 0 < stage.mixtures()[1].means.max()


def test_members_of_a_group_share_the_codebook_when_snapped() -> None:
    model = network()
    stage = SoftStage(select_parameters(model, sharing=Sharing.MODEL), 5, SCHEDULE)
    stage.snap()
    one, other = (set(model[i].weight.detach().unique().tolist()) for i in (0, 1))
    assert len(one | other) <= 5
    assert other <= one  # the larger tensor uses every value
    assert 0.0 in one


@pytest.mark.parametrize("sharing", [Sharing.TENSOR, Sharing.MODEL])
def test_snapped_as_arrays_are(sharing: Sharing) -> None:
    model = network()
    stage = SoftStage(select_parameters(model, sharing=sharing), 7, SCHEDULE)
    wanted = [
        snap(group.values(), mixture).expand() for group, mixture in zip(stage.groups, stage.mixtures(), strict=True)
    ]
    stage.snap()
    for group, values in zip(stage.groups, wanted, strict=True):
        np.testing.assert_allclose(group.values(), values, rtol=1e-6, atol=1e-9)
        assert 0 in values


def test_restored_stage_pulls_bit_for_bit() -> None:
    pulled = []
    for restored in (False, True):
        model = network()
        stage = SoftStage(select_parameters(model), 8, SCHEDULE)
        with_gradients(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        stage.em_step(optimizer, 0.1**2)
        if restored:
            saved = stage.state_dict()
            stage = SoftStage(stage.groups, 8, SCHEDULE)
            stage.load_state_dict(saved)
        stage.pull(optimizer, 0.1)
        assert not torch.equal(model[0].weight, network()[0].weight)
        pulled.append(model)
    for one, other in zip(*pulled, strict=True):
        assert torch.equal(one.weight, other.weight)


def test_step_and_update_follow_the_schedule() -> None:
    schedule = Schedule(soft_until=0.5, target_at=0.6, strength=(0.01, 1.0), floor=(0.4, 0.1))
    moved = []
    for stepped in (False, True):
        model = network()
        stage = SoftStage(select_parameters(model), 8, schedule)
        with_gradients(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if stepped:
            stage.update(optimizer, 0.25)
            stage.step(optimizer, 0.25)
        else:
            stage.em_step(optimizer, 0.4 * 0.1)  # halfway, the geometric means of both ends
            stage.pull(optimizer, 0.1)
        moved.append(model[0].weight.detach())
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-6, atol=1e-8)
    assert not torch.equal(moved[0], network()[0].weight)


def test_constant_tensor_stays_as_it_is() -> None:
    model = nn.Linear(20, 20)
    nn.init.constant_(model.weight, 0.25)
    stage = SoftStage(select_parameters(model), 4, SCHEDULE)
    with_gradients(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    stage.em_step(optimizer, FLOOR)
    stage.pull(optimizer, 1.0)
    stage.snap()
    torch.testing.assert_close(model.weight.detach(), torch.full((20, 20), 0.25))


def test_diverged_weights_are_named() -> None:
    model = network()
    stage = SoftStage(select_parameters(model), 4, SCHEDULE)
    with torch.no_grad():
        model[1].weight[3, 4] = float("nan")
    with pytest.raises(TrainingError, match=r"^1.weight must stay finite in training"):
        stage.em_step(torch.optim.SGD(model.parameters(), lr=0.1), FLOOR)


def test_half_precision_snaps_to_values_of_its_own() -> None:
    model = network().bfloat16()
    stage = SoftStage(select_parameters(model), 8, SCHEDULE)
    with_gradients(model)
    optimizer: Any = torch.optim.Adam(model.parameters(), lr=1e-3)
    optimizer.step()
    stage.em_step(optimizer, 0.2**2)
    stage.pull(optimizer, 0.1)
    stage.snap()
    assert model[0].weight.dtype == torch.bfloat16
    assert len(model[0].weight.unique()) <= 8
    assert isinstance(stage.mixtures()[0], Mixture)
