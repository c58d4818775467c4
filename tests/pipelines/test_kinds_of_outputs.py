"""Outputs and inputs of every type are compared: text, sequences, maps, and numbers that NumPy lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import sws_compress as sws
from sws_compress.errors import VerificationError
from sws_compress.ort.differences import difference, telling_difference
from sws_compress.ort.user_models import run_model
from tests.models import gaussian

BODY = "{ m = MatMul(x, w) \n y = MatMul(m, v) \n"
LABELS = [f"class {i}" for i in range(40)]
KINDS = {
    "sequence": ("(seq(float[n, k]) s)", "s = SequenceConstruct(m, y)", 18),
    "optional": ("(optional(float[n, 40]) s)", "s = Optional(y)", 18),
    "bool": ("(bool[n, 40] s)", "z = Constant<value_float = 0.0>() \n s = Greater(y, z)", 18),
    "int32": ("(int32[n, 40] s)", "f = Constant<value_float = 100.0>() \n g = Mul(y, f) \n s = Cast<to = 6>(g)", 18),
    "float16": ("(float16[n, 40] s)", "s = Cast<to = 10>(y)", 18),
    "double": ("(double[n, 40] s)", "s = Cast<to = 11>(y)", 18),
    "bfloat16": ("(bfloat16[n, 40] s)", "s = Cast<to = 16>(y)", 18),
    "float8": ("(float8e4m3fn[n, 40] s)", "s = Cast<to = 17>(y)", 19),
    "text": ("(string[n] s)", "", 18),
    "maps": ("(float[n, 40] s)", "", 18),
}


def network(path: Path, kind: str, *, second: int = 2) -> Path:
    """x (n, 64) -> MatMul -> MatMul -> an output of one kind."""
    outputs, last, opset = KINDS[kind]
    text = (
        f'<ir_version: 9, opset_import: ["": {opset}, "ai.onnx.ml": 3]> g (float[n, 64] x) => {outputs} {BODY}{last}}}'
    )
    model = parser.parse_model(text)
    if kind == "text":
        labels = {"keys_int64s": list(range(40)), "values_strings": LABELS}
        model.graph.node.append(helper.make_node("ArgMax", ["y"], ["i"], axis=1, keepdims=0))
        model.graph.node.append(helper.make_node("LabelEncoder", ["i"], ["s"], domain="ai.onnx.ml", **labels))
    if kind == "maps":
        model.graph.node.append(
            helper.make_node("ZipMap", ["y"], ["s"], domain="ai.onnx.ml", classlabels_strings=LABELS)
        )
        entry = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        model.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(entry))
    weights = (gaussian(64, 96, seed=1), gaussian(96, 40, seed=second))
    model.graph.initializer.extend(map(numpy_helper.from_array, weights, ("w", "v")))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("request_", [sws.WeightsOnly(components=256), sws.LowBit(bits=8)])
def test_outputs_are_compared(tmp_path: Path, kind: str, request_: sws.WeightsOnly | sws.LowBit) -> None:
    source = network(tmp_path / "net.onnx", kind)
    result = sws.compress(source, tmp_path / "small.onnx", request_)
    if isinstance(request_, sws.WeightsOnly):
        assert result.decoded_difference < 1e-5
    assert [output.name for output in result.outputs] == ["s"]
    assert onnx.load(result.output).graph.output[0].type == onnx.load(source).graph.output[0].type
    assert sws.verify(source, source, tolerance=0).passed
    other = sws.verify(source, network(tmp_path / "other.onnx", kind, second=3))
    assert not other.passed
    assert other.outputs[0].largest_absolute > 0
    sws.inspect(source)
    sws.inspect(result.output)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_calibrated_by_the_values_behind_outputs(tmp_path: Path, kind: str) -> None:
    inputs = gaussian(64, 64, seed=3)
    result = sws.compress(
        network(tmp_path / "net.onnx", kind), tmp_path / "small.onnx", sws.Calibrated(inputs={"x": inputs}, quality=20)
    )
    assert 0.05 < result.score_error < 0.2


@pytest.mark.parametrize("kind", ["text", "maps", "bfloat16"])
def test_expanded_files_keep_their_outputs(tmp_path: Path, kind: str) -> None:
    source = network(tmp_path / "net.onnx", kind)
    sws.compress(source, tmp_path / "small.onnx", sws.WeightsOnly(components=64))
    plain = sws.expand(tmp_path / "small.onnx", tmp_path / "plain.onnx").output
    assert onnx.load(plain).graph.output[0].type == onnx.load(source).graph.output[0].type
    assert sws.verify(tmp_path / "small.onnx", plain, tolerance=1e-6).passed


def test_inputs_that_numpy_lacks_are_drawn(tmp_path: Path) -> None:
    """A bfloat16 input, which is an output too, and is read in a branch."""
    text = """<ir_version: 8, opset_import: ["": 18]>
    g (bfloat16[n, 64] x, bool c) => (float[n, 40] y, bfloat16[n, 64] x) {
        f = If(c) <then_branch = a () => (float[n, 64] f1) { f1 = Cast<to = 1>(x) },
                   else_branch = b () => (float[n, 64] f2) { g = Cast<to = 1>(x) \n f2 = Neg(g) }>
        m = MatMul(f, w)
        y = MatMul(m, v)
    }"""
    model = parser.parse_model(text)
    weights = (gaussian(64, 96, seed=1), gaussian(96, 40, seed=2))
    model.graph.initializer.extend(map(numpy_helper.from_array, weights, ("w", "v")))
    onnx.save(model, tmp_path / "net.onnx")
    result = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", sws.WeightsOnly(components=256))
    assert result.outputs[1].largest_absolute == 0
    assert 0 < result.outputs[0].largest_relative < 0.05
    written = onnx.load(result.output)
    assert written.graph.input[0].type.tensor_type.elem_type == TensorProto.BFLOAT16
    x = gaussian(3, 64)
    answers = run_model(tmp_path / "net.onnx", {"x": x, "c": np.array(True)})
    rounded = (x.view(np.uint32) + 0x7FFF + (x.view(np.uint32) >> 16 & 1) & 0xFFFF0000).view(np.float32)
    np.testing.assert_allclose(answers["y"], rounded @ weights[0] @ weights[1], rtol=1e-4, atol=1e-5)


def test_differences_of_structures() -> None:
    one, two = np.array([1.0, -4.0]), np.array([1.5, -4.0])
    assert difference("y", [one, [two]], [two, [two]]).largest_relative == 0.125
    assert difference("y", [{"a": 1.0, "b": 8.0}], [{"a": 2.0, "b": 8.0}]).largest_relative == 0.125
    assert difference("y", None, None).largest_absolute == 0
    assert difference("y", np.array(["a", "b"], object), np.array(["a", "c"], object)).largest_relative == 1
    assert difference("y", np.array(["a"], object), np.array(["a"], object)).largest_relative == 0
    for left, right in (([one], [one, one]), ([one], one), (None, one), ({"a": 1.0}, {"b": 1.0}), ([one], [one[:1]])):
        with pytest.raises(VerificationError, match=r"^output .* must have .*, got .*: compare the right models$"):
            difference("y", left, right)
    nothing = [np.array([np.nan]), np.array([np.inf])]
    assert np.isnan(telling_difference("y", nothing, nothing).largest_relative)
    assert telling_difference("y", [*nothing, one], [*nothing, one]).largest_relative == 0
    assert telling_difference("y", np.array(["a"], object), np.array(["a"], object)).largest_relative == 0
