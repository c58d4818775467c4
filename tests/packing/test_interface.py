"""What users rely on stays as it was: inputs, outputs, free dimensions, metadata, domains."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.onnx_io.read.model import read_model
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.session import check_runs
from sws_compress.packing.pack import find_palettes, pack
from tests import whole
from tests.onnx_io.models import few_values

WEIGHTS = few_values((64, 48), [0, 1, 2, -1.5], [5, 1, 1, 1])


def model_of_everything():
    """A custom operator between two products, several inputs and outputs, and every kind of metadata."""
    nodes = [
        helper.make_node("MatMul", ["tokens", "encoder/W:0"], ["hidden"], name="first", doc_string="notes"),
        helper.make_node("Mystery", ["hidden"], ["changed"], name="second", domain="com.example", level=3, mode="fast"),
        helper.make_node("Add", ["changed", "offset"], ["logits"]),
        helper.make_node("Relu", ["hidden"], ["features.0"]),
    ]
    inputs = [
        helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["batch", "sequence", 64]),
        helper.make_tensor_value_info("offset", TensorProto.FLOAT, [None, 48], doc_string="of every class"),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", 48]),
        helper.make_tensor_value_info("features.0", TensorProto.FLOAT, ["batch", None, 48]),
    ]
    known = [
        helper.make_tensor_value_info("changed", TensorProto.FLOAT, ["batch", "sequence", 48]),
        helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "sequence", 48]),
    ]
    graph = helper.make_graph(
        nodes, "net", inputs, outputs, [numpy_helper.from_array(WEIGHTS, "encoder/W:0")], value_info=known
    )
    imports = [
        helper.make_opsetid(domain, version) for domain, version in (("", 17), ("com.example", 7), ("unused", 2))
    ]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    model.domain, model.model_version, model.doc_string = "org.example.nets", 12, "trained on a Tuesday"
    helper.set_model_props(model, {"labels": "cat,dog", "license": "MIT", "empty": ""})
    return model


@pytest.fixture
def packed(tmp_path):
    onnx.save(model_of_everything(), tmp_path / "net.onnx")
    model = read_model(tmp_path / "net.onnx")
    result = pack(model, find_palettes(model))
    assert [tensor.name for tensor in result.tensors] == ["encoder/W:0"]
    return result.data


@pytest.mark.parametrize("expanded", [False, True])
def test_the_interface_and_metadata_stay(packed, expanded):
    before = model_of_everything()
    after = onnx.load_from_string(whole.expanded(packed).data if expanded else packed)
    for entry in before.graph.input:
        entry.ClearField("doc_string")
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    properties = {entry.key: entry.value for entry in after.metadata_props}
    properties.pop("sws_compress", None)
    assert properties == {entry.key: entry.value for entry in before.metadata_props}
    assert (after.domain, after.model_version, after.doc_string) == (before.domain, 12, before.doc_string)
    versions = {entry.domain: entry.version for entry in after.opset_import}
    versions.pop("sws", None)
    assert versions == {"": 17, "com.example": 7, "unused": 2}


def test_custom_operators_keep_their_attributes_and_what_is_known_of_their_outputs(packed):
    after = onnx.load_from_string(packed)
    (custom,) = (node for node in after.graph.node if node.domain == "com.example")
    assert {entry.name: helper.get_attribute_value(entry) for entry in custom.attribute} == {
        "level": 3,
        "mode": b"fast",
    }
    shapes = {entry.name: entry for entry in after.graph.value_info}
    assert [size.dim_param or size.dim_value for size in shapes[custom.output[0]].type.tensor_type.shape.dim] == [
        "batch",
        "sequence",
        48,
    ]
    assert not any(node.name or node.doc_string for node in after.graph.node)


def test_overridable_weights_become_constants_and_others_stay_inputs(tmp_path):
    """In files since IR version 4 an initialiser that is an input is a default; packed, it cannot be overridden."""
    nodes = [helper.make_node("MatMul", ["x", "W"], ["h"]), helper.make_node("Add", ["h", "bias"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64]),
            helper.make_tensor_value_info("W", TensorProto.FLOAT, [64, 48]),
            helper.make_tensor_value_info("bias", TensorProto.FLOAT, [48]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 48])],
        [
            numpy_helper.from_array(WEIGHTS, "W"),
            numpy_helper.from_array(np.random.default_rng(0).standard_normal(48).astype(np.float32), "bias"),
        ],
    )
    dense = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(dense, tmp_path / "net.onnx")
    model = read_model(tmp_path / "net.onnx")
    data = pack(model, find_palettes(model)).data
    check_runs(data)
    assert [entry.name for entry in onnx.load_from_string(data).graph.input] == ["x", "bias"]
    feeds = {"x": np.ones((2, 64), np.float32), "bias": np.arange(48, dtype=np.float32)}
    (difference,) = compare_outputs(dense.SerializeToString(), data, feeds)
    assert difference.largest_absolute == 0
