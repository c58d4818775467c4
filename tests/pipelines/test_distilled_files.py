"""Calibrated ONNX files are distilled as modules are: the user's own graph, and what the twin in torch cannot do."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper

import sws_compress as sws
from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.onnx_io.to_torch import operator_table
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.user_models import run_model
from sws_compress.pipelines import distilled
from sws_compress.pipelines.twins import Twin, twin_of
from sws_compress.train.output_distillation import Distillery
from tests.pipelines.test_distilled import Classifier, spectra

NOTE = "distillation took the error on inputs that were held out from"


def saved(path: Path, *, last: str = "Softmax") -> Path:
    """A network as a file of another maker: a classifier with an operator behind its scores."""
    model = from_torch(Classifier(), (spectra(2, 0),))
    proto = onnx.load_from_string(to_bytes(model))
    scores = proto.graph.output[0].name
    proto.graph.node.append(helper.make_node(last, [scores], ["answers"]))
    proto.graph.output[0].name = "answers"
    path.write_bytes(proto.SerializeToString())
    return path


def compressed(path: Path, output: Path, *, distillation: bool = True, **options: Any) -> Any:
    request = sws.Calibrated(inputs={"x": spectra(160, seed=1).numpy()}, distillation=distillation)
    goal = {} if "max_drop" in options else {"ratio": 6.0}
    return sws.compress(path, output, request, **goal, **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A file, and what becomes of it without and with distillation."""
    folder = tmp_path_factory.mktemp("files")
    path = saved(folder / "model.onnx")
    plain = compressed(path, folder / "plain.onnx", distillation=False)
    return path, plain, compressed(path, folder / "distilled.onnx")


def scores_error(path: Path, other: Path) -> float:
    """Relative error of log probabilities on inputs that calibration has not seen."""
    feeds = {"x": spectra(400, seed=9).numpy()}
    first, second = (np.log(run_model(each, feeds)["answers"].astype(np.float64) + 1e-12) for each in (path, other))
    first, second = (each - each.mean(axis=1, keepdims=True) for each in (first, second))
    return float(np.linalg.norm(second - first) / np.linalg.norm(first))


def test_a_file_is_closer_in_as_many_bytes(files: tuple[Path, Any, Any]) -> None:
    path, plain, found = files
    assert found.file_bytes == pytest.approx(plain.file_bytes, rel=2e-3)
    assert found.score_error < 0.97 * plain.score_error
    assert scores_error(path, found.output) < 0.99 * scores_error(path, plain.output)
    assert [note for note in found.notes if note.startswith(NOTE)]
    assert not [note for note in plain.notes if "distillation" in note]


def test_the_graph_is_the_users_own(files: tuple[Path, Any, Any]) -> None:
    """Nodes, inputs, outputs and the names of weights stay; decoders alone are new."""
    path, _, found = files
    before, after = (onnx.load(each).graph for each in (path, found.output))
    assert [value.name for value in after.input] == [value.name for value in before.input]
    assert [value.name for value in after.output] == [value.name for value in before.output]
    ends = [node.op_type for node in after.node][-len(before.node) :]
    assert ends == [node.op_type for node in before.node]
    assert {row.name for row in found.tensors} <= {tensor.name for tensor in before.initializer}


def test_an_operator_that_is_not_covered_is_named(
    files: tuple[Path, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain, _ = files
    monkeypatch.delitem(operator_table.TABLE, "Relu")
    found = compressed(path, tmp_path / "small.onnx")
    assert "distillation was left out: it does not cover Relu" in found.notes
    assert found.output.read_bytes() == plain.output.read_bytes()


def test_a_twin_that_computes_something_else_is_not_trained(
    files: tuple[Path, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain, _ = files
    monkeypatch.setitem(operator_table.TABLE, "Relu", lambda attributes, x: torch.relu(x) + 0.01)
    found = compressed(path, tmp_path / "small.onnx")
    assert [note for note in found.notes if note.startswith("distillation was left out: torch computes something else")]
    assert found.output.read_bytes() == plain.output.read_bytes()


def test_what_is_read_out_need_not_be_covered(files: tuple[Path, Any, Any], tmp_path: Path) -> None:
    found = compressed(saved(tmp_path / "model.onnx", last="Hardmax"), tmp_path / "small.onnx")
    assert [note for note in found.notes if note.startswith(NOTE)]


def test_a_metric_of_files_takes_the_distillation_back(
    files: tuple[Path, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _, _ = files
    ran, run = [False], Distillery.run

    def told(self: Distillery, *arguments: Any) -> Any:
        ran[0] = True
        return run(self, *arguments)

    monkeypatch.setattr(Distillery, "run", told)
    found = compressed(
        path, tmp_path / "small.onnx", max_drop=0.5, evaluate=lambda asked: 1.0 - (asked != path and ran[0])
    )
    assert "distillation was not kept: the metric falls" in found.notes


def test_what_would_take_too_long_is_left_out(
    files: tuple[Path, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain, _ = files
    monkeypatch.setattr(distilled, "MOST_SECONDS", 1e-3)
    found = compressed(path, tmp_path / "small.onnx")
    assert [note for note in found.notes if note.startswith("distillation was left out: it would take ")]
    assert found.output.read_bytes() == plain.output.read_bytes()


def test_torch_may_be_absent(files: tuple[Path, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, plain, _ = files
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    found = compressed(path, tmp_path / "small.onnx")
    assert "distillation was left out: torch is not installed: pip install 'sws-compress[torch]'" in found.notes
    assert found.output.read_bytes() == plain.output.read_bytes()


class Mixer(torch.nn.Module):
    """Convolutions with norms, attention, a recurrent layer and a table."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(20, 12)
        self.convolution, self.norm = torch.nn.Conv1d(12, 16, 3, padding=1), torch.nn.BatchNorm1d(16)
        self.attention = torch.nn.MultiheadAttention(16, 4, batch_first=True)
        self.cell, self.end = torch.nn.LSTM(16, 8, bidirectional=True, batch_first=True), torch.nn.Linear(16, 5)
        self.last = torch.nn.LayerNorm(5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.convolution(self.table(tokens).mT))).mT
        x = x + self.attention(x, x, x, need_weights=False)[0]
        found: torch.Tensor = self.last(self.end(self.cell(x)[0].mean(1)))
        return found


def test_gradients_of_an_exported_module_are_its_own() -> None:
    network = Mixer().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    tokens = torch.arange(14).reshape(2, 7)
    wanted = network(tokens)
    wanted.square().sum().backward()
    model = from_torch(network, (tokens,))
    twin = _twin(model, tokens)
    (found,) = twin.network(*twin.arguments({"tokens": tokens.numpy()}))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in twin.network.named_parameters()}
    compared = 0
    for name, parameter in network.named_parameters():
        if name in gradients and not name.startswith("cell."):  # gates of both directions are put together
            gradient = gradients[name]
            turned = gradient if gradient.shape == parameter.shape else gradient.mT  # as the exporter writes it
            torch.testing.assert_close(turned, parameter.grad, rtol=1e-3, atol=1e-4)
            compared += 1
    assert compared >= 6
    assert all(gradient is not None for gradient in gradients.values())


def _twin(model: ir.Model, tokens: torch.Tensor) -> Twin:
    from sws_compress.pipelines.source import Source

    weights = [name for name, value in model.graph.initializers.items() if len(value.shape or ()) > 1]
    floats = [name for name in weights if model.graph.initializers[name].dtype == ir.DataType.FLOAT]
    return twin_of(Source(model, "model", 0, {}), floats, {"tokens": tokens.numpy()})
