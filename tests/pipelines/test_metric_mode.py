"""Metrics of which less is better, and those whose sign is in doubt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch import nn
from torch.nn.functional import cross_entropy

import sws_compress as sws
from sws_compress.ort.user_models import run_model
from sws_compress.pipelines.metrics import constant_metric
from tests.train.digits import TRAINING, Batches, accuracy, data, trained

REQUEST = sws.FineTuned(train=Batches(TRAINING, 50), loss=cross_entropy, components=8, epochs=6)


def error_percent(network: nn.Module) -> float:
    return 100 - accuracy(network)


def compressed(folder: Path, **options: Any) -> sws.CompressionResult:
    return sws.compress(trained(), folder / "small.onnx", REQUEST, progress=False, **options)


def linear(folder: Path) -> Path:
    """A file with one matrix product."""
    text = '<ir_version: 8, opset_import: ["": 17]> net (float[n, 64] x) => (float[n, 64] y) {y = MatMul(x, w)}'
    model = onnx.parser.parse_model(text)
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


INPUTS = {"x": np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)}


def relative_error(path: Path, original: Path) -> float:
    wanted = run_model(original, INPUTS)["y"]
    return float(np.linalg.norm(run_model(path, INPUTS)["y"] - wanted) / np.linalg.norm(wanted))


# -- less is better ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_error_and_its_negative_make_the_same_file(tmp_path: Path) -> None:
    less = compressed(tmp_path, ratio=8, evaluate=error_percent, mode="min")
    file = less.output.read_bytes()
    more = compressed(tmp_path, ratio=8, evaluate=lambda network: -error_percent(network))
    assert more.output.read_bytes() == file
    assert less.before == -(more.before or 0) > 0
    assert less.after == -(more.after or 0)
    assert [(size.file_bytes, -size.metric) for size in less.curve] == [
        (size.file_bytes, size.metric) for size in more.curve
    ]


def test_an_error_rises_by_no_more_than_max_drop(tmp_path: Path) -> None:
    result = compressed(tmp_path, max_drop=3.0, evaluate=error_percent, mode="min")
    assert result.before is not None
    assert result.after is not None
    assert result.after - result.before <= 3.0
    assert result.ratio > 5
    assert not any("metric" in note for note in result.notes)


def test_an_error_may_rise_by_a_tenth_where_nothing_is_said(tmp_path: Path) -> None:
    result = compressed(tmp_path, evaluate=error_percent, mode="min")
    assert result.before is not None
    (note,) = (note for note in result.notes if "no goal was given" in note)
    assert f"metric rises by at most {0.1 * result.before:.4g} (10% of itself)" in note


def test_a_rise_is_noted(tmp_path: Path) -> None:
    result = compressed(tmp_path, ratio=18, evaluate=error_percent, mode="min")
    assert result.before is not None
    assert result.after is not None
    assert result.after > 1.1 * result.before
    assert any(
        note.startswith(f"the metric rose from {result.before:.4g} to {result.after:.4g}") for note in result.notes
    )


def test_calibrated_files_with_an_error(tmp_path: Path) -> None:
    path = linear(tmp_path)
    request = sws.Calibrated(inputs=INPUTS, distillation=False)
    result = sws.compress(
        path,
        tmp_path / "small.onnx",
        request,
        max_drop=0.1,
        evaluate=lambda file: relative_error(file, path),
        mode="min",
        progress=False,
    )
    assert result.before == 0
    assert 0.05 < (result.after or 0) <= 0.1
    assert any(note.startswith("metric rises by 0.") for note in result.notes)


# -- which sign? ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", [{}, {"max_drop": 1.0}])
def test_a_run_is_not_steered_by_a_metric_that_constant_outputs_do_better_in(
    tmp_path: Path, goal: dict[str, Any]
) -> None:
    cure = 'if less is better, say mode="min"'
    with pytest.raises(sws.ArgumentError, match=f"evaluate must be better for the network than .*: {cure}"):
        compressed(tmp_path, evaluate=error_percent, **goal)
    with pytest.raises(sws.ArgumentError, match='if more is better, say mode="max"'):
        compressed(tmp_path, evaluate=accuracy, mode="min", **goal)


def test_a_metric_that_steers_nothing_is_questioned(tmp_path: Path) -> None:
    result = compressed(tmp_path, evaluate=error_percent, ratio=6)
    (note,) = (note for note in result.notes if 'say mode="min"' in note)
    assert "which counts as better, for one whose weights are all zero" in note
    assert not any("mode=" in note for note in compressed(tmp_path, evaluate=accuracy, ratio=6).notes)


def test_files_are_questioned_before_the_search(tmp_path: Path) -> None:
    path = linear(tmp_path)
    asked: list[float] = []

    def evaluate(file: Path) -> float:
        asked.append(relative_error(file, path))
        return asked[-1]

    request = sws.Calibrated(inputs=INPUTS, distillation=False)
    with pytest.raises(sws.ArgumentError, match='0 and 1: if less is better, say mode="min"'):
        sws.compress(path, tmp_path / "small.onnx", request, max_drop=0.1, evaluate=evaluate, progress=False)
    assert asked == [0, 1]


def test_a_network_is_measured_with_zeros_and_left_as_it_was() -> None:
    network = trained()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    outputs: list[Any] = []

    def evaluate(module: nn.Module) -> float:
        outputs.append(module(data()[0][:5]))
        return 0.5

    assert constant_metric(network, evaluate) == 0.5
    assert bool((outputs[0] == outputs[0][0]).all())
    assert all(bool((value == before[name]).all()) for name, value in network.state_dict().items())
    assert constant_metric(network, lambda module: float("nan")) is None


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"mode": "max", "evaluate": None}, None),
        ({"mode": "min"}, "mode must come with evaluate, got 'min' alone"),
        ({"mode": "lower", "evaluate": accuracy}, "mode must be 'max' or 'min', got 'lower'"),
        ({"mode": None, "evaluate": accuracy}, "mode must be 'max' or 'min', got None"),
    ],
)
def test_modes_that_are_refused(tmp_path: Path, options: dict[str, Any], line: str | None) -> None:
    if line is None:
        sws.compress(linear(tmp_path), tmp_path / "small.onnx", progress=False, **options)
        return
    with pytest.raises(sws.ArgumentError, match=line):
        compressed(tmp_path, **options)
