"""Segments: run one after the other they are the model, and every weight meets inputs that it did not change."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from sws_compress.onnx_io.analyse.bodies import values_inside
from sws_compress.onnx_io.analyse.segments import Segment, segments
from sws_compress.onnx_io.write.part import part_of
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.session import Array, session

HEAD = '<ir_version: 8, opset_import: ["": 17]> net '

CHAIN = """(float[n, 8] x) => (float[n, 8] y, float[n, 8] early) {
    early = MatMul(x, a)
    b2 = MatMul(x, b)
    s = Add(early, b2)
    t = Relu(s)
    u = MatMul(t, c)
    r = Add(u, x)
    y = MatMul(r, d)
}"""

SHARED = """(float[n, 8] x) => (float[n, 8] y) {
    at = Transpose <perm = [1, 0]> (a)
    h = MatMul(x, at)
    t = Tanh(h)
    g = MatMul(t, at)
    p = MatMul(g, b)
    y = Sub(p, h)
}"""

BRANCH = """(float[n, 8] x, bool q) => (float[n, 8] y) {
    h = MatMul(x, a)
    z = If (q) <
        then_branch = yes () => (float[n, 8] w) { w = MatMul(h, b) },
        else_branch = no () => (float[n, 8] v) { v = Add(h, x) }
    >
    y = MatMul(z, c)
}"""

SEQUENCE = """(float[n, 8] x) => (float[n, 8] y) {
    h = MatMul(x, a)
    parts = SplitToSequence <axis = 1> (h, four)
    k = MatMul(h, b)
    y0 = ConcatFromSequence <axis = 1> (parts)
    y = Add(y0, k)
}"""

MULTIPLIED = {
    "chain": {"a": ["x"], "b": ["x"], "c": ["t"], "d": ["r"]},
    "shared": {"a": ["x", "t"], "b": ["g"]},
    "branch": {"a": ["x"], "b": ["h"], "c": ["z"]},
    "sequence": {"a": ["x"], "b": ["h"]},
}
TEXTS = {"chain": CHAIN, "shared": SHARED, "branch": BRANCH, "sequence": SEQUENCE}


def model_of(name: str) -> ir.Model:
    proto = onnx.parser.parse_model(HEAD + TEXTS[name])
    random = np.random.default_rng(0)
    for weight in MULTIPLIED[name]:
        values = random.standard_normal((8, 8)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, weight))
    if name == "sequence":
        proto.graph.initializer.append(numpy_helper.from_array(np.array(4, np.int64), "four"))
    return ir.from_proto(proto)


def cut(name: str, most: int = 1 << 20) -> tuple[ir.Model, tuple[Segment, ...]]:
    model = model_of(name)
    return model, segments(model, MULTIPLIED[name], dict.fromkeys(MULTIPLIED[name], 256), most)


@pytest.mark.parametrize("most", [1 << 20, 1])
@pytest.mark.parametrize("name", TEXTS)
def test_segments_make_what_the_model_makes(name: str, most: int) -> None:
    model, found = cut(name, most)
    feeds: dict[str, Array] = {"x": np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)}
    if name == "branch":
        feeds["q"] = np.array(True)
    runtime = session(to_bytes(model))
    expected = dict(zip([str(value.name) for value in model.graph.outputs], runtime.run(feeds), strict=True))
    values, got = dict(feeds), {}
    for segment in found:
        assert set(segment.inputs) <= values.keys()
        given = {name: values[name] for name in segment.inputs}
        wanted = [*segment.outputs, *(name for name in expected if name in segment.made)]
        if wanted:
            part = part_of(model, given, wanted, {}, values_inside(model))
            runtime = session(to_bytes(part))
            made = {entry.name: array for entry, array in zip(runtime.outputs, runtime.run(given), strict=True)}
            values |= {name: made[name] for name in segment.outputs}
            got |= {name: made[name] for name in wanted if name in expected}
        for name in segment.last:
            del values[name]
    assert values == {}
    assert got.keys() == expected.keys()
    for name, array in got.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-5)


def test_weights_that_meet_the_same_are_together_and_others_apart() -> None:
    assert [segment.weights for segment in cut("chain")[1]] == [("a", "b"), ("c",), ("d",)]
    assert [segment.weights for segment in cut("branch")[1]] == [("a",), ("b",), ("c",)]
    assert [segment.weights for segment in cut("chain", most=1)[1]] == [("a",), ("b",), ("c",), ("d",)]


def test_a_shared_weight_is_in_the_first_segment_that_reads_it() -> None:
    found = cut("shared")[1]
    assert [segment.weights for segment in found] == [("a",), ("b",)]
    assert found[0].read == ("a",)


def test_values_that_are_no_tensors_are_in_one_segment() -> None:
    assert [segment.weights for segment in cut("sequence")[1]] == [("a", "b")]
