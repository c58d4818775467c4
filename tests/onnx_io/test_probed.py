"""The values that an error is measured on: those behind the outputs that tell most of it."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from sws_compress.onnx_io.write.probed import MOST_PARTS, score_names


def scores(outputs: str, body: str) -> tuple[str, ...]:
    text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[2,4] x, float[2,4] z) => ({outputs})
        <float[1,4] c = {{1, 2, 3, 4}}> {{ a = Abs(x) b = Neg(a) {body} }}"""
    return score_names(ir.from_proto(onnx.parser.parse_model(text)))


@pytest.mark.parametrize(
    ("outputs", "body", "names"),
    [
        ("float[2,4] y", "y = Exp(b)", ("y",)),
        ("float[2,4] y", "y = Softmax(b)", ("b",)),
        ("int64[2] y", "y = ArgMax <axis = 1, keepdims = 0> (b)", ("b",)),
        ("float[2,4] y, float[2,4] u", "y = Softmax(b) u = Sigmoid(b)", ("b",)),
        ("float[2,8] y", "s = Sigmoid(b) e = Exp(a) y = Concat <axis = 1> (e, s)", ("e", "b")),
        ("float[2,8] y", "e = Exp(a) p = Concat <axis = 1> (e, b) y = Softmax(p)", ("e", "b")),
        ("float[3,4] y", "e = Exp(a) y = Concat <axis = 0> (e, c)", ("y",)),  # nothing but one value and a constant
        ("float[5,4] y", "e = Exp(a) y = Concat <axis = 0> (e, b, c)", ("e", "b")),
        ("float[4,4] y", "y = Concat <axis = 0> (b, z)", ("b",)),  # no weight changes an input
        ("float[4,4] y", "y = Concat <axis = 0> (x, z)", ("y",)),
        ("float[n,4] y", f"y = Concat <axis = 0> ({', '.join(['b'] * (MOST_PARTS + 1))})", ("y",)),
        (
            "int64[2,8] y",
            "i = ArgMax <axis = 1> (b) j = ArgMax <axis = 1> (a) y = Concat <axis = 0> (i, j)",
            ("b", "a"),
        ),
    ],
)
def test_scores(outputs: str, body: str, names: tuple[str, ...]) -> None:
    assert scores(outputs, body) == names
