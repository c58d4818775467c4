"""Weights of torch modules that are not in layers of torch's own: which are compressed, and what the file computes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import sws_compress as sws
from tests.models import answers, batches, torch_answers, tuned

X = batches()[0][0]
SHORT: dict[str, Any] = {"train": batches(2), "loss": functional.cross_entropy, "epochs": 1, "bit_price": 0.01}


class Experts(nn.Module):
    """Four experts as parameters of three dimensions, and a table that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(20, 4)
        self.up = nn.Parameter(torch.randn(4, 20, 24) / 5)
        self.down = nn.Parameter(torch.randn(4, 24, 24) / 5)
        self.register_buffer("mix", torch.randn(24, 24) / 5)
        self.head = nn.Linear(24, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shares = self.gate(x).softmax(-1)
        hidden = torch.einsum("bd,edf->bef", x, self.up).relu()
        y: torch.Tensor = self.head(torch.einsum("bef,efg,be->bg", hidden, self.down, shares) @ self.mix)
        return y


class Standardised(nn.Linear):
    """A layer that standardises its weight in every call."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = self.weight - self.weight.mean(1, keepdim=True)
        return functional.linear(x, centred / (self.weight.std(1, keepdim=True) + 0.01), self.bias)


class Adapted(nn.Module):
    """A frozen layer and an adapter of low rank, whose product is added to its weight."""

    def __init__(self, base: nn.Linear, rank: int = 13) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / 5)
        self.up = nn.Parameter(torch.randn(base.out_features, rank) / 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.base.weight + self.up @ self.down, self.base.bias)


def distinct(tensor: torch.Tensor) -> int:
    return int(tensor.unique().numel())


def seeded(make: Any) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = make()
    return module


def assert_same_outputs(result: sws.CompressionResult) -> None:
    expected = torch_answers(result.network, (X,))[0]
    np.testing.assert_allclose(answers(result.output, (X,))[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("trained", [False, True])
def test_experts_and_tables_are_compressed_with_and_without_training(trained: bool, tmp_path: Path) -> None:
    model = seeded(Experts)
    output = tmp_path / "small.onnx"
    if trained:
        result = tuned(model, output, **SHORT)
        (note,) = [note for note in result.notes if "not trained" in note]
        assert note.endswith("mix (2,304 bytes)")
    else:
        result = sws.compress(model, output, sws.WeightsOnly(components=16), example_inputs=X)
    assert all(distinct(getattr(result.network, name)) <= 16 for name in ("up", "down", "mix"))
    assert not [note for note in result.notes if "distinct values" in note]
    assert_same_outputs(result)


def test_what_the_caller_leaves_out_is_dense_and_named_by_bytes(tmp_path: Path) -> None:
    options = {**SHORT, "parameters": ["up"], "bit_price": None}
    with pytest.raises(sws.ArgumentError, match="ratio must be below") as refusal:
        tuned(seeded(Experts), tmp_path / "small.onnx", **options, ratio=6)
    assert "for tensors left dense ('down' (9,216 bytes)" in str(refusal.value)
    assert str(refusal.value).endswith(": choose them with parameters=")
    result = tuned(seeded(Experts), tmp_path / "small.onnx", **{**SHORT, "parameters": ["up"]})
    (note,) = [note for note in result.notes if "left dense" in note]
    assert "'down' (9,216 bytes) holds more than 256 distinct values, and was not chosen" in note
    assert distinct(result.network.down) > 256


def test_weights_that_are_trained_are_not_called_dense_in_files_without_their_names(tmp_path: Path) -> None:
    with pytest.raises(sws.ArgumentError, match="ratio must be below") as refusal:
        tuned(seeded(Experts), tmp_path / "small.onnx", **{**SHORT, "bit_price": None}, ratio=1e4)
    assert str(refusal.value).endswith("for its graph and what is not trained")


def test_weights_that_are_standardised_in_every_call(tmp_path: Path) -> None:
    """The file holds the few values of the parameter, and computes what the module computes."""
    model = seeded(lambda: nn.Sequential(Standardised(20, 40), nn.ReLU(), Standardised(40, 7)))
    result = tuned(model, tmp_path / "small.onnx", **SHORT, file=sws.FileOptions(prune_units=False))
    packed = {row.name: row.distinct_values for row in result.tensors if row.encoding != "dense"}
    assert packed["0.weight"] <= 16
    assert packed["2.weight"] <= 16
    assert_same_outputs(result)


def test_sizes_of_standardised_weights_are_those_of_the_file(tmp_path: Path) -> None:
    """What is measured in training is the file, not the graph with the parameter in the place of what it computes."""
    seen: list[sws.Progress] = []
    model = seeded(lambda: nn.Sequential(Standardised(20, 60), nn.ReLU(), nn.Linear(60, 7)))
    options = {**SHORT, "bit_price": None, "log": seen.append}
    result = tuned(model, tmp_path / "small.onnx", **options, ratio=2.5)
    assert seen[-1].projected_bytes == pytest.approx(result.file_bytes, rel=0.05)
    assert_same_outputs(result)


def test_spectral_norm_is_computed_in_the_file(tmp_path: Path) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 7)))
    torch.nn.utils.parametrizations.spectral_norm(model[0])
    result = tuned(model, tmp_path / "small.onnx", **SHORT)
    assert distinct(result.network[0].parametrizations.weight.original) <= 16
    assert_same_outputs(result)


@pytest.mark.parametrize("components", [4, 16])
def test_a_frozen_base_is_clustered_and_its_adapter_is_trained_with_it(components: int, tmp_path: Path) -> None:
    model = seeded(lambda: nn.Sequential(Adapted(nn.Linear(20, 40)), nn.ReLU(), Adapted(nn.Linear(40, 7))))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    result = tuned(model, tmp_path / "small.onnx", **SHORT, components=components)
    base = result.network[0].base.weight
    assert distinct(base) == components
    nearest = sws.cluster_frozen(seeded(lambda: model), components=components)["0.base.weight"]
    np.testing.assert_array_equal(base.numpy(), nearest.expand())
    assert not base.requires_grad
    assert distinct(result.network[0].up) <= components
    (note,) = [note for note in result.notes if "not trained" in note]
    assert "0.base.weight, 2.base.weight (4,320 bytes)" in note
    assert not torch.equal(before["0.base.weight"], base)
    assert_same_outputs(result)


def test_the_teacher_of_a_frozen_base_is_the_original(tmp_path: Path) -> None:
    """The step before the first changes nothing, so the first loss tells how far the clustered base is away."""
    model = seeded(lambda: nn.Sequential(Adapted(nn.Linear(20, 40)), nn.ReLU(), nn.Linear(40, 7)))
    losses = []
    for components in (2, 200):
        rows: list[sws.Progress] = []
        options = {**SHORT, "loss": None, "log": rows.append}
        with suppress(sws.TrainingError):  # a base of two values does not work, which the end of the run says
            tuned(model, tmp_path / "small.onnx", **options, components=components)
        losses.append(rows[0].loss)
    assert losses[0] > 100 * losses[1]


def test_a_table_that_is_frozen_stays(tmp_path: Path) -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            phases = torch.arange(32.0)[:, None] / 100 ** (torch.arange(10) / 10)
            table = torch.stack([phases.sin(), phases.cos()], -1).flatten(1)
            self.table = nn.Parameter(table, requires_grad=False)
            self.head = nn.Linear(20, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.head(x[:, None] + self.table).mean(1)
            return y

    model = seeded(Positions)
    trained = tuned(model, tmp_path / "small.onnx", **SHORT)
    plain = sws.compress(model, tmp_path / "small.onnx", example_inputs=X)
    for result in (trained, plain):
        assert torch.equal(result.network.table, model.table)


def test_an_own_loop_exports_standardised_and_frozen_weights(tmp_path: Path) -> None:
    model = seeded(lambda: nn.Sequential(Standardised(20, 40), nn.ReLU(), nn.Linear(40, 40), nn.Linear(40, 7)))
    model[2].requires_grad_(False)
    frozen = sws.cluster_frozen(model, components=8)
    optimizer = torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad])
    prior = sws.SoftWeightSharing(model, optimizer, components=8, total_steps=6, coded_ratio=5)
    for x, y in batches(6):
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        prior.step()
        optimizer.zero_grad()
    palettes = {**frozen, **prior.snap()}
    assert list(palettes) == ["2.weight", "0.weight", "3.weight"]
    result = sws.export(model, palettes, tmp_path / "small.onnx", example_inputs=X)
    assert not [note for note in result.notes if "distinct values" in note]
    assert_same_outputs(result)


def test_networks_that_break_in_training_are_refused(tmp_path: Path) -> None:
    class Normed(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.linear(x, self.weight / self.weight.norm(dim=1, keepdim=True), self.bias)

    model = seeded(lambda: nn.Sequential(Normed(20, 40), nn.ReLU(), nn.Linear(40, 7)))
    options = {**SHORT, "bit_price": 1e6}
    with pytest.raises(sws.TrainingError, match="a network must still work at the end of a run, got"):
        tuned(model, tmp_path / "small.onnx", **options)
    assert list(tmp_path.glob("*.onnx")) == []
