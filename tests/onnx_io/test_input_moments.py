"""Second moments that the graph tells, against those of drawn inputs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper

from sws_compress.onnx_io.analyse.input_moments import input_second_moments
from tests.onnx_io.models import graph_model

FLOAT = TensorProto.FLOAT


def test_a_layer_normalisation_tells_the_second_moments_of_its_outputs():
    gain, bias = np.float32([1, 2, 0, -3]), np.float32([0.5, 0, 1, 1])
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain", "bias"], ["n"]),
        helper.make_node("MatMul", ["n", "V"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "W"], ["y"]),
    ]
    tensors = {"gain": gain, "bias": bias, "V": np.eye(4, dtype=np.float32), "W": np.eye(4, dtype=np.float32)}
    model = ir.from_proto(graph_model(nodes, tensors, [("x", FLOAT, ["n", 4])], [("y", FLOAT, ["n", 4])]))
    moments = input_second_moments(model, "V")
    assert np.allclose(moments, [1.25, 4, 1, 10])
    assert input_second_moments(model, "W") is None
    x = np.random.default_rng(5).standard_normal((20000, 4)).astype(np.float32)
    normalised = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) * gain + bias
    assert np.allclose((normalised**2).mean(axis=0), moments, rtol=0.05)
