"""Weights behind arithmetic of constants are computed once; everything else stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import sws_compress as sws
from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.onnx_io.read.lift import lift_constants
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.fold_weights import fold_weights

FLOAT = TensorProto.FLOAT


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def node(operator: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def net(nodes: list[onnx.NodeProto], tensors: dict[str, np.ndarray], last: str = "w") -> onnx.ModelProto:
    """y = x w for a w of 64 rows that ``nodes`` compute."""
    graph = helper.make_graph(
        [*nodes, node("MatMul", f"x {last}", "y")],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", FLOAT, ["n", "m"])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)


def quantised_and_back(zero: np.ndarray, scale: np.ndarray, **attributes: int) -> onnx.ModelProto:
    nodes = [node("QuantizeLinear", "V s z", "q", **attributes), node("DequantizeLinear", "q s z", "w", **attributes)]
    return net(nodes, {"V": normal(64, 80), "s": scale, "z": zero})


TWO_STEPS = [node("Div", "V n", "u"), node("Mul", "u g", "w")]
FOLDED = {
    "quantised and back": quantised_and_back(np.int8(0), np.float32(0.02)),
    "quantised by channel": quantised_and_back(np.zeros(80, np.int8), np.full(80, 0.02, np.float32), axis=1),
    "scaled": net([node("Mul", "V g", "w")], {"V": normal(64, 80), "g": np.float32(0.7)}),
    "masked": net([node("Mul", "V m", "w")], {"V": normal(64, 80), "m": (normal(64, 80) > 0).astype(np.float32)}),
    "weight norm": net(
        [node("ReduceL2", "V a", "n"), *TWO_STEPS], {"V": normal(64, 80), "g": normal(1, 80), "a": np.array([0])}
    ),
    "low rank update": net(
        [node("MatMul", "A B", "d"), node("Add", "V d", "w")],
        {"V": normal(64, 80), "A": normal(64, 8), "B": normal(8, 80)},
    ),
    "transposed": net([node("Tanh", "V", "t"), node("Transpose", "t", "w")], {"V": normal(80, 64)}),
    "constant node": net(
        [
            helper.make_node("Constant", [], ["V"], value=numpy_helper.from_array(normal(64, 80))),
            node("Sign", "V", "w"),
        ],
        {},
    ),
}


def read(proto: onnx.ModelProto) -> ir.Model:
    model = ir.from_proto(proto)
    lift_constants(model)
    return model


@pytest.mark.parametrize("name", FOLDED)
def test_the_result_is_a_weight_and_the_outputs_stay(name: str) -> None:
    model = read(FOLDED[name])
    assert not [weight for weight in find_weights(model) if weight.name == "V"]
    (folded,) = fold_weights(model)
    assert folded == ("w" if name == "transposed" else "V")
    assert list(model.graph.initializers) == [folded]
    assert [each.op_type for each in model.graph] == ["MatMul"]
    assert [weight.shape for weight in find_weights(model)] == [(64, 80)]
    feeds = {"x": normal(5, 64)}  # ONNX Runtime rounds activations to integers where weights are dequantised
    (before,), (after,) = (ReferenceEvaluator(each).run(None, feeds) for each in (FOLDED[name], ir.to_proto(model)))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


KEPT = {
    "only moved": net([node("Transpose", "V", "w")], {"V": normal(80, 64)}),
    "low rank": net([node("MatMul", "A B", "w")], {"A": normal(64, 8), "B": normal(8, 80)}),
    "larger": net([node("Mul", "V g", "w")], {"V": normal(64, 16), "g": normal(40, 64, 1)}),
    "quantised before": net(
        [node("DequantizeLinear", "V s z", "w")],
        {"V": np.ones((64, 80), np.int8), "s": np.float32(0.1), "z": np.int8(0)},
    ),
    "random": net(
        [node("RandomNormalLike", "V", "r"), node("Add", "V r", "w")], {"V": normal(64, 80)}
    ),
    "not finite": net([node("Log", "V", "w")], {"V": normal(64, 80)}),
    "a table": net(
        [node("Greater", "V t", "b"), node("Cast", "b", "w", to=FLOAT)], {"V": normal(64, 80), "t": np.float32(0)}
    ),
    "small": net([node("Neg", "V", "w")], {"V": normal(64, 2)}),
    "shape depends on values": net(
        [node("NonZero", "V", "i"), node("Cast", "i", "f", to=FLOAT), node("MatMul", "V f", "w")], {"V": normal(64, 2)}
    ),
    "huge": net(
        [node("Neg", "V", "n"), node("Expand", "n e", "h"), node("ReduceSum", "h", "w", keepdims=0)],
        {"V": normal(64, 80), "e": np.array([1 << 20, 64, 80])},
    ),
    "of an input": net([node("Mul", "x V", "u"), node("Transpose", "u", "w")], {"V": normal(1, 64)}),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_other_parts_stay(name: str) -> None:
    model = read(KEPT[name])
    before = to_bytes(model)
    assert fold_weights(model) == ()
    assert to_bytes(model) == before


def test_a_node_without_inputs_is_no_part() -> None:
    model = read(net([helper.make_node("Neg", [""], ["w"])], {}))
    assert fold_weights(model) == ()


def test_parts_that_share_constants_are_folded_one_after_the_other() -> None:
    nodes = [
        node("Mul", "V g", "w"),
        node("MatMul", "x w", "h"),
        node("Transpose", "w", "t"),
        node("Neg", "t", "u"),
        node("MatMul", "h u", "k"),
        node("Mul", "U g", "v"),
    ]
    tensors = {"V": normal(64, 80), "U": normal(64, 90), "g": np.float32(0.7)}
    proto = net(nodes, tensors, last="v")
    proto.graph.node[-1].input[0] = "k"
    model = read(proto)
    folded = fold_weights(model)
    assert set(folded) == {"V", "U"}
    (difference,) = compare_outputs(proto.SerializeToString(), to_bytes(model))
    assert difference.largest_relative < 1e-6


def wrapped(kind: str) -> onnx.ModelProto:
    """y = x w, with w = V g computed beside the product: in a branch, a loop or a function; g is of the body itself."""
    scale = helper.make_node("Constant", [], ["g"], value=numpy_helper.from_array(np.float32([[0.7]])))
    body = [scale, node("Mul", "V g", "w"), node("MatMul", "x w", "h")]
    weight, x = normal(64, 64), helper.make_tensor_value_info("x", FLOAT, [3, 64])
    y, held = (helper.make_tensor_value_info(name, FLOAT, [3, 64]) for name in ("y", "h"))
    tensors, inputs, functions = {"V": weight}, [x], []
    if kind == "function":
        opsets = [helper.make_opsetid("", 19)]
        functions = [helper.make_function("local", "Layer", ["x", "V"], ["h"], body, opsets)]
        nodes = [helper.make_node("Layer", ["x", "V"], ["y"], domain="local")]
    elif kind == "branches":
        other = [scale, node("Mul", "V g", "w"), node("Neg", "w", "u"), node("MatMul", "x u", "h")]
        branches = {
            name: helper.make_graph(part, name, [], [held])
            for name, part in (("then_branch", body), ("else_branch", other))
        }
        inputs.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
        nodes = [helper.make_node("If", ["c"], ["y"], **branches)]
    else:
        value = [
            helper.make_tensor_value_info(name, *kind)
            for name, *kind in (("i", TensorProto.INT64, []), ("c", TensorProto.BOOL, []))
        ]
        start = helper.make_tensor_value_info("s", FLOAT, [3, 64])
        inner = [scale, node("Mul", "V g", "w"), node("MatMul", "s w", "h"), node("Identity", "c", "d")]
        loop = helper.make_graph(
            inner, "body", [*value, start], [helper.make_tensor_value_info("d", TensorProto.BOOL, []), held]
        )
        nodes = [helper.make_node("Loop", ["m", "", "x"], ["y"], body=loop)]
        tensors["m"] = np.array(2)
    graph = helper.make_graph(nodes, "g", inputs, [y], [numpy_helper.from_array(a, n) for n, a in tensors.items()])
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=9)


@pytest.mark.parametrize("kind", ["function", "loop", "branches"])
def test_weights_are_found_behind_constants_of_bodies_and_functions(kind: str, tmp_path: Path) -> None:
    proto = wrapped(kind)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, tmp_path / "net.onnx")
    model = read(proto)
    folded = fold_weights(model)
    assert folded == (("V",) if kind != "branches" else ())  # both branches need V
    assert [weight.shape for weight in find_weights(model)] == [(64, 64)]
    feeds = {"x": normal(3, 64)} | ({"c": np.array(True)} if kind == "branches" else {})
    (before,), (after,) = (ReferenceEvaluator(each).run(None, feeds) for each in (proto, ir.to_proto(model)))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    result = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", sws.WeightsOnly(components=16))
    assert result.ratio > 4
    assert 0 < result.output_error < 0.5


def test_a_branch_keeps_its_names_apart() -> None:
    """Both branches compute a w of their own; each becomes an initialiser."""
    proto = wrapped("branches")
    places = {"a": np.array([0]), "b": np.array([64]), "axis": np.array([1])}
    tensors = {"V": normal(64, 70), "U": normal(64, 70) + 1, **places}
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors.items())
    for branch, weight in zip(proto.graph.node[0].attribute, "VU", strict=True):
        product = branch.g.node[1]
        product.input[0], product.output[0] = weight, "long"
        branch.g.node.insert(2, node("Slice", "long a b axis", "w"))
    model = read(proto)
    assert sorted(fold_weights(model)) == ["u_1", "w_1"]
    folded = ir.to_proto(model)
    onnx.checker.check_model(folded)
    for condition in (True, False):
        feeds = {"x": normal(3, 64), "c": np.array(condition)}
        (before,), (after,) = (ReferenceEvaluator(each).run(None, feeds) for each in (proto, folded))
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


UNDER = {
    "needed by two parts": net(
        [node("Mul", "V g", "w"), node("Mul", "V f", "u"), node("MatMul", "x u", "h"), node("MatMul", "h w", "z")],
        {"V": normal(64, 64), "g": normal(1, 64), "f": np.float32(0.7)},
    ),
    "repeated": net(
        [node("Neg", "V", "n"), node("Tile", "n r", "w")], {"V": normal(64, 40), "r": np.array([1, 3])}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNDER)
def test_the_initialiser_is_the_weight_where_the_result_is_larger_or_others_need_it(name: str) -> None:
    model = read(UNDER[name])
    nodes = [each.op_type for each in model.graph]
    assert fold_weights(model) == ()
    assert [each.op_type for each in model.graph] == nodes
    assert [weight.name for weight in find_weights(model)] == ["V"]


def test_few_values_under_scales_pack_without_loss(tmp_path: Path) -> None:
    """Ternary weights with a scale for each channel: the product has 240 values a row, the weights have 3."""
    ternary = np.random.default_rng(0).choice(np.float32([-1, 0, 1]), (64, 400), p=[0.2, 0.6, 0.2])
    proto = net([node("Mul", "V g", "w")], {"V": ternary, "g": normal(1, 400)})
    onnx.save(proto, tmp_path / "net.onnx")
    result = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx")
    assert result.output_error == 0
    (row,) = [row for row in result.tensors if row.name == "V"]
    assert row.distinct_values == 3
    assert row.file_bits < 2


@pytest.mark.parametrize("request_", [sws.WeightsOnly(), sws.LowBit(bits=4)], ids=["weights only", "low bit"])
@pytest.mark.parametrize("name", ["quantised by channel", "weight norm"])
def test_such_models_are_compressed(tmp_path: Path, name: str, request_: sws.WeightsOnly | sws.LowBit) -> None:
    onnx.save(FOLDED[name], tmp_path / "net.onnx")
    result = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", request_)
    assert result.ratio > 4
    assert "weights that the graph makes of constants are computed first: 'V'" in result.notes
    (difference,) = compare_outputs(tmp_path / "net.onnx", tmp_path / "small.onnx")
    assert 0 < difference.largest_relative < 0.3
