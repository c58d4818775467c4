"""Models whose inputs are not any numbers: what is drawn for them, and what is said where nothing fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import sws_compress as sws
from sws_compress.report.distances import untold_lines
from tests.models import gaussian

HEAD = '<ir_version: 8, opset_import: ["": 18]> '
TWO = "m = MatMul(x, w) \n y = MatMul(m, v)"
FITTING = {
    "sum of dimensions": """g (float[b, s, 64] x,
        float[b, p, 64] past, float[b, 1, "p + s"] mask) => (float[b, s, 40] y)
    {
        all = Concat<axis = 1>(past, x) \n t = Transpose<perm = [0, 2, 1]>(all)
        a = MatMul(x, t) \n am = Add(a, mask) \n z = Softmax(am) \n o = MatMul(z, all)
        m = MatMul(o, w) \n y = MatMul(m, v) }""",
    "sample rate": """g (float[n, 64] x, int64 sr) => (float[n, k] y) {
        c = Constant<value = int64 {16000}>() \n e = Equal(sr, c)
        y = If(e) <then_branch = a () => (float[n, k] z1) { m = MatMul(x, w) \n z1 = MatMul(m, v) },
                   else_branch = b () => (float[n, k] z2) { i = Constant<value_ints = [7, 7]>() \n z2 = Reshape(x, i) }>
    }""",
    "flag": """g (float[n, k] x, bool[1] on) => (float[n, u] y) {
        y = If(on) <then_branch = a () => (float[n, u] z1) {
                        i1 = Constant<value_ints = [-1, 64]>() \n q = Reshape(x, i1)
                        m = MatMul(q, w) \n z1 = MatMul(m, v) },
                    else_branch = b () => (float[n, u] z2) {
                        i2 = Constant<value_ints = [7, 77]>() \n z2 = Reshape(x, i2) }>
    }""",
    "text": "g (float[n, 64] x, string[n] t) => (float[n, 40] y, float[n] s) { " + TWO + " \n s = Cast<to = 1>(t) }",
    "logarithm": "g (float[n, 64] x0) => (float[n, 40] y) { x = Log(x0) \n " + TWO + " }",
    "optional": """g (float[n, 64] x, optional(float[n, 40]) t) => (float[n, 40] y) {
        m = MatMul(x, w) \n y0 = MatMul(m, v) \n h = OptionalHasElement(t)
        y = If(h) <then_branch = a () => (float[n, 40] z1) { e = OptionalGetElement(t) \n z1 = Add(y0, e) },
                   else_branch = b () => (float[n, 40] z2) { z2 = Identity(y0) }> }""",
    "long padding": """g (float[n, 64, t] x) => (float[n, u, 40] y) {
        p = Constant<value_ints = [0, 0, 300, 0, 0, 300]>() \n q = Pad<mode = "reflect">(x, p)
        r = Transpose<perm = [0, 2, 1]>(q) \n m = MatMul(r, w) \n y = MatMul(m, v) }""",
}
SEQUENCE = """g (seq(float[n, 64]) xs) => (float[n, 40] y) {
    i = Constant<value = int64 {0}>() \n x = SequenceAt(xs, i) \n m = MatMul(x, w) \n y = MatMul(m, v) }"""
FIXED = (
    "g (float[n, m] x0) => (float[7, 40] y) { i = Constant<value_ints = [7, 64]>() \n x = Reshape(x0, i) \n"
    + TWO
    + " }"
)


def network(path: Path, text: str) -> Path:
    model = parser.parse_model(HEAD + text)
    weights = (gaussian(64, 96, seed=1), gaussian(96, 40, seed=2))
    model.graph.initializer.extend(map(numpy_helper.from_array, weights, ("w", "v")))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("kind", FITTING)
def test_inputs_are_drawn_to_fit(tmp_path: Path, kind: str) -> None:
    source = network(tmp_path / "net.onnx", FITTING[kind])
    result = sws.compress(source, tmp_path / "small.onnx", sws.WeightsOnly(components=256), strict=True)
    assert 0 < result.output_error < 0.05
    assert result.outputs == sws.verify(source, result.output).outputs


@pytest.mark.parametrize(("text", "reason"), [(SEQUENCE, "seq(tensor(float))"), (FIXED, "Reshape")])
def test_where_nothing_fits_the_reason_is_told(tmp_path: Path, text: str, reason: str) -> None:
    source = network(tmp_path / "net.onnx", text)
    (note,) = sws.compress(source, tmp_path / "small.onnx").notes
    assert note.startswith("outputs were not compared, only weights: the model runs on no random inputs (")
    assert note.endswith("give inputs that fit (--inputs)")
    assert reason in note
    assert "/onnxruntime" not in note
    (tmp_path / "small.onnx").unlink()
    for request in (sws.WeightsOnly(), sws.LowBit()):
        with pytest.raises(sws.DataError):
            sws.compress(source, tmp_path / "small.onnx", request, strict=True)
    assert not (tmp_path / "small.onnx").exists()


def test_sequences_may_be_given(tmp_path: Path) -> None:
    source = network(tmp_path / "net.onnx", SEQUENCE)
    feeds = {"xs": [gaussian(3, 64), gaussian(2, 64)]}
    result = sws.compress(source, tmp_path / "small.onnx", example_inputs=feeds, strict=True)
    assert result.outputs == sws.verify(source, result.output, inputs=feeds).outputs


@pytest.mark.parametrize(
    ("last", "found"),
    [("a = Abs(y0) \n b = Neg(a) \n y = Log(b)", "holds no finite number"), ("y = Slice(y0, zero, zero)", "is empty")],
)
def test_outputs_that_tell_nothing_are_named(tmp_path: Path, last: str, found: str) -> None:
    head = "g (float[n, 64] x) => (float[k, 40] y) <int64[1] zero = {0}>"
    source = network(tmp_path / "net.onnx", f"{head} {{ m = MatMul(x, w) \n y0 = MatMul(m, v) \n {last} }}")
    result = sws.compress(source, tmp_path / "small.onnx")
    line = f"output 'y' {found} on these inputs: it was not compared; give others (--inputs)"
    assert result.warnings == (line,)
    assert np.isnan(result.output_error)
    verification = sws.verify(source, source)
    assert not verification.passed
    assert untold_lines(verification.outputs) == (line,)
    with pytest.raises(sws.DataError, match="must be compared with the original's when strict is set"):
        sws.compress(source, tmp_path / "other.onnx", strict=True)
    assert not (tmp_path / "other.onnx").exists()
