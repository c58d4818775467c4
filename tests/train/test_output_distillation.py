"""Distillation without labels: errors fall, the best of what was seen is kept, and runs are alike."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from sws_compress.train import output_distillation
from sws_compress.train.output_distillation import Distillery, Readout, affordable_steps
from sws_compress.train.tuned_values import TunedVector


class Pair(nn.Module):
    """Two outputs of very different sizes, and one of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        scores = self.second(self.first(x).relu())
        return scores, 1000 * scores[:, :2], scores.argmax(dim=1)


def distillery(seed: int = 0, held_out: int = 4) -> tuple[Distillery, nn.Module, nn.Module]:
    torch.manual_seed(seed)
    teacher = Pair().eval()
    network = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * parameter.square().mean().sqrt() * torch.randn(parameter.shape))
    inputs = [(torch.randn(8, 12),) for _ in range(20 + held_out)]
    tuned = [TunedVector(parameter) for parameter in network.parameters()]
    readouts = [Readout(), Readout(), Readout("ArgMax")]
    return Distillery(network, teacher, tuned, readouts, inputs[held_out:], inputs[:held_out]), network, teacher


def nothing() -> None:
    """No progress."""


def test_errors_fall_on_inputs_that_were_held_out() -> None:
    distilling, network, teacher = distillery()
    before = distilling.error()
    found = distilling.run(100, 4, 0, nothing)
    assert found.before == before
    assert found.after == distilling.error() < 0.5 * before
    inputs = torch.randn(500, 12, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        wanted, has = teacher(inputs)[0], network(inputs)[0]
    assert float((has - wanted).norm() / wanted.norm()) < 0.6 * before


def test_the_same_seed_makes_the_same_network() -> None:
    states = []
    for seed in (3, 3, 4):
        distilling, network, _ = distillery()
        distilling.run(30, 4, seed, nothing)
        states.append(torch.cat([parameter.reshape(-1) for parameter in network.parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_steps_that_lead_away_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_distillation, "RATE", 10.0)
    monkeypatch.setattr(output_distillation, "RATE_PER_ERROR", 1e3)
    distilling, network, _ = distillery()
    before, start = distilling.error(), [parameter.clone() for parameter in network.parameters()]
    found = distilling.run(25, 4, 0, nothing)
    assert (found.steps, found.after) == (0, before)
    assert all(torch.equal(one, other) for one, other in zip(start, network.parameters(), strict=True))


@pytest.mark.parametrize(
    ("readout", "operator"),
    [
        (Readout("Softmax", -1), lambda scores: functional.softmax(scores, -1)),
        (Readout("LogSoftmax", 1), lambda scores: functional.log_softmax(scores, 1)),
    ],
)
def test_scores_are_what_goes_into_a_softmax_but_for_their_mean(readout: Readout, operator: Any) -> None:
    scores = 8 * torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = readout.scores(operator(scores))
    torch.testing.assert_close(found, scores - scores.mean(dim=1, keepdim=True))


def test_scores_are_what_goes_into_a_sigmoid() -> None:
    scores = torch.linspace(-9, 9, 40)
    torch.testing.assert_close(Readout("Sigmoid").scores(torch.sigmoid(scores)), scores, rtol=1e-3, atol=1e-3)
    certain = torch.tensor([-300.0, 300.0], requires_grad=True)
    Readout("Sigmoid").scores(torch.sigmoid(certain)).sum().backward()  # type: ignore[no-untyped-call]
    assert certain.grad is not None
    assert certain.grad.isfinite().all()


def test_outputs_that_are_not_finite_do_not_count() -> None:
    distilling, _, _ = distillery()
    wanted = distilling._wanted[0][0]
    wanted[0, 0] = math.inf
    assert math.isfinite(distilling.error())


def test_large_networks_take_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    network, arguments = nn.Linear(100, 100), (torch.zeros(8, 100),)
    assert affordable_steps(network, arguments, 4) == output_distillation.MOST_STEPS
    monkeypatch.setattr(output_distillation, "MOST_OPERATIONS", 20 * 4 * 4 * 2 * 8 * 100 * 100)
    assert affordable_steps(network, arguments, 4) == 20


def test_whole_numbers_are_not_mixed_and_floats_are() -> None:
    first, second = torch.zeros(2, 3), torch.ones(2, 3)
    (mixed,) = output_distillation.mixed((first,), (second,), 0.25)
    torch.testing.assert_close(mixed, torch.full((2, 3), 0.75))
    tokens = torch.arange(3)
    assert output_distillation.mixed((first, tokens), (second, tokens + 1), 0.25) == (first, tokens)
    assert output_distillation.mixed((first,), (torch.ones(1, 3),), 0.25) == (first,)
    assert output_distillation.mixed((first, True), (second, True), 0.25)[1] is True
