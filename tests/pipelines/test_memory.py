"""Files whose weights stay in integers, all the way: an ONNX file, with inputs, a torch module, the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import sws_compress as sws
from sws_compress.cli.main import main
from sws_compress.errors import ArgumentError
from sws_compress.ort.compare import outputs_in_runtime
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
from sws_compress.pipelines.weights_only import compress_weights
from tests.models import gaussian

PACKED = sws.FileOptions(memory="packed")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """x -> Conv K -> MatMul M -> LSTM-like sum with L, and rows of E; M has a weight far out."""
    tensors = {
        "K": gaussian(24, 8, 7, seed=1),
        "M": gaussian(60, 96, seed=2),
        "E": gaussian(300, 96, seed=3),
        "S": gaussian(1, 24, 96, seed=4),
    }
    tensors["M"][3, 7] = 40
    nodes = [
        helper.make_node("Conv", ["x", "K"], ["k"]),
        helper.make_node("MatMul", ["k", "M"], ["m"]),
        helper.make_node("Gather", ["E", "ids"], ["e"]),
        helper.make_node("Add", ["m", "e"], ["a"]),
        helper.make_node("Mul", ["a", "S"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 66]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 24]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 24, 96])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def feeds(seed: int = 0, rows: int = 4) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "x": random.standard_normal((rows, 8, 66)).astype(np.float32),
        "ids": random.integers(0, 300, (rows, 24)),
    }


def routes(path: Path) -> dict[str, str]:
    return {row.name: row.route for row in sws.inspect(path).parts.rows if row.name in set("KMES")}


def error(first: Path, second: Path) -> float:
    wanted, actual = (outputs_in_runtime(path.read_bytes(), feeds(seed=9))[0] for path in (first, second))
    return float(np.linalg.norm(wanted - actual) / np.linalg.norm(wanted))


@pytest.mark.parametrize("standard", [False, True])
def test_weights_stay_in_integers_wherever_they_can(source: Path, tmp_path: Path, standard: bool) -> None:
    floats, packed = tmp_path / "floats.onnx", tmp_path / "packed.onnx"
    sws.compress(source, floats, sws.WeightsOnly(quality=25), progress=False)
    options = sws.FileOptions(memory="packed", standard_operators_only=standard)
    result = sws.compress(source, packed, sws.WeightsOnly(quality=25), file=options, progress=False)
    assert result.decoded_difference < 1e-3
    product = "dequantised" if standard else "product"
    assert routes(packed) == {"K": "dequantised", "M": product, "E": "rows", "S": "floats"}
    assert routes(floats) == dict.fromkeys("KMES", "floats")
    assert error(source, packed) < 1.5 * error(source, floats) + 0.02
    held = {row.name: row.held_bytes for row in sws.inspect(packed).parts.rows}
    assert held["K"] == 24 * 8 * 7
    assert held["E"] == 300 * 96
    domains = {node.domain for node in onnx.load(packed).graph.node}
    assert ("com.microsoft" in domains) != standard
    assert result.outputs[0].deviation == pytest.approx(error(source, packed), rel=0.5)


def test_a_row_of_a_product_is_what_inspect_counts(source: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.onnx"
    sws.compress(source, packed, sws.WeightsOnly(quality=25), file=PACKED, progress=False)
    (row,) = (row for row in sws.inspect(packed).parts.rows if row.name == "M")
    assert row.shape == (60, 96)
    assert row.distinct_values < 256
    assert row.file_bits < 9


def test_calibrated_weights_reach_no_farther_than_words(source: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.onnx"
    result = sws.compress(
        source, packed, sws.Calibrated(inputs=feeds(rows=64), quality=25), file=PACKED, progress=False
    )
    assert routes(packed) == {"K": "dequantised", "M": "product", "E": "rows", "S": "floats"}
    assert error(source, packed) < 0.12
    assert not any("moved to integers" in note for note in result.notes)


def test_modules(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(4, 32, 9), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 24, 40))
    examples = torch.randn(5, 4, 32)
    packed = tmp_path / "packed.onnx"
    request = sws.WeightsOnly(components=16)
    sws.compress(network, packed, request, example_inputs=examples, file=PACKED, progress=False)
    found = {row.name: row.route for row in sws.inspect(packed).parts.rows if row.size > 1000}
    assert found == {"0.weight": "dequantised", "3.weight": "product"}


def test_the_command_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small.onnx"
    assert main(["compress", str(source), "-o", str(small), "--memory", "packed", "--json"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(small), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tensors"]
    assert {row["name"]: row["route"] for row in rows}["E"] == "rows"
    assert main(["inspect", str(small)]) == 0
    assert "weights in memory" in capsys.readouterr().out
    assert main(["compress", str(source), "-o", str(small), "--standard-operators-only"]) == 2
    assert "must come with memory packed" in capsys.readouterr().err
    assert main(["compress", str(source), "-o", str(small), "--low-bit", "8", "--memory", "packed"]) == 2


def test_streamed_models_refuse(source: Path, tmp_path: Path) -> None:
    job = Job(output=tmp_path / "small.onnx", file=PACKED, limits=Limits(model_bytes=0))
    with pytest.raises(ArgumentError, match="memory must be left out for a model that is streamed"):
        compress_weights(open_source(source, job), sws.WeightsOnly(), job)


def test_a_file_of_integers_is_expanded_and_verified(source: Path, tmp_path: Path) -> None:
    packed, plain = tmp_path / "packed.onnx", tmp_path / "plain.onnx"
    sws.compress(source, packed, sws.WeightsOnly(quality=25), file=PACKED, progress=False)
    assert sws.verify(source, packed, inputs=feeds()).passed
    sws.expand(packed, plain)
    assert error(packed, plain) < 0.02


def test_old_runtimes_are_refused_where_they_have_no_products(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sws_compress.pipelines.low_bit_model.runtime_version", lambda: "1.22.1")
    request = sws.WeightsOnly(components=16)
    with pytest.raises(ArgumentError, match=r"must be 1\.23 or newer .*, got 1\.22\.1: .*--standard-operators-only"):
        sws.compress(source, tmp_path / "small.onnx", request, file=PACKED, progress=False)
    options = sws.FileOptions(memory="packed", standard_operators_only=True)
    assert sws.compress(source, tmp_path / "small.onnx", request, file=options, progress=False).ratio > 4


@pytest.mark.slow
def test_training_ends_in_integers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(256, 4, 32)
    targets = (inputs.mean((1, 2)) > 0).long()
    network = nn.Sequential(nn.Conv1d(4, 32, 9), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 24, 8))
    batches = [(inputs[i : i + 64], targets[i : i + 64]) for i in range(0, 256, 64)]
    request = sws.FineTuned(train=batches, loss=nn.functional.cross_entropy, epochs=2)
    options = sws.FileOptions(memory="packed", weight_names=True, prune_units=False)
    packed = tmp_path / "packed.onnx"
    sws.compress(network, packed, request, ratio=5, file=options, progress=False)
    found = {row.name: row.route for row in sws.inspect(packed).parts.rows if row.size > 1000}
    assert found == {"0.weight": "dequantised", "3.weight": "product"}
