"""The weights that can stay in few bits while the model runs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper

from sws_compress.onnx_io.analyse.affine_weights import affine_weights, weights_left_dense
from tests.onnx_io.models import graph_model

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def names(found):
    return [(weight.name, axis) for weight, axis in found]


def test_which_weights_can_stay_in_few_bits():
    random = np.random.default_rng(4)

    def matrix(*shape):
        return random.standard_normal(shape).astype(np.float32)

    nodes = [
        helper.make_node("MatMul", ["x", "right"], ["a"]),
        helper.make_node("MatMul", ["left", "x"], ["b"]),
        helper.make_node("Gemm", ["x", "scaled"], ["c"], alpha=2.0),
        helper.make_node("Gemm", ["x", "plain"], ["d"], transB=1),
        helper.make_node("Gather", ["table", "i"], ["e"]),
        helper.make_node("Gather", ["columns", "i"], ["f"], axis=1),
        helper.make_node("MatMul", ["x", "batched"], ["g"]),
        helper.make_node("MatMul", ["x", "both"], ["h"]),
        helper.make_node("Gather", ["both", "i"], ["k"]),
    ]
    names_of_outputs = "abcdefghk"
    tensors = {
        "right": matrix(8, 40), "left": matrix(40, 4), "scaled": matrix(8, 40), "plain": matrix(40, 8),
        "table": matrix(40, 8), "columns": matrix(8, 40), "batched": matrix(2, 8, 40), "both": matrix(8, 40),
    }  # fmt: skip
    shapes = {"a": [4, 40], "b": [40, 8], "c": [4, 40], "d": [4, 40], "e": [2, 8], "f": [8, 2], "g": [2, 4, 40]}
    shapes |= {"h": [4, 40], "k": [2, 40]}
    model = ir.from_proto(
        graph_model(
            nodes,
            tensors,
            [("x", FLOAT, [4, 8]), ("i", INT64, [2])],
            [(name, FLOAT, shapes[name]) for name in names_of_outputs],
        )
    )
    assert names(affine_weights(model, smallest=1)) == [("right", 0), ("plain", 1), ("table", 1)]
    reasons = {skipped.name: skipped.reason for skipped in weights_left_dense(model, smallest=1)}
    assert reasons.keys() == {"left", "scaled", "columns", "batched", "both"}
    assert reasons["both"] == "no low-bit kernel for how Gather and MatMul reads it"
