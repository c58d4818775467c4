"""A converted model is compared with its file before anything is made of it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.api import compress
from sws_compress.errors import DataError, ModelError
from sws_compress.onnx_io.read.convert import CONVERTED_FROM
from sws_compress.onnx_io.read.model import read_model
from sws_compress.ort.conversion import check_conversion, is_known
from sws_compress.pipelines.verify import verify
from tests.models import gaussian
from tests.onnx_io.models import matmul_model

WEIGHTS = np.random.default_rng(0).normal(0.1, 1, (48, 40)).astype(np.float32)


def test_a_sound_conversion_passes_and_new_models_are_not_compared(tmp_path, monkeypatch):
    onnx.save(matmul_model(WEIGHTS, opset=12), tmp_path / "old.onnx")
    check_conversion(tmp_path / "old.onnx", read_model(tmp_path / "old.onnx"))
    onnx.save(matmul_model(WEIGHTS), tmp_path / "new.onnx")
    model = read_model(tmp_path / "new.onnx")
    monkeypatch.setattr("sws_compress.ort.conversion.compare_outputs", pytest.fail)
    check_conversion(tmp_path / "new.onnx", model)


def test_a_wrong_conversion_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    onnx.save(matmul_model(WEIGHTS, opset=12), tmp_path / "net.onnx")
    wrong = matmul_model(WEIGHTS * 2, opset=13)
    monkeypatch.setattr("sws_compress.onnx_io.read.convert.converted_to", lambda *_: wrong)
    with pytest.raises(ModelError, match=r"opset of .* got 12 and outputs that differ by"):
        check_conversion(tmp_path / "net.onnx", read_model(tmp_path / "net.onnx"))
    with pytest.raises(ModelError, match="outputs that differ by"):
        compress(tmp_path / "net.onnx", tmp_path / "small.onnx")
    assert not (tmp_path / "small.onnx").exists()


def test_versions_that_do_not_run_cannot_be_compared(tmp_path):
    """A Reshape to a fixed size runs on that batch only."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [7, 40])],
        [numpy_helper.from_array(np.array([7, 48]), "shape"), numpy_helper.from_array(WEIGHTS, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7), tmp_path / "n.onnx")
    (note,) = check_conversion(tmp_path / "n.onnx", model := read_model(tmp_path / "n.onnx"))
    assert "from opset 12 to 13 was not compared" in note
    assert note in compress(tmp_path / "n.onnx", tmp_path / "small.onnx").notes
    model.meta[CONVERTED_FROM] = 6
    with pytest.raises(ModelError, match=r"of opset 6 must run on random inputs .*Reshape.*: give inputs \(--inputs\)"):
        check_conversion(tmp_path / "n.onnx", model)


def test_a_resize_whose_scales_are_computed_must_be_compared(tmp_path):
    """Opset 10 rounded in another way for each direction, and nobody knows which one it is."""
    text = """<ir_version: 7, opset_import: ["": 10]> g (float[1, 1, 7, 48] x, float[4] s) => (float[a, b, c, d] y) {
        f = Conv<kernel_shape = [1, 1]>(x, k)
        %s
    }"""
    for opset, line, known in (
        (10, 'y = Resize<mode = "nearest">(f, s)', False),
        (10, 'y = Resize<mode = "nearest">(f, fixed)', True),
        (11, 'y = Resize<mode = "nearest">(f, s, s)', True),
    ):
        model = onnx.parser.parse_model((text % line).replace("10]>", f"{opset}]>"))
        constants = {
            "k": gaussian(16, 1, 1, 1),
            "fixed": np.array([1, 1, 2, 2], np.float32),
            "r": np.zeros(0, np.float32),
        }
        model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
        onnx.save(model, tmp_path / "net.onnx")
        read = read_model(tmp_path / "net.onnx")
        assert is_known(read, opset) is known, line
        assert not is_known(read, 6)


def test_functions_are_inlined_before_a_conversion(tmp_path):
    """The converter of onnx loses them."""
    text = """<ir_version: 8, opset_import: ["": 12, "own": 1]> g (float[1, 48] x) => (float[1, 40] y) {
        a = own.flat(x)
        b = own.flat(a)
        y = MatMul(b, w)
    }
    <opset_import: ["": 12], domain: "own"> flat (a) => (c) {
        b = Squeeze<axes = [0]>(a)
        c = Unsqueeze<axes = [0]>(b)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(WEIGHTS, "w"))
    onnx.save(model, tmp_path / "net.onnx")
    result = compress(tmp_path / "net.onnx", tmp_path / "small.onnx")
    assert result.decoded_difference < 1e-5
    assert result.outputs == verify(tmp_path / "net.onnx", result.output).outputs


def test_sizes_that_convolutions_take_are_tried(tmp_path):
    text = """<ir_version: 7, opset_import: ["": 11]> g (float[n, 3, h, w] x) => (float[n, 16, 1, 1] y) {
        f = Conv<kernel_shape=[3, 3]>(x, k)
        p = MaxPool<kernel_shape=[2, 2]>(f)
        y = GlobalAveragePool(p)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(gaussian(16, 27).reshape(16, 3, 3, 3), "k"))
    source = tmp_path / "net.onnx"
    onnx.save(model, source)
    result = compress(source, tmp_path / "small.onnx")
    assert result.outputs == verify(source, result.output).outputs
    assert result.decoded_difference < 1e-5


def test_a_branch_that_only_the_callers_inputs_reach(tmp_path, monkeypatch):
    """Random inputs have a mean near 0; a wrong operator stands where it is above 2."""
    text = """<ir_version: 7, opset_import: ["": %d]> g (float[4, 48] x) => (float[4, 40] y) {
        m = ReduceMean<keepdims=0>(x)
        bright = Greater(m, limit)
        f = MatMul(x, w)
        y = If(bright) <then_branch = t () => (a) { a = %s(f) }, else_branch = e () => (b) { b = Abs(f) }>
    }"""

    def model(opset, operator):
        proto = onnx.parser.parse_model(text % (opset, operator))
        proto.graph.initializer.append(numpy_helper.from_array(WEIGHTS, "w"))
        proto.graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "limit"))
        return proto

    file = tmp_path / "net.onnx"
    onnx.save(model(12, "Neg"), file)
    monkeypatch.setattr("sws_compress.onnx_io.read.convert.converted_to", lambda *_: model(13, "Relu"))
    dark = {"x": np.random.default_rng(1).standard_normal((4, 48)).astype(np.float32)}
    bright = {"x": dark["x"] + 3}
    check_conversion(file, read_model(file), dark)
    with pytest.raises(ModelError, match="outputs that differ by"):
        check_conversion(file, read_model(file), bright)
    with pytest.raises(ModelError, match="outputs that differ by"):
        compress(file, tmp_path / "small.onnx", example_inputs=bright)
    with pytest.raises(DataError, match="must run on the given inputs"):
        check_conversion(file, read_model(file), {"x": np.zeros((3, 7), np.float32)})
