"""Models of older opsets are converted, and compute the same."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs
from tests.onnx_io.models import few_values, matmul_model

WEIGHTS = few_values((64, 64), [0, 1, 2], [8, 1, 1])


@pytest.mark.parametrize("opset", [9, 12, 13])
def test_older_opsets_are_converted(tmp_path, opset):
    model = matmul_model(WEIGHTS, opset=opset)
    original = model.SerializeToString()
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    read = read_model(tmp_path / "net.onnx")
    assert read.opset_imports[""] == 13
    (weight,) = find_weights(read)
    assert weight.values.tobytes() == WEIGHTS.tobytes()
    (difference,) = compare_outputs(original, to_bytes(read))
    assert difference.largest_absolute == 0


def test_conversion_handles_changed_operators(tmp_path):
    """Softmax changed its meaning in version 13; Squeeze took its axes as an attribute before."""
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["a"]),
        helper.make_node("Softmax", ["a"], ["b"]),
        helper.make_node("Unsqueeze", ["b"], ["c"], axes=[0]),
        helper.make_node("Squeeze", ["c"], ["y"], axes=[0]),
    ]
    model = matmul_model(WEIGHTS, opset=11)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "net.onnx")
    (difference,) = compare_outputs(model.SerializeToString(), to_bytes(read_model(tmp_path / "net.onnx")))
    assert difference.largest_relative < 1e-6
