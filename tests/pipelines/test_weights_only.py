"""Weights rounded without inputs: to a quality that every channel keeps, whatever folded norms did to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

import sws_compress as sws
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.user_models import run_model

Array = npt.NDArray[Any]

FEATURES, HIDDEN, OUTPUTS = 64, 200, 80


def weights(seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        "a": random.standard_normal((FEATURES, HIDDEN)).astype(np.float32) / 8,
        "b": random.standard_normal((HIDDEN, OUTPUTS)).astype(np.float32) / 14,
    }


def write(path: Path, tensors: dict[str, Array]) -> Path:
    """x a, rectified, times b."""
    dtype = next(iter(tensors.values())).dtype
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", kind, ["n", OUTPUTS])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def error_decibels(model: Path, other: Path, dtype: Any = np.float32) -> float:
    """Energy of the outputs over that of their error, on inputs that no one else has seen."""
    feeds = {"x": np.random.default_rng(99).standard_normal((300, FEATURES)).astype(dtype)}
    first, second = (run_model(path, feeds)["y"].astype(np.float64) for path in (model, other))
    return float(20 * np.log10(np.linalg.norm(first) / np.linalg.norm(second - first)))


def test_more_quality_is_a_larger_file_and_a_smaller_error(tmp_path: Path) -> None:
    model = write(tmp_path / "model.onnx", weights())
    sizes, errors = [], []
    for quality in (15, 25, 35):
        result = sws.compress(model, tmp_path / f"{quality}.onnx", sws.WeightsOnly(quality=quality))
        sizes.append(result.file_bytes)
        errors.append(error_decibels(model, result.output))
    assert sizes == sorted(set(sizes))
    assert errors == sorted(errors)
    assert errors[2] - errors[0] > 15


def test_few_values_stay_as_they_are(tmp_path: Path) -> None:
    few = {name: np.round(values * 8) / 8 for name, values in weights().items()}
    model = write(tmp_path / "model.onnx", few)
    result = sws.compress(model, tmp_path / "small.onnx")
    decoded = decoded_weights(result.output.read_bytes(), ["a", "b"])
    assert all(np.array_equal(decoded[name], values) for name, values in few.items())


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_sizes_of_all_weights(tmp_path: Path, size: float) -> None:
    model = write(tmp_path / "model.onnx", {"a": weights()["a"] * np.float32(size), "b": weights()["b"]})
    result = sws.compress(model, tmp_path / "small.onnx")
    assert result.output_error < 0.1


def test_half_precision(tmp_path: Path) -> None:
    model = write(tmp_path / "half.onnx", {name: values.astype(np.float16) for name, values in weights().items()})
    result = sws.compress(model, tmp_path / "small.onnx", sws.WeightsOnly(quality=25))
    assert result.ratio > 2.5
    assert decoded_weights(result.output.read_bytes(), ["a"])["a"].dtype == np.float16
    assert error_decibels(model, result.output, np.float16) > 20
