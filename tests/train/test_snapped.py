"""The snapped weights of all groups: codebooks in float16, the greatest ratio, states in a file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sws_compress.mixture.mixture import Mixture
from sws_compress.train.select import select_parameters
from sws_compress.train.stages.snapped import SnappedWeights, greatest_ratio
from tests.train.staged import network, staged


def weights_of(*means: float) -> tuple[nn.Linear, SnappedWeights]:
    """A layer whose weights are 0, or one of ``means``, exactly."""
    layer = nn.Linear(20, 20)
    values = torch.tensor([0.0, *means])
    layer.weight.data = values[torch.arange(400) % len(values)].reshape(20, 20)
    count = len(values)
    mixture = Mixture(np.full(count, 1 / count), values.double().numpy(), np.full(count, 1e-9))
    weights = SnappedWeights.start(select_parameters(layer), [mixture])
    weights.assign_at(1e-12)
    return layer, weights


@pytest.mark.parametrize(
    ("means", "rounds"),
    [
        ((0.1, -0.7), True),
        ((0.1, -70000.0), False),  # beyond the range of float16
        ((0.1, 1e-9), False),  # becomes zero
        ((0.1, 0.09998), False),  # one value of two
    ],
)
def test_codebooks_are_rounded_to_float16_where_they_stay_apart(means: tuple[float, ...], rounds: bool) -> None:
    layer, weights = weights_of(*means)
    exact = torch.tensor(means)
    weights.round_codebooks()
    wanted = exact.half().float() if rounds else exact
    assert set(layer.weight.unique().tolist()) == {0.0, *wanted.tolist()}


def test_greatest_ratio_is_that_of_two_bytes_a_group() -> None:
    groups = select_parameters(network())
    assert greatest_ratio(groups) == 32 * (64 * 30 + 30 * 20) / (2 * 16)


def test_states_are_restored_with_price_bits_and_values() -> None:
    stage = staged(network())
    stage.weights.bit_price = 0.003
    stage.weights.em_step()
    other = network(seed=4)
    restored = SnappedWeights.restored(select_parameters(other), stage.weights.state_dict())
    assert (restored.bit_price, restored.coded_bits) == (0.003, stage.weights.coded_bits)
    assert restored.living_components == stage.weights.living_components
    for layer, written in zip(other, stage.weights.written, strict=True):
        assert torch.equal(layer.weight, written[0])
