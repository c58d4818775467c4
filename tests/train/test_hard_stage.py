"""The hard stage against float64 loops: moves of latent weights, EM steps, states."""

from __future__ import annotations

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.errors import TrainingError
from sws_compress.train.select import select_parameters
from sws_compress.train.sharing import Sharing
from sws_compress.train.stages.hard import HardStage
from sws_compress.train.stages.price import PriceRamp
from sws_compress.train.stages.snapped import SnappedWeights
from sws_compress.train.stages.tune import TuneStage
from tests import reference
from tests.train.staged import OPTIMIZERS, SCHEDULE, em_step, network, set_gradients, staged, train, tuning


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_latent_weights_move_as_the_optimizer_would_have_moved_them(name: str) -> None:
    """Straight-through: the optimiser's own move at the snapped weights, then the pull, on a copy of our own."""
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS[name](model)
    set_gradients(model, 0)
    optimizer.step()
    stage.carry_over(optimizer, 0.0)
    em_step(stage, optimizer, 1e4)
    shadow = copy.deepcopy(model)
    shadow_optimizer = OPTIMIZERS[name](shadow)
    shadow_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    snapped = shadow[0].weight.detach().double()
    latent = stage.weights.states[0].latent[0].double()
    rate = {"sgd": 0.05 / 0.5, "adam": 2e-3, "adamw": 2e-3}[name]
    for step in range(1, 5):
        set_gradients(model, step)
        optimizer.step()
        stage.carry_over(optimizer, 3.0)
        set_gradients(shadow, step)
        shadow_optimizer.step()
        moved = latent + (shadow[0].weight.detach().double() - snapped)
        latent = (moved / rate + 3.0 * snapped) / (1 / rate + 3.0)
        with torch.no_grad():
            shadow.load_state_dict(model.state_dict())  # both go on from the snapped weights
        torch.testing.assert_close(stage.weights.states[0].latent[0].double(), latent, rtol=0, atol=1e-6)
        assert torch.equal(model[0].weight.double(), snapped)
    assert float((latent - snapped).abs().max()) > 1e-3


def test_em_step_equals_the_float64_loops() -> None:
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    train(model, stage, optimizer, range(3))
    em_step(stage, optimizer, 1e4)
    train(model, stage, optimizer, range(3, 8))
    for _ in range(2):
        states = copy.deepcopy(stage.weights.states)
        rate = stage.weights.bit_price
        em_step(stage, optimizer, 1e4)
        for before, after in zip(states, stage.weights.states, strict=True):
            values = before.latent[0].reshape(-1).double().tolist()
            sensitivity = before.sensitivity[0]
            assert sensitivity is not None
            h = sensitivity.reshape(-1).double().tolist()
            bits = [-math.log2(share) for share in before.weights.tolist()]
            bits[0] = min(bits)
            chosen = [
                reference.assignment(w, s, before.codebook.tolist(), bits, rate) for w, s in zip(values, h, strict=True)
            ]
            assert (
                float((after.assignment[0].reshape(-1) == torch.tensor(chosen)).float().mean()) > 0.999
            )  # float32 ties
            found = after.assignment[0].reshape(-1).tolist()
            means = reference.member_means(values, h, found, before.codebook.tolist())
            np.testing.assert_allclose(after.codebook, means, rtol=1e-5, atol=1e-7)
            shares = [(found.count(k) + 1) / (len(found) + 7) for k in range(7)]
            wanted = [0.7 * pi + 0.3 * share for pi, share in zip(before.weights.tolist(), shares, strict=True)]
            np.testing.assert_allclose(after.weights, wanted, rtol=1e-9)


def test_sensitivities_come_to_rest_with_the_learning_rate() -> None:
    """Gradients that grow on a few weights, late in a run, must not change what all others are worth."""
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    train(model, stage, optimizer, range(3))
    em_step(stage, optimizer)
    first = [state.sensitivity[0].clone() for state in stage.weights.states]

    def updated(learning_rate: float) -> list[torch.Tensor]:
        own = copy.deepcopy((stage, optimizer, model))
        stage_, optimizer_, model_ = own
        optimizer_.param_groups[0]["lr"] = learning_rate
        for parameter in model_.parameters():
            optimizer_.state[parameter]["exp_avg_sq"][:3] *= 1e4
        stage_.update_sensitivities(optimizer_)
        return [state.sensitivity[0] for state in stage_.weights.states]

    at_rest, halfway, anew = updated(0.0), updated(1e-3), updated(4e-3)
    for before, still, between, after in zip(first, at_rest, halfway, anew, strict=True):
        assert torch.equal(before, still)
        torch.testing.assert_close(between, (before + after) / 2)
        assert float((after / before).max()) > 2


def test_sensitivities_are_updated_every_ten_em_steps() -> None:
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    changed = []
    before: torch.Tensor | None = None
    for step in range(23):
        train(model, stage, optimizer, range(step, step + 1))
        stage.em_step(optimizer)
        found = stage.weights.states[0].sensitivity[0]
        assert found is not None
        if before is None or not torch.equal(found, before):
            changed.append(step)
        before = found.clone()
    assert changed == [0, 10, 20]


