"""Torch modules into files: the size that was asked for, and what the loop leaves to the packing."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import sws_compress as sws
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
from sws_compress.pipelines.training_notes import missed_note
from sws_compress.pipelines.weights_only import compress_weights
from sws_compress.report.result import CompressionResult
from sws_compress.train.targets import SteeringTarget
from tests.models import Mlp, answers, batches, torch_answers, tuned, write_mlp

EIGHT = sws.WeightsOnly(components=8)


def trained(tmp_path: Path, hidden: int = 50, **changes: Any) -> CompressionResult:
    torch.manual_seed(0)
    options = {"train": batches(), "loss": cross_entropy, "components": 4, "epochs": 4, **changes}
    return tuned(Mlp(hidden=hidden), tmp_path / "small.onnx", **options)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [2800, 3600])
def test_the_file_has_the_bytes_asked_for(tmp_path: Path, wanted: int) -> None:
    result = trained(tmp_path, hidden=400, target_bytes=wanted, components=8, epochs=8)
    assert os.path.getsize(result.output) == pytest.approx(wanted, rel=0.03)
    assert all(note.endswith("others do nothing") or "short names" in note for note in result.notes)
    same = trained(tmp_path, hidden=400, ratio=result.dense_bytes / wanted, components=8, epochs=8)
    assert same.file_bytes == pytest.approx(wanted, rel=0.03)


def test_what_cannot_be_reached_is_noted(tmp_path: Path) -> None:
    """Barely more than the graph takes: sizes jump where the last weights go."""
    result = trained(tmp_path, ratio=13)
    notes = [note for note in result.notes if not note.endswith("others do nothing")]
    assert notes[0].startswith(
        f"the file has {result.file_bytes} bytes, {round(result.dense_bytes / 13)} were asked for"
    )
    assert notes[1].startswith("fc1.weight holds nothing but zeros")


@pytest.mark.parametrize(
    ("file_bytes", "broke", "cure"),
    [
        (1020, True, ""),
        (900, True, "with 16 values .* raise components="),
        (1100, False, "graph and codebooks take much of it; train for more epochs"),
        (1100, True, "smaller networks no longer worked .*result.curve.*; train for more epochs, or ask for a larger"),
    ],
)
def test_a_size_that_was_missed_is_explained(file_bytes: int, broke: bool, cure: str) -> None:
    notes = list(missed_note(SteeringTarget(file_bytes=1000), file_bytes, broke, 16))
    assert len(notes) == bool(cure)
    if cure:
        assert re.match(f"the file has {file_bytes} bytes, 1000 were asked for: .*{cure}", notes[0])


@pytest.mark.slow
def test_norms_and_biases_share_a_codebook(tmp_path: Path) -> None:
    """A stack of narrow layers, whose norms are a large part of it: folded and clustered, or left in float32."""
    torch.manual_seed(0)
    layers = [[nn.Linear(20, 20), nn.BatchNorm1d(20), nn.ReLU()] for _ in range(4)]
    model = nn.Sequential(*itertools.chain(*layers), nn.Linear(20, 7))
    sizes = []
    for vectors in (16, None):
        result = tuned(
            model,
            tmp_path / "small.onnx",
            train=batches(),
            loss=cross_entropy,
            components=4,
            epochs=1,
            bit_price=0.1,
            bias_components=vectors,
        )
        network = result.network
        shifts = np.unique(np.concatenate([network[i].bias.detach().numpy() for i in range(1, 12, 3)]))
        assert (len(shifts) <= 16) is (vectors == 16)
        assert bool((network[1].running_var == 1).all()) is (vectors == 16)
        x = batches()[0][0]
        np.testing.assert_allclose(answers(result.output, (x,))[0], torch_answers(network, (x,))[0], atol=1e-4)
        sizes.append(result.file_bytes)
    assert sizes[0] < sizes[1] - 500


@pytest.mark.parametrize("kind", ["module", "file"])
def test_a_file_without_names_is_smaller_and_the_same(tmp_path: Path, kind: str) -> None:
    model, x = Mlp(), batches()[0][0]
    source = write_mlp(tmp_path / "model.onnx") if kind == "file" else model
    examples = None if kind == "file" else x
    named, bare = (
        sws.compress(
            source,
            tmp_path / f"{names}.onnx",
            EIGHT,
            file=sws.FileOptions(weight_names=names),
            example_inputs=examples,
        )
        for names in (True, False)
    )
    assert bare.file_bytes < named.file_bytes
    assert [row.name for row in bare.tensors] == [row.name for row in named.tensors]
    assert {row.name for row in named.tensors} >= ({"w1", "w2"} if kind == "file" else {"fc1.weight", "fc2.weight"})
    inputs = (torch.randn(3, 40),) if kind == "file" else (x,)
    for one, other in zip(answers(named.output, inputs), answers(bare.output, inputs), strict=True):
        np.testing.assert_array_equal(one, other)
    held = {row.name for row in sws.inspect(bare.output).parts.rows}
    assert held.isdisjoint({"w1", "w2", "fc1.weight", "fc2.weight"})
    expanded = sws.expand(bare.output, tmp_path / "dense.onnx")
    assert set(expanded.expanded) <= held


def test_idle_units_are_left_out_unless_shapes_are_to_be_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Mlp(hidden=50), batches()[0][0]
    with torch.no_grad():
        model.fc2.weight[:, :20] = 0
        model.fc2.bias.zero_()
    pruned, whole = (
        sws.compress(
            model, tmp_path / f"{prune}.onnx", EIGHT, file=sws.FileOptions(prune_units=prune), example_inputs=x
        )
        for prune in (True, False)
    )
    shapes = [{row.name: row.shape for row in result.tensors} for result in (pruned, whole)]
    assert shapes[0]["fc1.weight"] == (30, shapes[1]["fc1.weight"][1])
    assert shapes[1]["fc1.weight"] == model.fc1.weight.shape
    assert pruned.notes == ("fc1.weight keeps 30 of 50 units: others do nothing",)
    assert (whole.notes, whole.pruned_weights) == ((), 0)
    assert pruned.pruned_weights == 20 * (20 + 1 + 7) + 7
    assert pruned.file_bytes < whole.file_bytes
    np.testing.assert_allclose(answers(pruned.output, (x,))[0], answers(whole.output, (x,))[0], atol=1e-5)


def test_weights_that_are_no_parameters_are_clustered_and_said_so(tmp_path: Path) -> None:
    """A computed weight is one tensor in the file; the module has only what it is computed from."""
    torch.manual_seed(0)
    model, x = Mlp(), batches()[0][0]
    torch.nn.utils.parametrizations.weight_norm(model.fc1)
    result = sws.compress(model, tmp_path / "small.onnx", EIGHT, example_inputs=x, evaluate=lambda network: 1.0)
    (note,) = [note for note in result.notes if "computed in the module" in note]
    shapes = {row.name: (row.shape, row.distinct_values) for row in result.tensors if row.encoding != "dense"}
    assert note.split()[0] in shapes
    assert ((50, 20), 8) in shapes.values()
    assert (result.before, result.after) == (1.0, None)
    assert len(np.unique(result.network.fc2.weight.detach().numpy())) == 8


class Sequence(nn.Module):
    """Weights that the exporter stores otherwise: transposed, and as gates in another order, of two directions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.cell = nn.Linear(20, 24), nn.LSTM(24, 16, bidirectional=True, batch_first=True)
        self.head = nn.Linear(32, 30)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.cell(torch.tanh(self.first(x)))[0])
        return y


