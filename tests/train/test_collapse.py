"""Networks that break down in training: noticed within an epoch, undone, and never handed back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sws_compress.errors import TrainingError
from sws_compress.train.best_network import BestNetworks, Rating
from sws_compress.train.collapse import GREATEST_LOSS_SHARE, Collapse, batches_to_keep
from sws_compress.train.descent import Descent
from sws_compress.train.distillation import Distillation
from sws_compress.train.fine_tune_result import FineTuneResult
from sws_compress.train.loop import fine_tune
from sws_compress.train.measures import Measures
from sws_compress.train.request import FineTuned
from sws_compress.train.schedule import Schedule
from sws_compress.train.targets import SteeringTarget
from sws_compress.train.training_loss import TrainingLoss
from tests.train.digits import Batches, accuracy, trained
from tests.train.runs import KilledError, assert_same

REQUEST = FineTuned(
    train=Batches(500, 50),
    loss=functional.cross_entropy,
    components=6,
    epochs=10,
    schedule=Schedule(hard_every=3, soft_every=5),
)


def measured(model: nn.Module, request: FineTuned = REQUEST) -> Collapse:
    collapse = Collapse(model, TrainingLoss(model, request, torch.device("cpu")))
    collapse.keep(list(Batches(500, 50))[:3])
    collapse.begin()
    return collapse


def size_of(model: nn.Module) -> int:
    """Bytes of the coded matrices, without a graph."""
    total = 0.0
    for weight in (model[0].weight, model[2].weight):
        counts = torch.unique(weight.detach(), return_counts=True)[1].double()
        total += 2 * len(counts) - float((counts * torch.log2(counts / counts.sum())).sum()) / 8
    return round(total)


def run(model: nn.Module, file_bytes: int, request: FineTuned = REQUEST, **options: Any) -> FineTuneResult:
    measures = Measures(file_bytes=lambda: size_of(model), **options)
    return fine_tune(model, request, SteeringTarget(file_bytes=file_bytes), measures=measures)


@pytest.mark.parametrize("distillation", [None, Distillation(weight=1.0)])
def test_the_float_network_has_lost_nothing_and_one_of_constant_outputs_everything(
    distillation: Distillation | None,
) -> None:
    model = trained()
    collapse = measured(model, replace(REQUEST, distillation=distillation))
    assert collapse.share_lost() == 0
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.copy_(torch.stack([trained()(x).mean(0) for x, _ in Batches(500, 50)]).mean(0))
    assert collapse.share_lost() == pytest.approx(1, abs=0.1)
    with torch.no_grad():
        model[2].bias[0] = math.nan
    assert collapse.share_lost() == math.inf


def test_a_network_that_knows_nothing_cannot_lose_it() -> None:
    model = trained()
    with torch.no_grad():
        model[2].weight.mul_(1e-4)
    collapse = measured(model)
    with torch.no_grad():
        model[2].weight.zero_()
    assert collapse.share_lost() == 0


def test_measuring_leaves_the_network_and_its_modes_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 10))
    model.train()
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    collapse = measured(model)
    assert collapse.share_lost() == collapse.share_lost()
    assert [module.training for module in model] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_outputs_that_are_no_tensor_tell_nothing() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = trained()

        def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
            outputs = self.inner(pixels)
            return outputs, outputs

    model = Two()
    collapse = measured(model, replace(REQUEST, loss=lambda outputs, labels: functional.cross_entropy(*outputs)))
    assert collapse.constant_loss is None
    assert collapse.share_lost() == 0


@pytest.mark.parametrize(("batches", "kept"), [(1, 1), (3, 1), (9, 2), (18, 4), (1000, 8)])
def test_batches_to_keep(batches: int, kept: int) -> None:
    assert batches_to_keep(batches) == kept


def test_a_size_that_no_network_works_at_gives_the_smallest_one_that_does() -> None:
    """The run asks for 40 bytes: without waiting, the loss stays at that of constant outputs."""
    model = trained()
    run(model, 40, replace(REQUEST, epochs=14))
    assert accuracy(model) > 60
    assert 80 < size_of(model) < 4 * (64 * 32 + 32 * 10) / 16


@pytest.mark.parametrize("learning_rate", [1e-8, 1e-5, 0.1, 1.0, 10.0])
def test_any_learning_rate_ends_in_an_error_or_a_network_that_works(learning_rate: float) -> None:
    model = trained()
    try:
        run(model, 700, replace(REQUEST, learning_rate=learning_rate))
    except TrainingError:
        return
    assert accuracy(model) > 60


def test_a_run_that_was_killed_after_it_went_back_goes_on_to_the_same_result(tmp_path: Path) -> None:
    class Killed(Batches):
        passes = 0

        def __iter__(self) -> Any:
            Killed.passes += 1
            if Killed.passes == 9:
                raise KilledError
            return super().__iter__()

    whole, killed, resumed = trained(), trained(), trained()
    options: dict[str, Any] = {"learning_rate": 4.0}
    wanted = run(whole, 60, replace(REQUEST, **options), validate=lambda: accuracy(whole))
    state = replace(REQUEST, **options, state=tmp_path / "state")
    with pytest.raises(KilledError):
        run(killed, 60, replace(state, train=Killed(500, 50)), validate=lambda: accuracy(killed))
    found = run(resumed, 60, state, validate=lambda: accuracy(resumed))
    assert_same(whole, resumed)
    assert wanted.restarts == found.restarts > 0
    assert wanted.curve == found.curve


def test_the_best_network_of_the_size_is_handed_back() -> None:
    """A metric that is highest three epochs before the end."""
    model = trained()
    seen: list[dict[str, Tensor]] = []

    def validate() -> float:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return float(len(seen) == 5)

    run(model, 700, replace(REQUEST, epochs=8), validate=validate)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, seen[4][name], rtol=2**-11, atol=1e-7)


def test_kept_networks() -> None:
    model = nn.Linear(1, 1, bias=False)
    networks = BestNetworks(model, by_size=False)

    def offer(value: float, **rating: Any) -> Rating:
        with torch.no_grad():
            model.weight.fill_(value)
        made = Rating(**rating)
        networks.offer(made)
        return made

    good = {"share_lost": 0.1, "metric": None}
    broken = offer(1.0, coded_bits=10.0, share_lost=0.9, metric=None, fits=True)
    assert networks.instead_of(broken) is None
    offer(2.0, coded_bits=90.0, fits=False, **good)
    assert networks.instead_of(broken).model["weight"] == 2
    offer(3.0, coded_bits=50.0, fits=True, **good)
    last = offer(4.0, coded_bits=50.0, share_lost=0.2, metric=None, fits=True)
    assert networks.instead_of(last).model["weight"] == 3
    last = offer(5.0, coded_bits=50.0, share_lost=0.05, metric=None, fits=True)
    assert networks.instead_of(last) is None
    assert networks.instead_of(Rating(80.0, 0.0, None, False)).model["weight"] == 5
    assert networks.smallest.model["weight"] == 3


SCHEDULE = Schedule(soft_until=0.2, target_at=0.4, tune_from=0.9)


def walked(descent: Descent, steps: Iterable[float], coded_bits: Callable[[float], float], final_bits: float) -> float:
    """The aim after a way with weights of ``coded_bits(aim)``."""
    for progress in steps:
        descent.advance(progress, coded_bits(descent.aim_bits or 1600), final_bits)
    return descent.aim_bits


def shares(first: float, last: float) -> list[float]:
    """A thousandth of the run at a time."""
    return [thousandth / 1000 for thousandth in range(round(1000 * first), round(1000 * last) + 1)]


def test_the_way_is_geometric_and_comes_to_rest_without_going_below_its_end() -> None:
    descent = Descent(SCHEDULE)
    assert walked(descent, shares(0.2, 0.3), lambda aim: aim, 400) == pytest.approx(800, rel=0.01)
    aims = [walked(descent, [share], lambda aim: aim, 400) for share in shares(0.3, 0.9)]
    assert aims == sorted(aims, reverse=True)
    assert aims[-1] == pytest.approx(400, rel=0.05)
    assert aims[-1] >= 400


def test_an_end_that_is_far_away_is_not_rushed_at() -> None:
    descent = Descent(SCHEDULE)
    assert walked(descent, shares(0.2, 0.3), lambda aim: aim, 1) == pytest.approx(1600 * math.exp(-0.8), rel=0.01)
    assert walked(descent, shares(0.3, 0.5), lambda aim: aim, 1) == pytest.approx(1600 * math.exp(-2.4), rel=0.01)


def test_an_end_that_turns_out_to_be_larger_is_approached_smoothly() -> None:
    descent = Descent(SCHEDULE)
    walked(descent, shares(0.2, 0.7), lambda aim: aim, 400)
    aims = [walked(descent, [share], lambda aim: aim, 600) for share in shares(0.701, 0.9)]
    assert all(later > aim * (1 - 1e-9) for aim, later in itertools.pairwise(aims))
    assert aims[0] < 420
    assert aims[-1] == pytest.approx(600, rel=0.05)
    assert max(aims) < 600 * (1 + 1e-9)


def test_the_way_waits_for_weights_that_lag_behind_and_for_a_network_that_suffers() -> None:
    descent = Descent(SCHEDULE)
    assert walked(descent, shares(0.2, 0.4), lambda aim: 1600, 100) > 400
    descent = Descent(SCHEDULE)
    descent.share_lost = GREATEST_LOSS_SHARE / 2
    assert walked(descent, shares(0.2, 0.3), lambda aim: aim, 100) == pytest.approx(1600 * math.exp(-0.4), rel=0.01)
    descent.share_lost = 2 * GREATEST_LOSS_SHARE
    aim = descent.aim_bits
    assert walked(descent, shares(0.3, 0.35), lambda aim: aim, 100) == aim


def test_the_way_begins_again_slower_and_then_ends_earlier() -> None:
    descent = Descent(SCHEDULE)
    walked(descent, shares(0.2, 0.5), lambda aim: aim, 100)
    descent.restart(0.5, 900, 200)
    assert descent.aim_bits == 900
    assert walked(descent, shares(0.5, 0.65), lambda aim: aim, 100) == pytest.approx(300, rel=0.02)
    descent.restart(0.7, 400, 100)
    assert walked(descent, shares(0.7, 0.9), lambda aim: aim, 100) == pytest.approx(200, rel=0.05)
    assert descent.floor_bits == 200
    descent.restart(0.8, 300, 50)
    assert descent.floor_bits == 200
    descent.note(0.2, 210)
    assert descent.floor_bits == 200
    descent.note(0.1, 210)
    assert descent.floor_bits == 0


def test_a_broken_network_is_not_made_smaller() -> None:
    descent = Descent(SCHEDULE)
    walked(descent, shares(0.2, 0.3), lambda aim: aim, 100)
    descent.note(2 * GREATEST_LOSS_SHARE, 900)
    assert walked(descent, shares(0.3, 0.35), lambda aim: aim, 100) == 900
