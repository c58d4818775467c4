"""Low-bit weights have ONNX Runtime's layout, and look-ups and products use exactly these weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.onnx_io.analyse.affine_weights import affine_weights
from sws_compress.onnx_io.format.blocked_weight import BlockedWeight
from sws_compress.onnx_io.write.matmul_nbits import in_float_arithmetic, rewrite_affine
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.low_bit_readback import executed_columns
from sws_compress.ort.session import check_runs, session
from tests.onnx_io.models import graph_model


def values_of(weight):
    """The matrix by its definition, in slow and obvious loops."""
    expanded = np.empty(weight.indices.shape, np.float32)
    for (i, j), k in np.ndenumerate(weight.indices):
        block = j // weight.block_size
        zero = 1 << (weight.bits - 1) if weight.zeros is None else int(weight.zeros[i, block])
        expanded[i, j] = np.float32(int(k) - zero) * weight.scales[i, block]
    return expanded


def random_weight(rows, columns, *, bits, block_size=16, zeros=True, seed=0):
    random = np.random.default_rng(seed)
    blocks = -(-columns // block_size)
    return BlockedWeight(
        random.integers(0, 1 << bits, (rows, columns)).astype(np.uint8),
        random.uniform(-0.2, 0.3, (rows, blocks)).astype(np.float32),
        random.integers(0, 1 << bits, (rows, blocks)).astype(np.uint8) if zeros else None,
        bits,
        block_size,
    )


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def product_model(matrix, operator="MatMul", **attributes):
    """y = x W or x W^T, + b for Gemm."""
    inputs, outputs = matrix.shape[::-1] if attributes.get("transB") else matrix.shape
    tensors = {"W": matrix}
    if operator == "Gemm":
        tensors["b"] = np.arange(outputs, dtype=np.float32)
    node = helper.make_node(operator, ["x", *tensors], ["y"], **attributes)
    return graph_model([node], tensors, [("x", FLOAT, ["n", inputs])], [("y", FLOAT, ["n", outputs])])


def rewritten(model, weights, *, integer_arithmetic=False):
    changed = ir.from_proto(model)
    rewrite_affine(changed, weights, integer_arithmetic=integer_arithmetic)
    return to_bytes(changed)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("bits", "size", "columns"), [(4, 16, 70), (4, 32, 64), (8, 32, 70), (8, 64, 200)])
def test_the_layout_is_that_of_onnxruntimes_own_quantiser(bits, size, columns, symmetric):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    matrix = np.random.default_rng(1).standard_normal((columns, 6)).astype(np.float32)
    quantizer = MatMulNBitsQuantizer(product_model(matrix), bits=bits, block_size=size, is_symmetric=symmetric)
    quantizer.process()
    theirs = quantizer.model.model
    (node,) = theirs.graph.node
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in theirs.graph.initializer}
    arrays = [stored[name] for name in node.input[1:]]
    per_byte = 8 // bits

    def unpacked(packed):
        rows = packed.reshape(6, -1)
        return np.stack([rows >> (bits * i) & ((1 << bits) - 1) for i in range(per_byte)], -1).reshape(6, -1)

    blocks = -(-columns // size)
    ours = BlockedWeight(
        unpacked(arrays[0])[:, :columns].astype(np.uint8),
        arrays[1].reshape(6, blocks),
        None if symmetric else unpacked(arrays[2])[:, :blocks].astype(np.uint8),
        bits,
        size,
    )
    again = onnx.load_from_string(rewritten(product_model(matrix), {"W": ours}))
    (mine,) = again.graph.node
    assert {a.name: helper.get_attribute_value(a) for a in mine.attribute} == {
        a.name: helper.get_attribute_value(a) for a in node.attribute
    }
    mine_stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in again.graph.initializer}
    packed = mine_stored["W.indices"]
    assert packed.shape == arrays[0].shape
    whole = columns // size  # behind the last weight of a row their padding is the zero point, ours is 0
    assert np.array_equal(packed[:, :whole], arrays[0][:, :whole])
    assert np.array_equal(mine_stored["W.scales"].reshape(-1), arrays[1].reshape(-1))
    assert (len(mine.input) == 3) == symmetric
    (difference,) = compare_outputs(theirs.SerializeToString(), again.SerializeToString())
    assert difference.largest_relative < 1e-6


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("operator", "transposed"), [("MatMul", False), ("Gemm", False), ("Gemm", True)])
def test_products_use_exactly_these_weights(operator, transposed, bits, zeros):
    weight = random_weight(9, 70, bits=bits, zeros=zeros)
    matrix = values_of(weight) if transposed else np.ascontiguousarray(values_of(weight).T)
    dense = product_model(matrix, operator, **({"transB": 1} if transposed else {}))
    data = rewritten(dense, {"W": weight})
    check_runs(data)
    columns, values = executed_columns(data, "W")
    assert np.array_equal(columns, np.arange(70))
    assert np.array_equal(values, values_of(weight).T)
    (difference,) = compare_outputs(dense.SerializeToString(), data, batch=5)
    assert difference.largest_relative < 1e-5
    assert [tensor.name for tensor in onnx.load_from_string(data).graph.initializer if tensor.name == "W"] == []


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(("bits", "columns"), [(4, 48), (4, 41), (4, 64), (8, 48), (8, 41)])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0, 4)])
def test_looked_up_rows_are_bit_exact(bits, columns, zeros, shape):
    weight = random_weight(30, columns, bits=bits, zeros=zeros)
    node = helper.make_node("Gather", ["E", "i"], ["y"])
    sizes = [f"d{k}" for k in range(len(shape))]
    dense = graph_model([node], {"E": values_of(weight)}, [("i", INT64, sizes)], [("y", FLOAT, [*sizes, columns])])
    data = rewritten(dense, {"E": weight})
    check_runs(data)
    asked = np.random.default_rng(3).integers(-30, 30, shape)
    (rows,) = session(data).run({"i": asked})
    assert rows.shape == (*shape, columns)
    assert np.array_equal(rows, values_of(weight)[asked])
    assert executed_columns(data, "E") is None


def test_an_embedding_that_is_the_last_layer_too_is_stored_once():
    weight = random_weight(300, 48, bits=4)
    nodes = [
        helper.make_node("Gather", ["E", "i"], ["e"]),
        helper.make_node("Gemm", ["e", "E"], ["y"], transB=1),
    ]
    dense = graph_model(nodes, {"E": values_of(weight)}, [("i", INT64, ["n"])], [("y", FLOAT, ["n", 300])])
    ((found, axis),) = affine_weights(ir.from_proto(dense), smallest=1)
    assert (found.name, axis) == ("E", 1)
    data = rewritten(dense, {"E": weight})
    stored = [tensor.name for tensor in onnx.load_from_string(data).graph.initializer]
    assert stored.count("E.indices") == 1
    assert len(data) < dense.ByteSize() / 3
    (difference,) = compare_outputs(dense.SerializeToString(), data)
    assert difference.largest_relative < 1e-5


def test_products_inside_branches():
    weight = random_weight(8, 32, bits=4)
    matrix = np.ascontiguousarray(values_of(weight).T)

    def branch(name, operator):
        node = helper.make_node(operator, ["x", "W"], [name])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, FLOAT, ["n", 8])])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("a", "MatMul"), else_branch=branch("b", "MatMul"))
    dense = graph_model(
        [node], {"W": matrix}, [("x", FLOAT, ["n", 32]), ("c", TensorProto.BOOL, [])], [("y", FLOAT, ["n", 8])]
    )
    data = rewritten(dense, {"W": weight}, integer_arithmetic=True)
    check_runs(data)
    feeds = {"x": np.eye(3, 32, dtype=np.float32), "c": np.array(True)}
    (difference,) = compare_outputs(dense.SerializeToString(), in_float_arithmetic(data), feeds)
    assert difference.largest_absolute == 0
    assert b"accuracy_level" in data
    assert b"accuracy_level" not in in_float_arithmetic(data)


def test_integer_arithmetic_rounds_activations_and_nothing_else():
    weight = random_weight(64, 256, bits=8, block_size=32)
    dense = product_model(np.ascontiguousarray(values_of(weight).T)).SerializeToString()
    data = rewritten(onnx.load_from_string(dense), {"W": weight}, integer_arithmetic=True)
    (rounded,) = compare_outputs(dense, data)
    (exact,) = compare_outputs(dense, in_float_arithmetic(data))
    assert exact.largest_relative < 1e-5 < rounded.largest_relative < 0.03


def test_names_that_are_taken_are_left_alone():
    weight = random_weight(8, 32, bits=4)
    matrix = np.ascontiguousarray(values_of(weight).T)
    nodes = [helper.make_node("MatMul", ["x", "W"], ["a"]), helper.make_node("Add", ["a", "W.scales"], ["y"])]
    tensors = {"W": matrix, "W.scales": np.arange(8, dtype=np.float32)}
    dense = graph_model(nodes, tensors, [("x", FLOAT, ["n", 32])], [("y", FLOAT, ["n", 8])])
    (difference,) = compare_outputs(dense.SerializeToString(), rewritten(dense, {"W": weight}))
    assert difference.largest_relative < 1e-6
