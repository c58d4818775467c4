from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.errors import TrainingError
from sws_compress.mixture.mixture import Mixture
from sws_compress.train.schedule import Schedule
from sws_compress.train.select import ParameterGroup, select_parameters
from sws_compress.train.sharing import Sharing
from sws_compress.train.stages import hard_em as hard
from sws_compress.train.stages.group_state import GroupState
from sws_compress.train.stages.hard import HardStage
from sws_compress.train.stages.price import PriceRamp, follow
from sws_compress.train.stages.snapped import GREATEST_BIT_PRICE, LEAST_BIT_PRICE, SnappedWeights
from sws_compress.train.stages.tune import TuneStage
from tests import reference

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


def test_sensitivities_are_scaled_over_all_groups() -> None:
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    set_gradients(model, 0)
    optimizer.step()
    latents = [state.latent[0].clone() for state in stage.weights.states]
    em_step(stage, optimizer, 1e4)
    weighted = [
        float((s.sensitivity[0] * w.square()).sum()) for s, w in zip(stage.weights.states, latents, strict=True)
    ]
    elements = sum(w.numel() for w in latents)
    assert sum(weighted) / elements == pytest.approx(1, rel=1e-4)
    assert weighted[0] / latents[0].numel() != pytest.approx(1, rel=0.05)


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


def test_coded_bits_are_entropy_and_codebooks() -> None:
    model = network()
    stage = staged(model, sharing=Sharing.MODEL)
    optimizer = OPTIMIZERS["adam"](model)
    train(model, stage, optimizer, range(2))
    em_step(stage, optimizer, 1e4)
    symbols = [k for assignment in stage.weights.states[0].assignment for k in assignment.reshape(-1).tolist()]
    wanted = len(symbols) * reference.entropy_bits(symbols) + 16 * len(set(symbols))
    assert stage.weights.coded_bits == pytest.approx(wanted)


@pytest.mark.parametrize("ratio", [15.0, 30.0, 80.0])
def test_price_brings_the_size_to_its_target(ratio: float) -> None:
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    set_gradients(model, 0)
    optimizer.step()
    target = 32 * (64 * 30 + 30 * 20) / ratio
    for _ in range(200):
        em_step(stage, optimizer, target)
    assert stage.weights.coded_bits == pytest.approx(target, rel=0.04)


@pytest.mark.parametrize(("wanted", "limit"), [(1e9, LEAST_BIT_PRICE), (1.0, GREATEST_BIT_PRICE)])
def test_price_stays_where_it_has_an_effect(wanted: float, limit: float) -> None:
    """A size out of reach must not wind the price up: it would take as long to come back."""
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    for _ in range(80):
        em_step(stage, optimizer, wanted)
    assert stage.weights.bit_price == limit


def test_a_price_is_found_without_components_that_died() -> None:
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    train(model, stage, optimizer, range(3))
    em_step(stage, optimizer, 1e5)
    first = stage.weights.coded_bits
    state = stage.weights.states[0]
    dead = int(state.occupancy[1:].argmax()) + 1
    state.assignment[0][state.assignment[0] == dead] = 0
    state.occupancy[0] += state.occupancy[dead]
    state.occupancy[dead] = 0
    stage.weights.assign_bits(0.8 * first)
    assert state.occupancy[dead] == 0
    assert int((state.occupancy > 0).sum()) > 2
    em_step(stage, optimizer, 1e5)
    assert state.weights[dead] > 0  # it has a price again


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


def test_gradient_of_one_batch_does_not_decide_under_sgd() -> None:
    """A row without gradient in the last batch keeps the sensitivity that it had in the batches before."""
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["sgd"](model)
    train(model, stage, optimizer, range(5))
    set_gradients(model, 5)
    model[0].weight.grad[4] = 0
    optimizer.step()
    stage.carry_over(optimizer, 0.7)
    em_step(stage, optimizer, 1e4)
    sensitivity = stage.weights.states[0].sensitivity[0]
    assert sensitivity is not None
    assert float(sensitivity[4].mean()) > 0.5 * float(sensitivity.mean())


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


def test_state_without_sensitivities() -> None:
    """A model without gradients yet: sensitivities are None, and stay so through a file."""
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    em_step(stage, optimizer, 1e4)
    assert stage.weights.states[0].sensitivity == [None]
    buffer = io.BytesIO()
    torch.save(stage.state_dict(), buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    (state, *_) = SnappedWeights.restored(select_parameters(network()), saved["weights"]).states
    assert state.sensitivity == [None]
    assert torch.equal(state.assignment[0], stage.weights.states[0].assignment[0])


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


def test_groups_of_other_shapes_are_not_mixed_up() -> None:
    """A group's members keep their own order and shapes: permuting members permutes results."""
    model = network()
    (group,) = select_parameters(model, sharing=Sharing.MODEL)
    flipped = ParameterGroup(group.label, group.names[::-1], group.parameters[::-1])
    results = []
    for each in (group, flipped):
        state = GroupState.start(each, mixture(7, 0.5))
        for _ in range(3):
            state.assign(1e-4)
            state.maximise(state.statistics(), 1e-4)
        results.append({name: state.snapped(i) for i, name in enumerate(each.names)})
    for name in group.names:
        torch.testing.assert_close(results[0][name], results[1][name])
