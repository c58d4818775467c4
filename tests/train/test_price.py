"""The price of a bit: along a ramp, or as a size target demands."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sws_compress.train.schedule import Schedule
from sws_compress.train.stages.price import PriceRamp, SizeFeedback, follow
from sws_compress.train.stages.snapped import GREATEST_BIT_PRICE, LEAST_BIT_PRICE
from sws_compress.train.targets import FixedSize
from tests.train.staged import OPTIMIZERS, SCHEDULE, em_step, network, set_gradients, staged, train


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


def test_a_merger_that_takes_many_bits_does_not_make_bits_free() -> None:
    """What it took comes back at no price, so the price must not fall until components that are needed revive."""
    model = network()
    stage = staged(model)
    optimizer = OPTIMIZERS["adam"](model)
    train(model, stage, optimizer, range(3))
    em_step(stage, optimizer)
    weights = stage.weights
    weights.assign_bits(0.5 * weights.coded_bits)
    feedback = SizeFeedback(FixedSize(0.9 * weights.coded_bits, SCHEDULE))
    price = weights.bit_price
    feedback.before_em_step(weights, 0.5)
    stage.em_step(optimizer)
    for state in weights.states:
        state.assignment[0].zero_()
        state.occupancy = state.counts()
    weights._count_bits()
    feedback.after_em_step(weights, 0.5)
    assert abs(math.log(weights.bit_price / price)) <= 0.3


def test_ramp_rises_geometrically_and_ends_at_its_price() -> None:
    weights = staged(network()).weights
    ramp = PriceRamp(0.01, Schedule(soft_until=0.2, target_at=0.6))
    prices = []
    for progress in (0.2, 0.3, 0.4, 0.5, 0.6, 0.9):
        ramp.before_em_step(weights, progress)
        ramp.after_em_step(weights, progress)
        prices.append(weights.bit_price)
    np.testing.assert_allclose(prices, LEAST_BIT_PRICE * 10 ** np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.0]))


def test_ramp_cut_short_ends_at_its_price_when_tuning_begins() -> None:
    model = network()
    stage = staged(model)
    em_step(stage, OPTIMIZERS["adam"](model))
    before = stage.weights.coded_bits
    PriceRamp(0.5, SCHEDULE).before_tuning(stage.weights)
    assert stage.weights.bit_price == 0.5
    assert stage.weights.coded_bits < before


def test_feedback_starts_at_nine_tenths_and_ends_at_the_target() -> None:
    model = network()
    stage = staged(model)
    em_step(stage, OPTIMIZERS["adam"](model))
    first = stage.weights.coded_bits
    feedback = SizeFeedback(FixedSize(0.4 * first, SCHEDULE))
    feedback.begin(stage.weights)
    assert stage.weights.coded_bits == pytest.approx(0.9 * first, rel=0.01)
    feedback.before_tuning(stage.weights)
    assert stage.weights.coded_bits == pytest.approx(0.4 * first, rel=0.01)
    other = SizeFeedback(FixedSize(0.4 * first, SCHEDULE))
    other.load_state_dict(feedback.state_dict())
    assert other.first_bits == first


def test_feedback_is_proportional_to_the_error_and_limited() -> None:
    weights = staged(network()).weights
    for factor, step in ((1.2, 0.3 * math.log(1.2)), (1 / 1.2, -0.3 * math.log(1.2)), (100, 0.3), (0.01, -0.3)):
        weights.bit_price = 1.0
        follow(weights, weights.coded_bits / factor)
        assert math.log(weights.bit_price) == pytest.approx(step)


def test_the_price_that_is_found_is_the_greatest_that_keeps_the_bits() -> None:
    model = network()
    stage = staged(model)
    em_step(stage, OPTIMIZERS["adam"](model))
    weights = stage.weights
    wanted = 0.5 * weights.coded_bits
    weights.assign_bits(wanted)
    assert weights.coded_bits > wanted
    weights.assign_at(1.001 * weights.bit_price)
    assert weights.coded_bits <= wanted


def test_components_that_an_assignment_emptied_come_back() -> None:
    model = network()
    stage = staged(model)
    em_step(stage, OPTIMIZERS["adam"](model))
    weights = stage.weights
    living, bits = weights.living_components, weights.coded_bits
    weights.assign_bits(0.05 * bits)
    assert sum(weights.living_components) < sum(living)
    weights.assign_bits(bits)
    assert weights.living_components == living
