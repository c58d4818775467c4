"""Vectors that training may move: what only biases and norms read, and nothing that counts or bounds."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import numpy_helper, parser

from sws_compress.onnx_io.analyse.movable_vectors import movable_vectors

TEXT = """
    <ir_version: 8, opset_import: ["": 17]>
    net (float[n, 3, 8] x) => (float[n, 4, 8] y, float[4] shown) {
        c = Conv <pads = [1, 1]> (x, kernel, bias)
        normed = BatchNormalization (c, scale, offset, mean, variance)
        moved = Reshape (column, shape)
        h = Add (normed, moved)
        clipped = Max (h, bound)
        twice = Mul (clipped, both)
        bounded = Min (twice, both)
        single = Mul (bounded, one)
        wide = Add (single, table)
        y = Add (wide, shown)
    }
"""


def test_biases_and_norms_may_move() -> None:
    proto = parser.parse_model(TEXT.replace("y = Add (wide, shown)", "y = Add (wide, out)").replace("shown)", "out)"))
    shapes = {
        "kernel": (4, 3, 3), "bias": (4,), "scale": (4,), "offset": (4,), "mean": (4,), "variance": (4,),
        "column": (4,), "bound": (4, 1), "both": (4, 1), "one": (1,), "table": (4, 8), "out": (4, 1),
    }  # fmt: skip
    for name, shape in shapes.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([4, 1]), "shape"))
    assert movable_vectors(ir.serde.deserialize_model(proto)) == {"bias", "scale", "offset", "column"}
