"""Training loops of all kinds around the prior: each equals the plain loop over the steps that the optimiser took."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations, parametrize, prune

import sws_compress as sws
from sws_compress.errors import ModelError
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.select import select_parameters
from tests.train.digits import Batches, accuracy, data, trained

SCHEDULE = Schedule(soft_until=0.3, target_at=0.6, tune_from=0.8, soft_every=4, hard_every=3)
STEPS = 60
OPTIMIZERS: dict[str, Any] = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "fused": lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
}


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return [batch for _ in range(1 + count // 10) for batch in Batches(400, 40)][:count]


def prior_of(model: nn.Module, optimizer: torch.optim.Optimizer, **options: Any) -> SoftWeightSharing:
    return SoftWeightSharing(
        model, optimizer, **{"components": 8, "coded_ratio": 14, "total_steps": STEPS, "schedule": SCHEDULE, **options}
    )


def plain(
    model: nn.Module, data: Iterable[tuple[Tensor, Tensor]], name: str = "adam", **options: Any
) -> SoftWeightSharing:
    optimizer = OPTIMIZERS[name](model.parameters())
    prior = prior_of(model, optimizer, **options)
    for pixels, labels in data:
        functional.cross_entropy(model(pixels), labels).backward()
        optimizer.step()
        prior.step()
        optimizer.zero_grad()
    return prior


def assert_same(one: SoftWeightSharing, other: SoftWeightSharing) -> None:
    """Equal bits in everything that is compressed."""
    assert one.steps == other.steps
    palettes = other.snap()
    for name, palette in one.snap().items():
        np.testing.assert_array_equal(palette.expand().view(np.uint32), palettes[name].expand().view(np.uint32))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_that_the_scaler_skips_are_no_steps(name: str) -> None:
    """Loss scales are powers of two, so the results are equal bit for bit."""
    poisoned = {0, 7, 31, 57}  # the first of all, and one in every stage
    given = batches(STEPS + len(poisoned))
    wanted = plain(trained(), [batch for i, batch in enumerate(given) if i not in poisoned], name)
    model = trained()
    optimizer = OPTIMIZERS[name](model.parameters())
    prior, scaler = prior_of(model, optimizer), torch.amp.GradScaler("cpu", init_scale=2.0**12)
    for i, (pixels, labels) in enumerate(given):
        loss = functional.cross_entropy(model(pixels), labels) * (float("inf") if i in poisoned else 1)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        before = copy.deepcopy(model.state_dict())
        prior.step()
        if i in poisoned:
            assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        scaler.update()
        optimizer.zero_grad()
    assert scaler.get_scale() == 2.0**8
    assert prior.stage is Stage.TUNE
    assert_same(wanted, prior)


def test_while_gradients_accumulate_nothing_happens() -> None:
    """The prior may be stepped after every batch: what counts is that the optimiser has moved."""

    def run(every_batch: bool) -> SoftWeightSharing:
        model = trained()
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        prior = prior_of(model, optimizer)
        for i, (pixels, labels) in enumerate(batches(3 * STEPS)):
            (functional.cross_entropy(model(pixels), labels) / 3).backward()
            if i % 3 == 2:
                optimizer.step()
            if i % 3 == 2 or every_batch:
                prior.step()
            if i % 3 == 2:
                optimizer.zero_grad()
        return prior

    wanted = run(every_batch=False)
    assert wanted.steps == STEPS
    assert_same(wanted, run(every_batch=True))


@pytest.mark.parametrize("mixed", [False, True])
def test_autocast(mixed: bool) -> None:
    model = trained()
    context = torch.autocast("cpu", torch.bfloat16) if mixed else contextlib.nullcontext()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    prior = prior_of(model, optimizer)
    for pixels, labels in batches(STEPS):
        with context:
            loss = functional.cross_entropy(model(pixels), labels)
        loss.backward()
        optimizer.step()
        prior.step()
        optimizer.zero_grad()
    palettes = prior.snap()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(len(palette.codebook) <= 8 for palette in palettes.values())
    assert prior.coded_ratio == pytest.approx(14, rel=0.15)
    assert accuracy(model) > 90


def test_groups_of_parameters_have_rates_of_their_own() -> None:
    """Independent layers give the same together as alone, and a layer of rate 0 stays at rest."""

    def layers() -> nn.ModuleDict:
        torch.manual_seed(2)
        return nn.ModuleDict({name: nn.Linear(64, 10) for name in ("slow", "fast", "resting")})

    settings: dict[str, dict[str, float]] = {
        "slow": {"lr": 2e-4, "weight_decay": 0.5},
        "fast": {"lr": 5e-3, "weight_decay": 0.0},
        "resting": {"lr": 0.0, "weight_decay": 0.3},
    }

    def run(names: tuple[str, ...]) -> nn.ModuleDict:
        model = layers()
        groups = [{"params": list(model[name].parameters()), **settings[name]} for name in names]
        optimizer = torch.optim.AdamW(groups)
        selected = [f"{name}.weight" for name in names]
        prior = prior_of(model, optimizer, total_steps=None, parameters=selected)
        for pixels, labels in batches(12):
            sum(functional.cross_entropy(model[name](pixels), labels) for name in names).backward()
            optimizer.step()
            prior.step()
            prior.update()
            optimizer.zero_grad()
        return model

    together = run(("slow", "fast", "resting"))
    for name in ("slow", "fast"):
        assert torch.equal(together[name].weight, run((name,))[name].weight)
        assert not torch.equal(together[name].weight, layers()[name].weight)
    assert torch.equal(together["resting"].weight, layers()["resting"].weight)


def test_weight_decay_moves_latent_weights_and_leaves_codebooks_alone() -> None:
    """Weight decay is the optimiser's; codebooks have an optimiser of their own, without decay."""

    def run(decayed: Stage | None) -> Tensor:
        model = trained()
        weights = [{"params": [model[0].weight, model[2].weight]}, {"params": [model[0].bias, model[2].bias]}]
        optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.0)
        prior = prior_of(model, optimizer)
        for pixels, labels in batches(STEPS):
            optimizer.param_groups[0]["weight_decay"] = 30.0 if prior.stage is decayed else 0.0
            functional.cross_entropy(model(pixels), labels).backward()
            optimizer.step()
            prior.step()
            optimizer.zero_grad()
        prior.snap()
        return model[0].weight.detach()

    without = run(None)
    assert torch.equal(run(Stage.TUNE), without)
    for stage in (Stage.SOFT, Stage.HARD):
        assert run(stage).abs().mean() < 0.9 * without.abs().mean()


