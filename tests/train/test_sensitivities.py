"""Sensitivities: smoothed squared gradients to a power, on one scale for all groups."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sws_compress.errors import TrainingError
from sws_compress.train.ranks import ALONE
from sws_compress.train.select import select_parameters
from sws_compress.train.sensitivities import column_sums, sensitivities, sensitivity_factors
from tests.train.staged import OPTIMIZERS, em_step, network, set_gradients, staged, train


@pytest.mark.parametrize("power", [0.5, 0.75, 1.0])
def test_sensitivity_is_exact_for_products_of_rows_and_columns(power: float) -> None:
    rows, columns = torch.tensor([0.1, 2.0, 5.0]), torch.tensor([1.0, 3.0, 0.2, 0.0])
    moment = (rows[:, None] * columns).square()
    expected = moment**power
    torch.testing.assert_close(sensitivity_factors(moment, power), expected)
    torch.testing.assert_close(sensitivity_factors(moment.reshape(3, 2, 2), power), expected.reshape(3, 2, 2))
    torch.testing.assert_close(sensitivity_factors(columns, power), columns**power)
    assert sensitivity_factors(torch.zeros(2, 2), power).tolist() == [[0, 0], [0, 0]]


def test_sensitivity_of_some_rows_is_that_of_the_whole() -> None:
    """Uneven parts, one of them empty: their column sums add up, and with the means of all each finds its rows."""
    moment = torch.rand(9, 4, 3, generator=torch.Generator().manual_seed(0))
    parts = moment.split([5, 0, 4])
    means = torch.stack([column_sums(part) for part in parts]).sum(0) / 9
    assert means.dtype == torch.float64
    found = torch.cat([sensitivity_factors(part, 0.75, means) for part in parts])
    torch.testing.assert_close(found, sensitivity_factors(moment, 0.75))
    assert column_sums(torch.rand(7)).shape == (0,)
    vector = moment[0, 0]
    torch.testing.assert_close(sensitivity_factors(vector, 0.75, torch.zeros(0)), vector**0.75)


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


def sensitivity_of(
    optimizer: torch.optim.Optimizer, layer: nn.Linear, square: torch.Tensor | None = None, power: float = 1.0
) -> torch.Tensor | None:
    """h of the only layer, whose weights are the latent ones."""
    (group,) = select_parameters(layer, smallest=1)
    ((found,),) = sensitivities(optimizer, [group], [group.shards()], [[square]], ALONE, power)
    return found


def layer_of(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


def test_expected_squares_are_the_optimisers_else_those_given_else_of_the_last_step() -> None:
    layer = layer_of([1.0, 2.0], [3.0, 4.0])
    plain = torch.optim.SGD(layer.parameters(), lr=0.0)
    assert sensitivity_of(plain, layer) is None  # nothing is known yet

    def scaled(moment: list[list[float]]) -> torch.Tensor:
        factors = torch.tensor(moment)
        return factors / float((factors * layer.weight.detach().square()).mean())

    layer.weight.grad = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
    torch.testing.assert_close(sensitivity_of(plain, layer), scaled([[1.0, 4.0], [4.0, 16.0]]))
    torch.testing.assert_close(sensitivity_of(plain, layer, power=0.5), scaled([[1.0, 2.0], [2.0, 4.0]]))
    torch.testing.assert_close(sensitivity_of(plain, layer, power=0.0), scaled([[1.0, 1.0], [1.0, 1.0]]))
    given = torch.tensor([[3.0, 1.0], [6.0, 2.0]])
    torch.testing.assert_close(sensitivity_of(plain, layer, given), scaled(given.tolist()))
    adam = torch.optim.Adam(layer.parameters(), lr=0.0)
    adam.step()
    torch.testing.assert_close(sensitivity_of(adam, layer, given), scaled([[1.0, 4.0], [4.0, 16.0]]))


def test_gradients_that_are_not_finite_are_told() -> None:
    layer = layer_of([1.0, 2.0], [3.0, 4.0])
    layer.weight.grad = torch.tensor([[1.0, torch.nan], [0.0, 0.0]])
    with pytest.raises(TrainingError, match=r"^weight must stay finite in training"):
        sensitivity_of(torch.optim.SGD(layer.parameters(), lr=0.0), layer)