@pytest.mark.parametrize(
    "granularity", [sws.PerTensor(), sws.PerChannel(), sws.Vectors(2), sws.Best()], ids=lambda each: type(each).__name__
)
def test_snapped_weights_are_written_back_into_a_copy(tmp_path: Path, granularity: Any) -> None:
    torch.manual_seed(0)
    model, x = Sequence(), torch.randn(3, 5, 20)
    request = sws.WeightsOnly(components=32, granularity=granularity)
    result = sws.compress(model, tmp_path / "small.onnx", request, example_inputs=x)
    assert not [note for note in result.notes if "computed in the module" in note]
    matrices = {name: parameter for name, parameter in result.network.named_parameters() if parameter.dim() == 2}
    float_ones = dict(model.named_parameters())
    assert len(matrices) == 6
    assert all(not torch.equal(parameter, float_ones[name]) for name, parameter in matrices.items())
    np.testing.assert_allclose(answers(result.output, (x,))[0], torch_answers(result.network, (x,))[0], atol=1e-5)


def test_modules_are_never_streamed(tmp_path: Path) -> None:
    """A module is in memory anyway, and it has inputs to run on."""
    job = Job(output=tmp_path / "small.onnx", inputs=batches()[0][0], limits=Limits(model_bytes=0))
    result = compress_weights(open_source(Mlp(), job), EIGHT, job)
    assert np.isfinite(result.decoded_difference)
    assert result.network is not None


def test_a_module_in_low_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32)), torch.randn(4, 64)
    result = sws.compress(model, tmp_path / "small.onnx", sws.LowBit(bits=4), example_inputs=x)
    assert {row.encoding for row in result.tensors} == {"int4"}
    expected = torch_answers(result.network, (x,))[0]
    np.testing.assert_allclose(answers(result.output, (x,))[0], expected, atol=1e-4 * np.abs(expected).max())


def test_bfloat16_is_refused_before_the_export(tmp_path: Path) -> None:
    with pytest.raises(sws.ModelError, match=r"fc1\.weight must not be bfloat16, got it: call model\.float\(\)"):
        sws.compress(Mlp(hidden=50).bfloat16(), tmp_path / "small.onnx", EIGHT, example_inputs=torch.zeros(2, 20))


def test_file_options_are_an_object(tmp_path: Path) -> None:
    with pytest.raises(sws.ArgumentError, match="file must be FileOptions, got 'packed'"):
        sws.compress(Mlp(hidden=50), tmp_path / "small.onnx", EIGHT, file="packed")  # type: ignore[arg-type]
