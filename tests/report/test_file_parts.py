"""Parts of a file: every byte counts once, in the part that it is there for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sws_compress as sws
from sws_compress.report.file_parts import FileParts
from sws_compress.report.inspection import TensorRow


def row(
    name: str, shape: tuple[int, ...], encoding: str, file_bytes: int, *parts: int, kind: str = "float"
) -> TensorRow:
    return TensorRow(name, shape, encoding, 3, 0.1, 1.2, file_bytes, 0.1, kind, *parts)


def test_each_kind_of_tensor_counts_in_its_part() -> None:
    rows = [
        row("w", (30, 7), "sparse", 100, 11, 23),
        row("b", (7,), "huffman", 41, 5, 6),
        row("scale", (1, 7, 1, 1), "dense", 37),
        row("table", (7, 2), "dense", 71),
        row("zero_points", (7,), "dense", 19, kind="integers"),
    ]
    assert FileParts.of(rows, 500) == FileParts(
        weight_bytes=66, codebook_bytes=11, vector_bytes=35 + 37, dense_bytes=71 + 19, graph_bytes=261
    )
    assert str(FileParts.of(rows[:1], 1_500)) == "weights 66, codebooks 11, graph 1,423"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Weights of few values; a bias of few; a bias of many, which stays dense."""
    draw = np.random.default_rng(0)
    arrays = {
        "w": draw.choice(np.float32([0, 0, 0, 0.5, -1]), (64, 96)),
        "v": draw.choice(np.float32([0, 0.25, -2]), (96, 48)),
        "b": draw.choice(np.float32([0, 0.125, 3]), 96),
        "c": draw.standard_normal(48).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["g"]),
        helper.make_node("MatMul", ["g", "v"], ["f"]),
        helper.make_node("Add", ["f", "c"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 64), ("y", 48))
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], tensors)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx"
    )
    return tmp_path / "net.onnx"


def test_parts_are_those_of_the_written_file(network: Path, tmp_path: Path) -> None:
    result = sws.compress(network, tmp_path / "small.onnx", sws.WeightsOnly(components=8))
    parts = result.parts
    assert parts is not None
    assert sum(dataclasses.astuple(parts)) == result.file_bytes == (tmp_path / "small.onnx").stat().st_size
    proto = onnx.load(tmp_path / "small.onnx")
    data = {tensor.name: (tensor.data_type, len(tensor.raw_data)) for tensor in proto.graph.initializer}
    symbols = sum(size for kind, size in data.values() if kind == TensorProto.UINT8)
    values = sum(size for kind, size in data.values() if kind in (TensorProto.FLOAT, TensorProto.FLOAT16))
    nodes = sum(node.ByteSize() for node in proto.graph.node) + sum(each.ByteSize() for each in proto.functions)
    assert parts.vector_bytes >= 48 * 4  # of c
    assert 0.95 * symbols < parts.weight_bytes + parts.vector_bytes - 48 * 4 < 1.2 * symbols + 40
    assert 0 < parts.codebook_bytes < values
    assert parts.dense_bytes == 0
    assert nodes < parts.graph_bytes < nodes + 600
    assert json.loads(json.dumps(result.to_json()))["parts"] == dataclasses.asdict(parts)


def test_the_table_says_where_the_bytes_are(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sws_compress.cli.main import main

    assert main(["compress", str(network), "--output", str(tmp_path / "small.onnx")]) == 0
    assert "biases and norms 2" in " ".join(capsys.readouterr().out.split())