# -- torch.compile ----------------------------------------------------------------------------------------------------


def compiled(part: str) -> nn.Module:
    torch.compiler.reset()
    model = trained()
    if part == "first layer":
        model[0] = torch.compile(model[0], backend="eager")
    elif part == "in place":
        model.compile(backend="eager")
    else:
        return torch.compile(model, backend="eager")
    return model


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory) -> tuple[SoftWeightSharing, Path]:
    """The run of the plain module, and its file."""
    model = trained()
    prior = plain(model, batches(STEPS))
    file = tmp_path_factory.mktemp("simple") / "plain.onnx"
    sws.export(model, prior.snap(), file, example_inputs=data()[0][:4])
    return prior, file


@pytest.mark.parametrize("part", ["whole", "first layer", "in place"])
def test_compiled_modules_are_known_by_their_plain_names(
    part: str, simple: tuple[SoftWeightSharing, Path], tmp_path: Path
) -> None:
    model = compiled(part)
    prior = plain(model, batches(STEPS))
    assert list(prior.mixtures) == ["0.weight", "2.weight"]
    assert_same(simple[0], prior)
    result = sws.export(model, prior.snap(), tmp_path / "out.onnx", example_inputs=data()[0][:4])
    if part == "first layer":  # its tensors come in another order
        names = {row.name for row in sws.inspect(result.output).parts.rows}
        assert names == {row.name for row in sws.inspect(simple[1]).parts.rows}
        assert names >= {"0.weight", "2.weight"}
    else:
        assert result.output.read_bytes() == simple[1].read_bytes()


def test_state_goes_from_a_compiled_module_to_a_plain_one() -> None:
    given = batches(STEPS)
    wanted = plain(trained(), given)
    model = compiled("whole")
    optimizer = OPTIMIZERS["adam"](model.parameters())
    first = plain(model, given[:0])
    assert [group.names for group in first.groups] == [("0.weight",), ("2.weight",)]
    names = [f"_orig_mod.{name}" for name in ("0.weight", "2.weight")]
    assert [group.label for group in select_parameters(model, names)] == ["0.weight", "2.weight"]
    assert [group.label for group in select_parameters(model, lambda name, _: name == "0.weight")] == ["0.weight"]

    half = prior_of(model, optimizer)
    for pixels, labels in given[:40]:
        functional.cross_entropy(model(pixels), labels).backward()
        optimizer.step()
        half.step()
        optimizer.zero_grad()
    simple = trained()
    second = OPTIMIZERS["adam"](simple.parameters())
    rest = prior_of(simple, second)
    simple.load_state_dict(model._orig_mod.state_dict())
    second.load_state_dict(optimizer.state_dict())
    rest.load_state_dict(copy.deepcopy(half.state_dict()))
    for pixels, labels in given[40:]:
        functional.cross_entropy(simple(pixels), labels).backward()
        second.step()
        rest.step()
        second.zero_grad()
    assert_same(wanted, rest)


