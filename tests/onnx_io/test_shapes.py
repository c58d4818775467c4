"""Declared shapes that contradict the operators do no harm; all others stay as they are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sws_compress as sws
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.read.shapes import correct_shapes
from tests.onnx_io.models import few_values, lenet
from tests.onnx_io.nested_models import in_a_loop, in_a_scan, in_branches, in_functions

WEIGHTS = few_values((64, 32), [0, 1, 2], [8, 1, 1])


def net(output=(4, 32), inner=None, *, operators=("MatMul", "Relu"), dtype=TensorProto.FLOAT):
    """y = relu(x W), with any shapes declared for y and for the product."""
    nodes = [helper.make_node(operators[0], ["x", "W"], ["h"]), helper.make_node(operators[1], ["h"], ["y"])]
    info = [] if inner is None else [helper.make_tensor_value_info("h", TensorProto.FLOAT, inner)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 64])],
        [helper.make_tensor_value_info("y", dtype, output)],
        [numpy_helper.from_array(WEIGHTS, "W")],
        value_info=info,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("output", [(1, 32), (4, 30), (4, 32, 1), ()])
def test_wrong_outputs_are_corrected(output, tmp_path):
    onnx.save(net(output), tmp_path / "net.onnx")
    result = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx")
    assert result.notes[0] == "declared shapes that contradict the operators are corrected: 'y'"
    entry = onnx.load(tmp_path / "small.onnx").graph.output[0]
    assert [size.dim_value for size in entry.type.tensor_type.shape.dim] == [4, 32]


@pytest.mark.parametrize("inner", [(4, 30), (4,), (1, 32)])
def test_wrong_inner_shapes_are_corrected(inner, tmp_path):
    onnx.save(net(inner=inner), tmp_path / "net.onnx")
    model = read_model(tmp_path / "net.onnx")
    assert correct_shapes(model)
    (product,) = [node.outputs[0] for node in model.graph if node.op_type == "MatMul"]
    assert tuple(product.shape) == (4, 32)


def test_shapes_that_depend_on_data(tmp_path):
    """Such shapes are kept in the written file, because nothing infers them again."""
    model = net((2, "k"), operators=("MatMul", "NonZero"), dtype=TensorProto.INT64)
    del model.graph.node[1:]
    model.graph.node.append(helper.make_node("NonZero", ["h"], ["z"]))
    model.graph.node.append(helper.make_node("Identity", ["z"], ["y"]))
    model.graph.value_info.append(helper.make_tensor_value_info("z", TensorProto.INT64, [3, 77]))
    onnx.save(model, tmp_path / "net.onnx")
    assert sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx").notes


@pytest.mark.parametrize("make", [net, lenet, in_branches, in_a_loop, in_a_scan, in_functions])
def test_right_shapes_stay(make, tmp_path):
    onnx.save(make(), tmp_path / "net.onnx")
    model = read_model(tmp_path / "net.onnx")
    before = [(value.name, str(value.shape)) for graph in model.graphs() for value in graph.outputs]
    assert correct_shapes(model) == ()
    assert [(value.name, str(value.shape)) for graph in model.graphs() for value in graph.outputs] == before


def test_wrong_shapes_in_branches_are_corrected(tmp_path):
    model = in_branches()
    branch = model.graph.node[0].attribute[1].g
    branch.output[0].CopyFrom(helper.make_tensor_value_info(branch.output[0].name, TensorProto.FLOAT, [2, 3, 4]))
    onnx.save(model, tmp_path / "net.onnx")
    feeds = {"x": np.ones((2, 40), "f4"), "flag": np.array(True)}
    assert sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", example_inputs=feeds).notes
