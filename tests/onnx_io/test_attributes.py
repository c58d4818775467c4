"""Attributes that change nothing are dropped, all others stay, and the model computes the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.onnx_io.write.attributes import drop_idle_attributes
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.onnx_io.write.strip import strip
from sws_compress.ort.compare import compare_outputs

KERNEL = np.random.default_rng(0).standard_normal((4, 2, 3, 1)).astype(np.float32)


def left(operator, inputs=("x",), *, version=18, domain="", tensors=(), **attributes):
    """The attributes of a node that stay; ``tensors`` are its constant inputs by name."""
    names = list(inputs)
    given = [numpy_helper.from_array(array, name) for name, array in tensors]
    entries = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name == "x"]
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"], domain=domain, **attributes)],
        "g",
        entries,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        given,
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, version)]))
    (node,) = model.graph
    drop_idle_attributes(node, version)
    return {name: attribute.value for name, attribute in node.attributes.items()}


def conv(**attributes):
    return left("Conv", ("x", "k"), tensors=[("k", KERNEL)], **attributes)


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        ({"kernel_shape": [3, 1], "strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4, "auto_pad": "NOTSET"}, {}),
        ({"strides": [1, 2], "group": 1}, {"strides": (1, 2)}),
        ({"pads": [1, 0, 1, 0], "dilations": [2, 1]}, {"pads": (1, 0, 1, 0), "dilations": (2, 1)}),
        ({"group": 2}, {"group": 2}),
        ({"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_UPPER"}),
    ],
)
def test_windows(attributes, kept):
    assert conv(**attributes) == kept


def test_the_shape_of_a_kernel_stays_where_the_kernel_is_not_known():
    assert left("Conv", ("x", "x"), kernel_shape=[3, 1]) == {"kernel_shape": (3, 1)}


@pytest.mark.parametrize(("shape", "kept"), [([-1, 8], {}), ([0, 8], {"allowzero": 1})])
def test_allowzero_matters_to_shapes_with_a_zero(shape, kept):
    assert left("Reshape", ("x", "s"), tensors=[("s", np.array(shape))], allowzero=1) == kept


@pytest.mark.parametrize(
    ("operator", "attributes", "kept"),
    [
        ("Gemm", {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}, {"transB": 1}),
        ("Gemm", {"alpha": 0.5}, {"alpha": 0.5}),
        ("LeakyRelu", {"alpha": 0.01}, {}),
        ("LeakyRelu", {"alpha": 0.02}, {"alpha": pytest.approx(0.02)}),
        ("Softmax", {"axis": -1}, {}),
        ("Softmax", {"axis": 1}, {"axis": 1}),
        ("Transpose", {"perm": [0, 1]}, {"perm": (0, 1)}),  # no default: the order is reversed without it
    ],
)
def test_defaults_of_the_standard(operator, attributes, kept):
    inputs = ("x", "x") if operator == "Gemm" else ("x",)
    assert left(operator, inputs, **attributes) == kept


def test_the_default_is_that_of_the_model_s_version():
    """Softmax normalised along axis 1 by default before version 13."""
    assert left("Softmax", version=12, axis=1) == {}
    assert left("Softmax", version=12, axis=-1) == {"axis": -1}


def test_operators_that_onnx_does_not_define_are_left_alone():
    assert left("Mystery", domain="com.example", version=1, level=0, strides=[1]) == {"level": 0, "strides": (1,)}
    node = ir.node("Softmax", [], {"axis": -1})
    drop_idle_attributes(node, None)
    assert list(node.attributes) == ["axis"]


def test_references_to_attributes_of_a_function_stay():
    """``transB`` is what the caller says, not the default that it happens to resemble."""
    node = helper.make_node("Gemm", ["a", "b"], ["c"])
    node.attribute.add(name="transB", ref_attr_name="flip", type=onnx.AttributeProto.INT)
    function = helper.make_function("mine", "F", ["a", "b"], ["c"], [node], [helper.make_opsetid("", 18)], ["flip"])
    call = helper.make_node("F", ["x", "x"], ["y"], domain="mine", flip=1)
    model = _model([call], [function])
    stripped = ir.from_proto(model)
    strip(stripped)
    (difference,) = compare_outputs(model.SerializeToString(), to_bytes(stripped))
    assert difference.largest_absolute == 0


def test_bodies_in_functions_are_stripped_too():
    def branch(name, axis):
        nodes = [helper.make_node("Softmax", ["a"], [name], axis=axis, name=f"soft {name}", doc_string="why")]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    zero = helper.make_node("Constant", [], ["flag"], value=numpy_helper.from_array(np.array(True)))
    choice = helper.make_node("If", ["flag"], ["b"], then_branch=branch("t", -1), else_branch=branch("e", 0))
    function = helper.make_function("mine", "F", ["a"], ["b"], [zero, choice], [helper.make_opsetid("", 18)])
    model = _model([helper.make_node("F", ["x"], ["y"], domain="mine")], [function])
    stripped = ir.from_proto(model)
    strip(stripped)
    data = to_bytes(stripped)
    assert b"soft" not in data
    assert b"why" not in data
    softmaxes = [node for node in stripped.functions["mine", "F", ""].all_nodes() if node.op_type == "Softmax"]
    assert sorted(list(node.attributes) for node in softmaxes) == [[], ["axis"]]
    (difference,) = compare_outputs(model.SerializeToString(), data)
    assert difference.largest_absolute == 0


def _model(nodes, functions):
    entry, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 3]) for name in "xy")
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    graph = helper.make_graph(nodes, "g", [entry], [result])
    return helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=8)
