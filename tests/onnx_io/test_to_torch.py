"""Graphs as torch modules: every operator against ONNX Runtime, gradients, and what is not covered."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, parser

from sws_compress.onnx_io.to_torch.graph_network import GraphNetwork, uncovered
from sws_compress.onnx_io.to_torch.node_attributes import UncoveredError
from sws_compress.onnx_io.to_torch.operator_table import TABLE
from sws_compress.ort.compare import outputs_in_runtime
from tests.onnx_io.operator_cases import CASES, Case


def network_of(proto: onnx.ModelProto) -> GraphNetwork:
    return GraphNetwork(ir.serde.deserialize_model(proto), ())


@pytest.mark.parametrize("case", CASES, ids=[f"{number} {case.name}" for number, case in enumerate(CASES)])
def test_an_operator_computes_what_onnx_runtime_does(case: Case) -> None:
    proto = case.model
    expected = outputs_in_runtime(proto.SerializeToString(), case.feeds)
    with torch.no_grad():
        found = network_of(proto)(*map(torch.from_numpy, case.feeds.values()))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.numpy().dtype == other.dtype
        np.testing.assert_allclose(one.numpy(), other, rtol=2e-4, atol=2e-5)


def test_every_operator_of_the_table_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(TABLE)


SMOOTH = (
    *("AveragePool", "BatchNormalization", "Concat", "Conv", "ConvTranspose", "Einsum", "Expand", "GRU", "Gather"),
    *("GatherElements", "GatherND", "Gelu", "Gemm", "GroupNormalization", "InstanceNormalization", "LRN", "LSTM"),
    *(
        "LayerNormalization",
        "LogSoftmax",
        "LpNormalization",
        "MatMul",
        "MaxPool",
        "Pad",
        "RNN",
        "ReduceL2",
        "ReduceMean",
    ),
    *("Resize", "ScatterElements", "ScatterND", "Sigmoid", "Slice", "Softmax", "Split", "Where"),
)
ONE_OF_EACH = {case.operator: case for case in CASES if case.operator in SMOOTH}
"""The last case of each operator."""


@pytest.mark.parametrize("operator", SMOOTH)
def test_gradients_are_those_of_finite_differences(operator: str) -> None:
    case = ONE_OF_EACH[operator]
    network = network_of(case.model)
    for name, tensor in network._buffers.items():
        assert tensor is not None
        network._buffers[name] = tensor.double() if tensor.is_floating_point() else tensor
    inputs = [torch.from_numpy(each) for each in case.feeds.values()]
    inputs = [each.double().requires_grad_() if each.is_floating_point() else each for each in inputs]

    def outputs(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(each for each in network(*given) if each.is_floating_point())

    assert torch.autograd.gradcheck(outputs, inputs, fast_mode=True)


TWO_WAYS = """
    <ir_version: 8, opset_import: ["": 17]>
    net (float[n, 4] x, bool up) => (float[n, 4] y) {
        h = Relu (x)
        y = If (up) <then_branch = large () => (float[n, 4] a) { a = Mul (h, layer.0.weight) },
                     else_branch = small () => (float[n, 4] b) { c = Constant <value_float = 2.0> () b = Div (h, c) }>
    }
