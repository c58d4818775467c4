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


@pytest.mark.parametrize("request_", [sws.WeightsOnly(), sws.LowBit(bits=4)], ids=["weights only", "low bit"])
@pytest.mark.parametrize("name", ["quantised by channel", "weight norm"])
def test_such_models_are_compressed(tmp_path: Path, name: str, request_: sws.WeightsOnly | sws.LowBit) -> None:
    onnx.save(FOLDED[name], tmp_path / "net.onnx")
    result = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", request_)
    assert result.ratio > 4
    assert "weights behind operators of constants alone are computed first: 'V'" in result.notes
    (difference,) = compare_outputs(tmp_path / "net.onnx", tmp_path / "small.onnx")
    assert 0 < difference.largest_relative < 0.3
