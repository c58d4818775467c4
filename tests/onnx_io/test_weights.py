"""The initialisers that are weights, and those that are not, with the reason."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.errors import ModelError
from sws_compress.onnx_io.analyse.weights import find_weights, skipped_weights
from tests.onnx_io.models import as_ir, few_values, lenet, matmul_model
from tests.onnx_io.test_computed_tables import causal_mask, learned, mel, rotary, stft

WEIGHTS = few_values((64, 64), [0, 1, 2], [8, 1, 1])


def test_weights_that_are_found_and_those_that_are_not():
    model = as_ir(lenet())
    assert [(weight.name, weight.shape) for weight in find_weights(model, smallest=1024)] == [
        ("0.weight", (300, 784)),
        ("2.weight", (100, 300)),
    ]
    reasons = {entry.name: entry.reason for entry in skipped_weights(model, smallest=1024)}
    assert reasons["4.weight"] == "has 1000 elements, fewer than 1024"
    assert reasons["0.bias"] == "is not read as a weight by Gemm"
    assert [weight.name for weight in find_weights(model, smallest=1000)] == ["0.weight", "2.weight", "4.weight"]


def test_weights_shared_by_two_nodes_are_found_once():
    model = matmul_model(WEIGHTS)
    model.graph.node.insert(0, helper.make_node("MatMul", ["W", "W"], ["V"]))
    model.graph.node[1].input[1] = "V"
    (weight,) = find_weights(as_ir(model))
    assert (weight.name, weight.operators) == ("W", ("MatMul",))


def test_weights_of_other_operators_and_types_are_left_out():
    model = matmul_model(WEIGHTS)
    model.graph.node[0].op_type = "Add"
    assert find_weights(as_ir(model)) == ()
    assert "is not read as a weight by" in skipped_weights(as_ir(model))[0].reason
    half = matmul_model(WEIGHTS.astype(np.float16))
    assert find_weights(as_ir(half))[0].values.dtype == np.float16
    only = {"types": (ir.DataType.FLOAT,)}
    assert find_weights(as_ir(half), **only) == ()
    assert skipped_weights(as_ir(half), **only)[0].reason == "is float16, not float"


def test_nan_and_infinity_name_their_tensor():
    weights = WEIGHTS.copy()
    weights[0, 0], weights[3, 1] = np.nan, -np.inf
    with pytest.raises(ModelError, match="weights of 'W' must be finite, got 2 NaN or infinite of 4096"):
        find_weights(as_ir(matmul_model(weights)))


def model_reading(values, operator, *, through=()):
    """A model in which ``operator`` reads the tensor T behind the operators in ``through``."""
    name, nodes = "T", []
    for number, kind in enumerate(through):
        attributes = {"perm": [1, 0]} if kind == "Transpose" else {"to": TensorProto.FLOAT} if kind == "Cast" else {}
        nodes.append(helper.make_node(kind, [name], [f"t{number}"], **attributes))
        name = f"t{number}"
    inputs = [name, "i"] if operator == "Gather" else ["x", name]
    nodes.append(helper.make_node(operator, inputs, ["y"]))
    entry = ("i", TensorProto.INT64) if operator == "Gather" else ("x", TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*entry, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, "T")],
    )
    return as_ir(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


@pytest.mark.parametrize(
    ("values", "operator", "reason"),
    [
        (rotary(), "Gather", "is a table of sinusoids, not learned"),
        (stft(), "Conv", "is a table of sinusoids, not learned"),
        (mel(), "MatMul", "is a filter bank, not learned"),
        (causal_mask(-np.inf), "Add", "is not read as a weight"),
        (rotary(), "Mul", "is not read as a weight"),
        (learned("gaussian").astype(np.float32), "Add", "is not read as a weight"),
    ],
)
def test_what_is_left_alone_and_why(values, operator, reason):
    model = model_reading(values, operator)
    assert find_weights(model) == ()
    (skipped,) = skipped_weights(model)
    assert reason in skipped.reason
    assert skipped.shape == values.shape


@pytest.mark.parametrize(
    ("values", "operator", "is_weight"),
    [
        (stft(), "Conv", True),
        (mel(), "MatMul", True),
        (rotary(), "MatMul", True),
        (rotary(), "Gather", False),
        (rotary(), "Mul", rotary().size >= 4096),
        (causal_mask(-1e4), "MatMul", False),
    ],
)
def test_tables_are_weights_where_wanted_if_only_products_or_arithmetic_read_them(values, operator, is_weight):
    model = model_reading(values, operator)
    assert find_weights(model) == ()
    assert [weight.name for weight in find_weights(model, tables=True)] == ["T"] * is_weight


def test_a_learned_position_embedding_is_a_weight_where_it_is_looked_up():
    positions = learned("smooth positions").astype(np.float32)
    assert [weight.name for weight in find_weights(model_reading(positions, "Gather"))] == ["T"]
    added = model_reading(positions, "Add")
    assert find_weights(added) == ()
    assert positions.size >= 4096
    assert [weight.table for weight in find_weights(added, tables=True)] == [True]
    assert find_weights(model_reading(causal_mask(-np.inf), "Add"), tables=True) == ()


def test_weights_are_found_behind_operators_that_move_values():
    values = learned("gaussian").astype(np.float16)
    (weight,) = find_weights(model_reading(values, "MatMul", through=("Identity", "Transpose", "Cast")))
    assert (weight.name, weight.operators, weight.values.dtype) == ("T", ("MatMul",), np.float16)
    assert find_weights(model_reading(values, "MatMul", through=("Relu",))) == ()


def test_a_weight_behind_padding_is_found():
    model = matmul_model(WEIGHTS)
    model.graph.node.insert(0, helper.make_node("Pad", ["W", "p"], ["V"]))
    model.graph.node[1].input[1] = "V"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 3, 0, 3]), "p"))
    assert [weight.name for weight in find_weights(as_ir(model))] == ["W"]
