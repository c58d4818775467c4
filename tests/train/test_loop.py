from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sws_compress.errors import ArgumentError, DataError, ModelError, TrainingError
from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.palette import Palette
from sws_compress.train.distillation import Distillation
from sws_compress.train.loop import fine_tune
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.progress import Progress
from sws_compress.train.request import FineTuned
from sws_compress.train.targets import SteeringTarget
from tests import reference
from tests.train.digits import TRAINING, Batches, accuracy, data, trained
from tests.train.runs import SHORT, Dropping, Failing, assert_same, tune

# -- when it breaks ---------------------------------------------------------------------------------------------------


def test_nan_loss_names_the_step_and_leaves_a_good_state(tmp_path: Path) -> None:
    path = tmp_path / "last good.state"
    model = trained()
    model.eval()
    with pytest.raises(
        TrainingError, match=r"loss must stay finite, got nan at step 37 of 80: .* saved in .*last good"
    ):
        tune(model, Failing(at=37, poison=True), rescue_path=path)
    assert not model.training
    resumed, whole = trained(), trained()
    tune(resumed, Batches(400, 50), state=path)
    tune(whole, Batches(400, 50))
    assert_same(whole, resumed)


def test_nan_gradient_is_caught_before_it_reaches_the_weights() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets) + (0 * outputs.sum()).sqrt()  # finite, its gradient is not

    model = trained()
    with pytest.raises(
        TrainingError, match=r"gradients must stay finite, got nan at step 1 of 80: lower learning_rate"
    ):
        tune(model, Batches(400, 50), replace(SHORT, loss=loss))
    assert_same(model, trained())


@pytest.mark.parametrize("step", [50, 56])  # of the hard stage; the latter at the end of an epoch
def test_nan_weight_that_an_update_finds_leaves_a_good_state(step: int, tmp_path: Path) -> None:
    def poison(prior: SoftWeightSharing) -> None:
        if prior.steps == step:
            prior.latent_weights()["0.weight"][2, 3] = torch.nan

    with pytest.raises(
        TrainingError, match=r"^0.weight must stay finite in training, got NaN or infinite .* start again"
    ):
        tune(trained(), Batches(400, 50), on_step=poison)
    path = tmp_path / "run.state"
    with pytest.raises(
        TrainingError, match=r"^0.weight must stay finite in training, got NaN .*, saved in .*run.state"
    ):
        tune(trained(), Batches(400, 50), rescue_path=path, on_step=poison)
    resumed, whole = trained(), trained()
    stages: list[Progress] = []
    tune(resumed, Batches(400, 50), state=path, on_progress=stages.append)
    assert stages[0].step == 1 + (step - 1) // 8 * 8
    tune(whole, Batches(400, 50))
    assert_same(whole, resumed)


def test_weight_that_no_loss_tells_of_is_no_good_state(tmp_path: Path) -> None:
    """A bias becomes infinite with the last step of an epoch."""
    model = trained()

    def poison(prior: SoftWeightSharing) -> None:
        if prior.steps == 16:
            model[2].bias.data[3] = -torch.inf

    with pytest.raises(
        TrainingError, match=r"^weights must stay finite, got inf at step 16 of 80: .* saved in .*x.state"
    ):
        tune(model, Batches(400, 50), state=tmp_path / "x.state", on_step=poison)
    assert torch.load(tmp_path / "x.state", weights_only=True)["epoch"] == 1


