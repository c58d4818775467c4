"""Embeddings with inputs: rows that are looked up often are closer, and none is destroyed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sws_compress as sws
from sws_compress.ort.user_models import run_model
from sws_compress.pipelines import calibrated

Array = npt.NDArray[Any]
ROWS, USED, SIZE, CLASSES = 1000, 100, 96, 8


def tokens(count: int, seed: int) -> Array:
    """Some rows are looked up much more often than others; most of them never."""
    shares = 1 / np.arange(1, USED + 1)
    return np.random.default_rng(seed).choice(USED, (count, 12), p=shares / shares.sum())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    tensors = {
        "table": random.standard_normal((ROWS, SIZE)).astype(np.float32),
        "w": random.standard_normal((SIZE, CLASSES)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["e"]),
        helper.make_node("Tanh", ["e"], ["t"]),
        helper.make_node("MatMul", ["t", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 12, CLASSES])],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def error(model: Path, other: Path, rows: Array) -> float:
    first, second = (run_model(path, {"tokens": rows})["y"] for path in (model, other))
    return float(np.linalg.norm(second - first) / np.linalg.norm(first))


def test_rows_that_are_looked_up_often_are_closer(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = sws.Calibrated(inputs={"tokens": tokens(64, seed=1)})
    result = sws.compress(model, tmp_path / "counted.onnx", request, ratio=6)
    assert {each.name: each.how for each in result.decisions}["table"] == "how often its rows are looked up"
    (note,) = (note for note in result.notes if "rows of" in note)
    share, rest = note.split("%")
    assert 90 <= int(share) < 95
    assert rest.startswith(" of the rows of 'table' are not looked up by these inputs")
    monkeypatch.setattr(calibrated, "with_counts", lambda model, places, feeds: places)
    sws.compress(model, tmp_path / "alike.onnx", request, ratio=6)
    errors = [error(model, tmp_path / name, tokens(500, seed=2)) for name in ("counted.onnx", "alike.onnx")]
    assert errors[0] < 0.8 * errors[1]
    never = np.random.default_rng(3).integers(USED, ROWS, (500, 12))
    assert error(model, tmp_path / "counted.onnx", never) < 0.2


def test_tables_that_stay_packed_have_no_scales(model: Path, tmp_path: Path) -> None:
    request = sws.Calibrated(inputs={"tokens": tokens(64, seed=1)})
    options = sws.FileOptions(packed_embeddings=True)
    result = sws.compress(model, tmp_path / "small.onnx", request, file=options)
    assert {each.name: each.how for each in result.decisions}["table"] != "how often its rows are looked up"
    assert error(model, tmp_path / "small.onnx", tokens(50, seed=2)) < 0.1
