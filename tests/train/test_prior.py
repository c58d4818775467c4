from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sws_compress.errors import ArgumentError
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.ranks import Ranks
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.sharing import Sharing
from tests.train.digits import TRAINING, Batches, trained

CALLS = ("histograms", "check_finite", "update", "state_dict", "palettes")
SCHEDULE = Schedule(soft_until=0.3, target_at=0.6, tune_from=0.8, soft_every=5, hard_every=5)


def run(model: nn.Module, prior: SoftWeightSharing, optimizer: torch.optim.Optimizer, steps: int) -> list[Stage]:
    """Train for some steps; the stage in which each step was taken."""
    stages = []
    batches = [batch for _ in range(10) for batch in Batches(TRAINING, 100)][:steps]
    for pixels, labels in batches:
        optimizer.zero_grad()
        stages.append(prior.stage)
        dtype = next(model.parameters()).dtype
        functional.cross_entropy(model(pixels.to(dtype)), labels).backward()
        optimizer.step()
        prior.step()
    return stages


@pytest.mark.parametrize("sharing", list(Sharing))
def test_stages_follow_the_schedule_and_palettes_are_the_parameters(sharing: Sharing) -> None:
    torch.manual_seed(0)
    model = trained()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    prior = SoftWeightSharing(
        model,
        optimizer,
        components=8,
        total_steps=60,
        schedule=SCHEDULE,
        sharing=sharing,
        parameters=["0.weight", "2.weight"],
    )
    assert prior.coded_bits is None
    stages = run(model, prior, optimizer, 60)
    assert stages == [Stage.SOFT] * 18 + [Stage.HARD] * 30 + [Stage.TUNE] * 12
    assert prior.progress == 1
    palettes = prior.snap()
    assert list(palettes) == ["0.weight", "2.weight"]
    for name, palette in palettes.items():
        parameter = model.get_parameter(name).detach().numpy()
        np.testing.assert_array_equal(palette.expand().view(np.uint32), parameter.view(np.uint32))
        assert len(palette.codebook) <= 8
        assert palette.zeros > 0
    assert prior.coded_bits is not None
    if sharing is not Sharing.MODEL:
        counted = sum(p.entropy_bits * p.indices.size + 16 * len(p.codebook) for p in palettes.values())
        assert prior.coded_bits == pytest.approx(counted)
        assert prior.coded_ratio == pytest.approx(32 * (64 * 32 + 32 * 10) / counted)


def test_without_total_steps_it_stays_soft_and_updates_are_the_callers() -> None:
    torch.manual_seed(0)
    model = trained()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    prior = SoftWeightSharing(model, optimizer, components=8, schedule=Schedule(soft_until=0.0))
    before = prior.mixtures["0.weight"]
    assert run(model, prior, optimizer, 20) == [Stage.SOFT] * 20
    assert prior.mixtures["0.weight"] is before
    prior.update()
    assert not np.array_equal(prior.mixtures["0.weight"].means, before.means)
    optimizer.step()
    weights = model[0].weight.detach().clone()
    prior.step()
    assert not torch.equal(weights, model[0].weight)
    palettes = prior.snap()
    assert len(palettes["0.weight"].codebook) <= 8
    np.testing.assert_array_equal(palettes["0.weight"].expand(), model[0].weight.detach().numpy())


@pytest.mark.parametrize("total_steps", [1, 2, 3])
def test_a_run_too_short_for_its_stages_does_not_zero_the_network(total_steps: int) -> None:
    torch.manual_seed(0)
    model = trained()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = Schedule(soft_until=0.0, target_at=0.1, tune_from=0.1)
    prior = SoftWeightSharing(
        model, optimizer, components=16, total_steps=total_steps, coded_ratio=10, schedule=schedule
    )
    run(model, prior, optimizer, total_steps)
    palettes = prior.snap()
    assert all(len(palette.codebook) > 3 for palette in palettes.values())


@pytest.mark.parametrize("total_steps", [1, 2, 3, 9, 14])
def test_a_run_too_short_for_its_schedule_has_the_size_asked_for(total_steps: int) -> None:
    """The last step tunes: weights are assigned for the ratio, or at the price of a bit."""
    for options in ({"coded_ratio": 14}, {"bit_price": 0.1}):
        torch.manual_seed(0)
        model = trained()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        prior = SoftWeightSharing(model, optimizer, components=8, total_steps=total_steps, **options)
        stages = run(model, prior, optimizer, total_steps)
        assert stages.index(Stage.TUNE) == total_steps - 1
        assert prior.tuning
        assert prior.stage is Stage.TUNE
        if "coded_ratio" in options:
            assert prior.coded_ratio == pytest.approx(14, rel=0.03)
        else:
            assert prior.bit_price == 0.1
        prior.snap()


def test_schedules_without_tuning_have_none() -> None:
    for schedule, last in ((Schedule(tune_from=1.0), Stage.HARD), (Schedule(soft_until=1.0), Stage.SOFT)):
        model = trained()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        prior = SoftWeightSharing(model, optimizer, components=8, total_steps=6, schedule=schedule)
        assert run(model, prior, optimizer, 6)[-1] is last