"""


def two_ways() -> onnx.ModelProto:
    proto = parser.parse_model(TWO_WAYS.replace("layer.0.weight", "w"))
    proto.graph.node[1].attribute[0].g.node[0].input[1] = "layer.0.weight"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3, 4], np.float32), "layer.0.weight"))
    return proto


def test_branches_read_the_graph_around_them_and_names_stay() -> None:
    proto = two_ways()
    network = GraphNetwork(ir.serde.deserialize_model(proto), {"layer.0.weight"})
    x = np.array([[-1, 1, 2, 3]], np.float32)
    for up in (True, False):
        feeds = {"x": x, "up": np.array(up)}
        (expected,) = outputs_in_runtime(proto.SerializeToString(), feeds)
        for each in (network, copy.deepcopy(network)):
            (found,) = each(torch.from_numpy(x), torch.tensor(up))
            np.testing.assert_array_equal(found.detach().numpy(), expected)
    ((name, parameter),) = network.named_parameters()
    assert name == "layer.0.weight"
    network(torch.from_numpy(x), torch.tensor(True))[0].sum().backward()
    np.testing.assert_array_equal(parameter.grad, [0, 1, 2, 3])


def test_what_is_not_covered_is_named() -> None:
    proto = two_ways()
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    proto.graph.node.append(helper.make_node("FastGelu", ["h"], ["g"], domain="com.microsoft"))
    proto.graph.node[1].attribute[1].g.node.append(helper.make_node("Hardmax", ["b"], ["m"]))
    model = ir.serde.deserialize_model(proto)
    assert set(uncovered(model)) == {"com.microsoft::FastGelu", "Hardmax"}
    with pytest.raises(UncoveredError, match="Hardmax"):
        GraphNetwork(model, ())


@pytest.mark.parametrize(
    ("case", "named"),
    [
        (Case("Expand", [np.ones((1, 1), np.float32), np.array([1 << 20, 1 << 20])]), "Expand|shape"),
        (Case("ConstantOfShape", [np.array([1 << 40])]), "shape"),
        (Case("Tile", [np.ones((2, 2), np.float32), np.array([1 << 20, 1 << 20])]), "shape"),
        (Case("Pad", [np.ones((2, 2), np.float32), np.array([0, 0, 1 << 20, 1 << 20])]), "shape"),
        (Case("Range", [np.array(each, np.int64) for each in (0, 1 << 40, 1)]), "shape"),
        (Case("Resize", [np.ones((1, 1), np.float32), None, None, np.array([1 << 20, 1 << 20])]), "shape"),
        (Case("Reshape", [np.ones((2, 2), np.float32), np.array([3, 3])]), "Reshape"),
        (Case("Gather", [np.ones((2, 2), np.float32), np.array([5])]), "Gather"),
        (Case("GatherND", [np.ones((2, 2), np.float32), np.array([[5]])]), "GatherND"),
        (Case("MaxPool", [np.ones((1, 1, 4), np.float32)], {"kernel_shape": [2]}, outputs=2), "MaxPool with indices"),
    ],
    ids=lambda value: value.operator if isinstance(value, Case) else "",
)
def test_shapes_that_a_file_makes_up_are_refused(case: Case, named: str) -> None:
    names = ["" if each is None else f"x{number}" for number, each in enumerate(case.inputs)]
    node = helper.make_node(case.operator, names, [f"y{number}" for number in range(case.outputs)], **case.attributes)
    constants = [
        numpy_helper.from_array(each, f"x{number}") for number, each in enumerate(case.inputs) if each is not None
    ]
    outputs = [helper.make_tensor_value_info("y0", TensorProto.FLOAT, None)]
    proto = helper.make_model(helper.make_graph([node], "case", [], outputs, constants))
    with pytest.raises(UncoveredError, match=named):
        network_of(proto)()


def test_values_that_nothing_reads_any_more_are_let_go() -> None:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[n] x) => (float[n] y) '
        "{ a = Exp (x) b = Exp (a) c = Add (a, b) y = Exp (c) }"
    )
    steps = network_of(proto)._body.steps
    assert [set(last) for _, last in steps] == [set(), set(), {"a", "b"}, {"c"}]


def test_values_inside_are_shown_without_what_is_behind_them() -> None:
    proto = two_ways()
    proto.graph.node.append(helper.make_node("Hardmax", ["y"], ["last"]))
    model = ir.serde.deserialize_model(proto)
    assert uncovered(model) == ["Hardmax"]
    assert uncovered(model, ["y"]) == []
    network = GraphNetwork(model, (), ["h"])
    assert [step.attributes.operator for step, _ in network._body.steps] == ["Relu"]
    (found,) = network(torch.tensor([[-1.0, 1, 2, 3]]), torch.tensor(True))
    assert found.tolist() == [[0, 1, 2, 3]]
