"""What stays unchanged in a compressed file is named with the true reason, in notes and in refusals."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from sws_compress.errors import ModelError
from sws_compress.onnx_io.analyse.left_dense import dense_notes, dense_tensors, quantised
from sws_compress.onnx_io.analyse.nothing_to_do import refuse_nothing_to_do
from tests.onnx_io.models import as_ir, graph_model

FLOAT = TensorProto.FLOAT
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def net(nodes, tensors, *, inputs=64, outputs=64):
    return as_ir(graph_model(nodes, tensors, [("x", FLOAT, ["n", inputs])], [("y", FLOAT, ["n", outputs])]))


def dense_and_packed():
    """W is packed; P is only added, s is small, and D is not read at all."""
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["h"]),
        helper.make_node("Add", ["h", "P"], ["k"]),
        helper.make_node("MatMul", ["k", "s"], ["l"]),
        helper.make_node("MatMul", ["l", "V"], ["y"]),
    ]
    tensors = {"W": normal(64, 64), "P": normal(1, 64), "s": normal(64, 2), "V": normal(2, 200), "D": normal(10, 30)}
    return net(nodes, tensors, outputs=200)


def quantised_model():
    tensors = {
        "W": RANDOM.integers(-127, 127, (64, 64)).astype(np.int8),
        "scale": np.float32(0.02),
        "i": np.array([64, 64]),
        "B": normal(20, 64)[0],
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["W", "scale"], ["w"]),
        helper.make_node("Reshape", ["w", "i"], ["v"]),
        helper.make_node("MatMul", ["x", "v"], ["h"]),
        helper.make_node("Add", ["h", "B"], ["y"]),
    ]
    return net(nodes, tensors)


def test_every_float_that_is_not_packed_is_listed_with_the_reason():
    found = dense_tensors(dense_and_packed(), {"W"}, reasons={"V": "was not asked for"})
    assert [(each.name, each.stored_bytes, each.reason) for each in found] == [
        ("V", 1600, "was not asked for"),
        ("D", 1200, "is read by no operator"),
        ("s", 512, "has 128 elements, fewer than 256"),
        ("P", 256, "is not read as a weight by Add"),
    ]
    assert dense_tensors(dense_and_packed(), {"W"})[0].reason.startswith("holds more than 256 distinct values")


def test_the_note_has_the_share_and_the_largest_three():
    (note,) = dense_notes(dense_and_packed(), {"W"}, 10_000, reasons={})
    assert note.startswith("35.7 % of the file are floating-point tensors left dense: 'V' (1,600 bytes) holds more")
    assert note.endswith("and 1 more")
    assert "'P'" not in note


@pytest.mark.parametrize(
    ("packed", "file_bytes", "notes"),
    [
        ({"W"}, 3568 * 20, 0),  # exactly 5 %
        ({"W"}, 3568 * 20 - 1, 1),
        ({"W", "V", "D"}, 1000, 0),  # 768 bytes
    ],
)
def test_little_is_not_noted(packed, file_bytes, notes):
    assert len(dense_notes(dense_and_packed(), packed, file_bytes, reasons={})) == notes


def test_quantised_weights_are_told_from_other_integers():
    (found,) = quantised(quantised_model())
    assert (found.name, found.stored_bytes, found.reason) == ("W", 4096, "is int8, read by DequantizeLinear")
    assert quantised(dense_and_packed()) == ()


def test_integers_that_are_not_packed_are_said():
    (note,) = dense_notes(quantised_model(), (), 5000, reasons={"W": "is kept"})
    assert note.startswith("82.2 % of the file are integers left as they are: 'W' (4,096 bytes) is int8, read by ")
    assert "DequantizeLinear, and is kept; 'i' (16 bytes) is int64, read by Reshape, and has 2 elements" in note
    assert dense_notes(quantised_model(), {"W"}, 5000, reasons={}) == ()


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [
        ("QLinearConv", ["x", "s", "z", "W", "s", "z", "s", "z"]),
        ("QLinearMatMul", ["x", "s", "z", "W", "s", "z", "s", "z"]),
        ("MatMulInteger", ["x", "W"]),
        ("ConvInteger", ["x", "W"]),
        ("DynamicQuantizeMatMul", ["f", "W", "s", "z"]),
        ("MatMulNBits", ["f", "W", "s"]),
    ],
)
def test_weights_of_integer_operators_are_quantised(operator, inputs):
    domain = "com.microsoft" if operator in ("DynamicQuantizeMatMul", "MatMulNBits") else ""
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["y"], domain=domain)],
        "g",
        [helper.make_tensor_value_info(inputs[0], TensorProto.UINT8, None)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [onnx.numpy_helper.from_array(np.ones((64, 64), np.uint8), "W")]
        + [onnx.numpy_helper.from_array(np.ones(1, np.float32), name) for name in ("s", "z")],
    )
    (found,) = quantised(ir.from_proto(helper.make_model(graph)))
    assert (found.name, found.reason) == ("W", f"is uint8, read by {operator}")


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        (quantised_model(), ["it is quantised already, 'W' (4,096 bytes) is int8, read by DequantizeLinear"]),
        (
            net(
                [helper.make_node("Sign", ["V"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
                {"V": normal(64, 64)},
            ),
            ["'V' (16,384 bytes) is not read as a weight by Sign"],
        ),
        (
            net(
                [helper.make_node("Gemm", ["x", "W", "b"], ["y"])],
                {"W": normal(3, 3), "b": normal(1, 3)[0]},
                inputs=3,
                outputs=3,
            ),
            ["'W' (36 bytes) has 9 elements, fewer than 256", "'b' (12 bytes) is not read as a weight by Gemm"],
        ),
        (net([helper.make_node("Relu", ["x"], ["y"])], {}), ["it holds no floating-point tensors"]),
    ],
    ids=["quantised", "computed", "small", "none"],
)  # fmt: skip
def test_a_refusal_names_the_largest_tensors_and_the_true_reason(model, reasons):
    with pytest.raises(ModelError, match="must have a float weight of at least 256 elements, got none: ") as error:
        refuse_nothing_to_do("net.onnx", model, ())
    for reason in reasons:
        assert reason in str(error.value)
    assert "small enough" not in str(error.value)