def test_tied_parameters_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(30, 16)
            self.head = nn.Linear(16, 30, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(tokens))

    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    prior = SoftWeightSharing(model, optimizer, components=6, coded_ratio=8, total_steps=30, schedule=SCHEDULE)
    for _ in range(30):
        tokens = torch.randint(0, 30, (16,))
        functional.cross_entropy(model(tokens), (tokens + 1) % 30).backward()
        optimizer.step()
        prior.step()
        optimizer.zero_grad()
    palettes = prior.snap()
    assert list(palettes) == ["embed.weight"]
    assert model.head.weight is model.embed.weight
    assert len(model.head.weight.unique()) <= 6


@pytest.mark.parametrize("steps", [10, 30, 60])
def test_half_precision(steps: int) -> None:
    """Palettes hold what the parameters hold: means rounded to the parameters' own dtype."""
    torch.manual_seed(0)
    model = trained().bfloat16()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    prior = SoftWeightSharing(model, optimizer, components=8, total_steps=60, schedule=SCHEDULE)
    run(model, prior, optimizer, steps)
    for name, palette in prior.snap().items():
        parameter = model.get_parameter(name)
        assert parameter.dtype == torch.bfloat16
        np.testing.assert_array_equal(palette.expand(), parameter.detach().float().numpy())
        assert 2 <= len(palette.codebook) <= 8


def test_calls_that_communicate_are_those_that_the_class_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks, of which the other one adds nothing to any sum."""
    reductions: list[int] = []

    def counted(self: Ranks, tensors: Sequence[torch.Tensor], operation: object) -> list[torch.Tensor]:
        reductions.append(len(tensors))
        return list(tensors)

    def communicates(call: Callable[[], object]) -> bool:
        reductions.clear()
        call()
        return bool(reductions)

    monkeypatch.setattr(Ranks, "_reduced", counted)
    schedule = Schedule(soft_until=0.3, target_at=0.6, tune_from=0.8, soft_every=2, hard_every=2)
    model = trained()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    priors = []

    def make() -> None:
        priors.append(
            SoftWeightSharing(model, optimizer, components=8, total_steps=20, schedule=schedule, ranks=Ranks(0, 2))
        )

    assert communicates(make)
    (prior,) = priors
    stepping = [communicates(lambda: run(model, prior, optimizer, 1)) for _ in range(8)]
    assert stepping == [False, True] * 4  # the hard stage begins with the sixth
    before = {name: communicates(getattr(prior, name)) for name in CALLS}
    assert before == {**dict.fromkeys(CALLS, True), "state_dict": False, "palettes": False}
    assert communicates(lambda: prior.mixtures)
    stepping = [communicates(lambda: run(model, prior, optimizer, 1)) for _ in range(12)]
    assert stepping == [False, True] * 3 + [False] * 2 + [True] * 4  # no EM step on the way to tuning


def test_state_of_another_run_is_refused_untouched() -> None:
    def prior_of(hidden: int = 32, **options: Any) -> SoftWeightSharing:
        model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
        optimizer = torch.optim.Adam(model.parameters())
        return SoftWeightSharing(model, optimizer, **{"components": 8, "total_steps": 60, **options})

    torch.manual_seed(0)
    saved = prior_of().state_dict()
    for other, message in (
        (prior_of(components=9), "components must be 8 as in the saved run, got 9"),
        (prior_of(total_steps=50), "total_steps must be 60 as in the saved run, got 50"),
        (prior_of(coded_ratio=21), "coded_ratio must be 20.0 as in the saved run, got 21.0"),
        (prior_of(bit_price=0.5), "bit_price must be None as in the saved run, got 0.5"),
        (prior_of(schedule=Schedule(hard_every=5)), "schedule.hard_every must be 10 as in the saved run, got 5"),
        (prior_of(hidden=33), "compressed parameters must be those of the saved run"),
    ):
        before = copy.deepcopy(other.state_dict())
        with pytest.raises(ArgumentError, match=message):
            other.load_state_dict(saved)
        assert str(other.state_dict()) == str(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 1}, "components must be >= 2, got 1: one is reserved for zero"),
        ({"components": 257}, "components must be <= 256, got 257"),
        ({"coded_ratio": 1.0}, "coded_ratio must be > 1, got 1.0"),
        ({"coded_ratio": float("nan")}, "coded_ratio must be > 1, got nan"),
        ({"coded_ratio": float("inf"), "total_steps": 9}, r"coded_ratio must be < 2368 for these weights, got inf"),
        ({"coded_ratio": 2368, "total_steps": 9}, r"coded_ratio must be < 2368 for these weights, got 2368"),
        ({"total_steps": 0}, "total_steps must be >= 1, got 0"),
        ({"parameters": ["1.weight"]}, "must be names of model.named_parameters"),
    ],
)
def test_refuses(options: dict[str, object], message: str) -> None:
    model = trained()
    with pytest.raises(ArgumentError, match=message):
        SoftWeightSharing(model, torch.optim.Adam(model.parameters()), **options)


def test_refuses_optimizers() -> None:
    model = trained()
    with pytest.raises(ArgumentError, match=r"optimizer must be torch.optim.SGD, Adam or AdamW, got Adagrad"):
        SoftWeightSharing(model, torch.optim.Adagrad(model.parameters()))
    with pytest.raises(ArgumentError, match=r"must be in the optimizer, got 2.weight, which is not"):
        SoftWeightSharing(model, torch.optim.Adam(model[0].parameters()))