@pytest.fixture
def _one_process() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def eager(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: eager(DistributedDataParallel(model)),
        lambda model: DistributedDataParallel(eager(model)),
        lambda model: eager(DistributedDataParallel(eager(model))),
        nn.DataParallel,
    ],
)
def test_names_are_those_inside_all_wrappers(wrap: Any, tmp_path: Path) -> None:
    torch.compiler.reset()
    inner = trained()
    model = wrap(inner)
    prior = plain(model, batches(3))
    assert list(prior.mixtures) == ["0.weight", "2.weight"]
    sws.export(inner, prior.snap(), tmp_path / "out.onnx", example_inputs=data()[0][:4])

    optimizer = OPTIMIZERS["adam"](model.parameters())
    sws.save_checkpoint(tmp_path / "run.pt", model, optimizer, prior)
    other = trained()
    optimizer = OPTIMIZERS["adam"](other.parameters())
    sws.load_checkpoint(tmp_path / "run.pt", other, optimizer, prior_of(other, optimizer))
    for name, weight in inner.named_parameters():
        assert torch.equal(other.get_parameter(name), weight), name


def test_compiled_step() -> None:
    torch.compiler.reset()
    model = trained()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    prior, step = prior_of(model, optimizer), torch.compile(optimizer.step, backend="eager")
    for pixels, labels in batches(5):
        functional.cross_entropy(model(pixels), labels).backward()
        step()
        prior.step()
        optimizer.zero_grad()
    assert prior.steps == 5


# -- wrapped optimisers, computed weights -----------------------------------------------------------------------------


def test_accelerate() -> None:
    model = trained()
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, optimizer = accelerator.prepare(model, OPTIMIZERS["adam"](model.parameters()))
    prior = prior_of(model, optimizer)
    for pixels, labels in batches(2 * STEPS):
        with accelerator.accumulate(model):
            accelerator.backward(functional.cross_entropy(model(pixels), labels))
            optimizer.step()
            prior.step()
            optimizer.zero_grad()
    assert prior.steps == STEPS
    assert accuracy(model) > 90
    assert all(len(palette.codebook) <= 8 for palette in prior.snap().values())


COMPUTED: dict[str, tuple[Any, str]] = {
    "weight_norm": (parametrizations.weight_norm, "WeightNorm"),
    "orthogonal": (parametrizations.orthogonal, "Orthogonal"),
    "older weight_norm": (nn.utils.weight_norm, "WeightNorm"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_weights_are_refused_and_the_cure_cures(kind: str) -> None:
    make, how = COMPUTED[kind]
    model = trained()
    make(model[0])
    message = rf"0.weight must be an ordinary parameter to be compressed, got one computed by {how}: call torch"
    with pytest.raises(ModelError, match=message) as refusal:
        plain(model, [])
    with pytest.raises(ModelError, match=message):
        plain(model, [], parameters=lambda name, _: name.startswith("0"))
    assert list(plain(model, batches(3), parameters=["2.weight"]).mixtures) == ["2.weight"]

    cure = str(refusal.value).split("call ")[1].split(" before")[0]
    exec(cure, {"torch": torch, "model": model})
    assert list(plain(model, batches(3)).mixtures) == ["0.weight", "2.weight"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (parametrizations.weight_norm, r"0.weight must be an ordinary parameter"),
        (nn.utils.weight_norm, r"0.weight must be an ordinary parameter"),
    ],
)
def test_compress_does_not_train_computed_weights(make: Any, message: str, tmp_path: Path) -> None:
    model = trained()
    make(model[0])
    model(data()[0])
    with pytest.raises(ModelError, match=message):
        sws.compress(model, tmp_path / "out.onnx", sws.FineTuned(train=[data()], epochs=1))
    assert list(tmp_path.iterdir()) == []


def test_small_or_frozen_computed_weights_are_left_alone() -> None:
    model = nn.Sequential(*trained(), nn.Linear(10, 5))
    parametrizations.weight_norm(model[3])
    parametrizations.weight_norm(model[0])
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    assert parametrize.is_parametrized(model[0])
    assert [group.label for group in select_parameters(model)] == ["2.weight"]


def test_pruned_weights_stay_pruned_and_pack(tmp_path: Path) -> None:
    """The parameter behind the mask is compressed; masked, its few values stay few."""
    model = trained()
    prune.l1_unstructured(model[0], "weight", 0.6)
    prior = plain(model, batches(STEPS))
    palettes = prior.snap()
    assert list(palettes) == ["0.weight_orig", "2.weight"]
    file = sws.FileOptions(prune_units=False)
    result = sws.export(model, palettes, tmp_path / "out.onnx", example_inputs=data()[0][:4], file=file)
    (row,) = [row for row in result.tensors if row.shape == (32, 64)]
    assert row.distinct_values <= 8
    assert row.zeros >= 0.6