@pytest.mark.parametrize("sharing", [Sharing.TENSOR, Sharing.MODEL])
def test_parameters_hold_codebook_values_and_zero_stays_zero(sharing: Sharing) -> None:
    model = network()
    stage = staged(model, sharing=sharing)
    optimizer = OPTIMIZERS["adam"](model)
    train(model, stage, optimizer, range(2))

    def check() -> None:
        for group, state in zip(stage.weights.groups, stage.weights.states, strict=True):
            assert state.codebook[0] == 0
            for parameter, assignment in zip(group.parameters, state.assignment, strict=True):
                assert torch.equal(parameter, state.codebook[assignment.long()])

    for _ in range(3):
        em_step(stage, optimizer, 3000.0)
        check()
        train(model, stage, optimizer, range(4))
        check()
    tune = tuning(stage)
    for _ in range(3):
        set_gradients(model, 9)
        optimizer.step()
        tune.step(optimizer, 1.0)
        check()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("tuned", [False, True])
def test_state_goes_on_bit_for_bit(name: str, tuned: bool) -> None:
    """Through torch.save with weights only, onto a network that has been elsewhere."""

    def advance(model: nn.Module, stage: HardStage | TuneStage, optimizer: torch.optim.Optimizer) -> None:
        for step in range(30, 36):
            set_gradients(model, step)
            optimizer.step()
            stage.step(optimizer, 0.5)
            stage.update(optimizer, 0.5)

    model = network()
    hard_stage, optimizer = staged(model), OPTIMIZERS[name](model)
    train(model, hard_stage, optimizer, range(3))
    em_step(hard_stage, optimizer, 3000.0)
    stage = tuning(hard_stage) if tuned else hard_stage
    set_gradients(model, 20)
    optimizer.step()
    stage.step(optimizer, 0.5)
    buffer = io.BytesIO()
    torch.save([model.state_dict(), stage.state_dict(), optimizer.state_dict()], buffer)
    advance(model, stage, optimizer)

    other = network(seed=5)
    other_optimizer = OPTIMIZERS[name](other)
    train(other, staged(other), other_optimizer, range(2))
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    other.load_state_dict(saved[0])
    weights = SnappedWeights.restored(select_parameters(other), saved[1]["weights"])
    restored = TuneStage(weights, SCHEDULE) if tuned else HardStage(weights, PriceRamp(1.0, SCHEDULE), SCHEDULE)
    restored.load_state_dict(saved[1])
    other_optimizer.load_state_dict(saved[2])
    advance(other, restored, other_optimizer)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    assert stage.weights.coded_bits == weights.coded_bits
    assert stage.weights.bit_price == weights.bit_price


def test_sparse_gradients_of_embeddings_are_followed_like_dense_ones() -> None:
    found = []
    for sparse in (False, True):
        torch.manual_seed(3)
        model = nn.Embedding(40, 16, sparse=sparse)
        stage = staged(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        tune: TuneStage | None = None
        for step in range(6):
            optimizer.zero_grad()
            (model(torch.arange(step, step + 9)) ** 2).sum().backward()
            optimizer.step()
            if step < 4:
                stage.carry_over(optimizer, 0.7)
                em_step(stage, optimizer, 1e3)
            else:
                tune = tune or tuning(stage)
                tune.step(optimizer, 1.0)
        found.append(model.weight.detach().clone())
    torch.testing.assert_close(found[0], found[1])


def test_nan_is_told_instead_of_pruning_the_network() -> None:
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    set_gradients(model, 0)
    model[1].weight.grad[0, 0] = float("nan")
    optimizer.step()
    stage.carry_over(optimizer, 0.7)
    with pytest.raises(TrainingError, match=r"^1.weight must stay finite in training"):
        em_step(stage, optimizer, 1e4)


def test_half_precision_weights_keep_float32_latents() -> None:
    """Rounding the codebook to bfloat16 must not leak into the latent weights, step after step."""
    model = network().bfloat16()
    stage = staged(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    em_step(stage, optimizer, 1e4)
    latent = stage.weights.states[0].latent[0].clone()
    assert latent.dtype == torch.float32
    for _ in range(20):
        optimizer.step()
        stage.carry_over(optimizer, 0.0)
    assert torch.equal(stage.weights.states[0].latent[0], latent)
    assert model[0].weight.dtype == torch.bfloat16
    assert torch.equal(model[0].weight, stage.weights.states[0].snapped(0).bfloat16())


def test_any_memory_format() -> None:
    model = nn.Conv2d(6, 8, 3)
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    results = []
    for each in (model, other):
        stage, optimizer = staged(each), OPTIMIZERS["adam"](each)
        for step in range(4):
            generator = torch.Generator().manual_seed(step)
            for parameter in each.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator) * 0.01
            optimizer.step()
            stage.carry_over(optimizer, 0.7)
            em_step(stage, optimizer, 1000.0)
        results.append(each.weight.detach())
    torch.testing.assert_close(*results)