class Empty:
    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Stream(torch.utils.data.IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(5))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], "at least one batch per epoch, got none"),
        (Empty(), "at least one batch per epoch, got none"),
        ((batch for batch in [1]), "train must have a length, got generator"),
        (torch.utils.data.DataLoader(Stream()), "train must have a length, got DataLoader"),
        ([torch.zeros(3, 64)], r"must yield \(inputs, targets\) pairs, got Tensor: leave loss out"),
        ([(torch.zeros(3, 64),)], r"must yield \(inputs, targets\) pairs, got tuple"),
    ],
)
def test_bad_loaders(train: Iterable[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        tune(trained(), train)


def test_nothing_trainable() -> None:
    with pytest.raises(ModelError, match="must have trainable parameters, got none"):
        tune(nn.ReLU(), Batches(400, 50))
    with pytest.raises(ModelError, match="must have trainable parameters, got none"):
        tune(trained().requires_grad_(False), Batches(400, 50))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(SHORT, epochs=0), "epochs must be >= 1, got 0"),
        (lambda: replace(SHORT, learning_rate=0.0), "learning_rate must be > 0, got 0"),
        (lambda: replace(SHORT, learning_rate=float("nan")), "learning_rate must be > 0, got nan"),
        (lambda: Distillation(weight=0.0), r"weight must be in \(0, 1\], got 0"),
        (lambda: Distillation(weight=1.5), r"weight must be in \(0, 1\], got 1.5"),
        (lambda: Distillation(temperature=0.0), "temperature must be > 0, got 0"),
        (
            lambda: replace(SHORT, loss=None, distillation=Distillation(weight=0.5)),
            "weight must be 1 without a loss, got 0.5",
        ),
    ],
)
def test_refuses(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


# -- what it learns from ----------------------------------------------------------------------------------------------


def test_loss_is_the_mean_of_labels_and_teacher() -> None:
    """The first loss of a run, against float64 loops; in training the student differs from its teacher."""

    class Halved(nn.Sequential):
        def forward(self, pixels: Tensor) -> Tensor:
            outputs = super().forward(pixels)
            return outputs / 2 if self.training else outputs

    pixels, labels = (part[:50] for part in data())
    model = Halved(*trained())
    with torch.no_grad():
        teacher = copy.deepcopy(model).eval()(pixels).double().tolist()
    student = [[value / 2 for value in row] for row in teacher]
    seen: list[Progress] = []
    settings = replace(SHORT, epochs=1, distillation=Distillation(weight=0.6, temperature=2.5))
    tune(model, [(pixels, labels)], settings, on_progress=seen.append)
    hard_part = (
        -sum(np.log(reference.softened(row, 1.0)[k]) for row, k in zip(student, labels.tolist(), strict=True)) / 50
    )
    wanted = 0.4 * hard_part + 0.6 * reference.distillation(student, teacher, 2.5)
    assert seen[0].loss == pytest.approx(wanted, rel=1e-5)


def test_another_network_may_be_the_teacher() -> None:
    pixels, labels = (part[:50] for part in data())
    model, other = trained(), nn.Sequential(*trained(), nn.Linear(10, 10))
    kept = copy.deepcopy(other)
    with torch.no_grad():
        student, wanted = (net(pixels).double().tolist() for net in (model, copy.deepcopy(other).eval()))
    seen: list[Progress] = []
    distillation = Distillation(weight=1.0, temperature=2.0, teacher=other)
    tune(model, [(pixels, labels)], replace(SHORT, epochs=1, distillation=distillation), on_progress=seen.append)
    assert seen[0].loss == pytest.approx(reference.distillation(student, wanted, 2.0), rel=1e-5)
    assert_same(other, kept)


@pytest.mark.parametrize("form", ["tensor", "tuple", "list", "pair"])
def test_unlabelled_batches_learn_from_the_teacher_alone(form: str) -> None:
    pixels, labels = data()
    forms: dict[str, Any] = {
        "tensor": lambda x, y: x,
        "tuple": lambda x, y: (x,),
        "list": lambda x, y: [x],
        "pair": lambda x, y: (x, y * 0),  # labels are not looked at
    }
    batches = [forms[form](x, y) for x, y in zip(pixels[:400].split(50), labels[:400].split(50), strict=True)]
    model, same = trained(), trained()
    unlabelled = replace(SHORT, loss=None)
    tune(model, batches, unlabelled)
    tune(same, list(pixels[:400].split(50)), unlabelled)
    assert_same(model, same)
    assert accuracy(model) > 85


def test_several_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained()

        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            return self.net(torch.cat([one, other], 1))

    batches = [((x[:, :30], x[:, 30:]), y) for x, y in Batches(400, 50)]
    model = Two()
    tune(model, batches)
    assert accuracy(model.net) > 85


# -- what it leaves alone ---------------------------------------------------------------------------------------------


def test_the_callers_generator_gradients_and_modes_are_left_alone() -> None:
    model = Dropping()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    clean = Dropping()
    tune(clean, Batches(400, 50))
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    tune(model, Batches(400, 50))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes
    for name, parameter in clean.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name))


def test_seed_decides_the_run() -> None:
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(runs))
        model = trained()
        tune(model, Batches(400, 50), seed=seed)
        runs.append(model[0].weight.detach())
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


# -- what it is for ---------------------------------------------------------------------------------------------------


def test_training_reaches_the_size_and_beats_snapping_alone() -> None:
    """At ratio 20: the coded size within 5 %, few points lost, fewer than data-free clustering loses with more bits."""
    model = trained()
    float_accuracy = accuracy(model)
    request = FineTuned(
        train=Batches(TRAINING, 25),
        loss=functional.cross_entropy,
        components=8,
        epochs=40,
        learning_rate=3e-3,
        distillation=Distillation(),
    )
    result = fine_tune(model, request, SteeringTarget(coded_ratio=20))
    weights = 64 * 32 + 32 * 10
    bits = coded_bits(result.palettes)
    assert 32 * weights / bits == pytest.approx(20, rel=0.05)
    assert all(len(palette.codebook) <= 8 for palette in result.palettes.values())
    assert accuracy(model) > float_accuracy - 3

    for components, rate in ((4, 0.0), (8, 0.1)):  # k-means, and entropy-constrained
        snapped, palettes = trained(), {}
        for name in result.palettes:
            parameter = snapped.get_parameter(name)
            variance = float(parameter.detach().var())
            palettes[name] = cluster(
                parameter.detach().numpy(), components, bit_price=2 * rate * variance, seed=0
            ).palette
            parameter.data = torch.from_numpy(palettes[name].expand())
        assert coded_bits(palettes) >= bits
        assert accuracy(model) > accuracy(snapped) + 2


def coded_bits(palettes: dict[str, Palette]) -> float:
    return sum(p.entropy_bits * p.indices.size + 16 * len(p.codebook) for p in palettes.values())
