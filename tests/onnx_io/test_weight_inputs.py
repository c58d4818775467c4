"""Whatever reaches a product is a weight, by the kind of the operator and not only by its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import sws_compress as sws
from sws_compress.onnx_io.analyse.weights import find_weights, skipped_weights

FLOAT = TensorProto.FLOAT
CONTRIB = "com.microsoft"


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def net(nodes: list, tensors: dict[str, np.ndarray], inputs: dict[str, tuple], rank: int) -> onnx.ModelProto:
    """A model whose inputs are given by type and shape, and whose output y has so many dimensions."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *entry) for name, entry in inputs.items()],
        [helper.make_tensor_value_info("y", FLOAT, [f"y{axis}" for axis in range(rank)])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def one(operator: str, inputs: str, tensors: dict, feeds: dict, rank: int = 2, domain: str = "", **attributes: object):
    return net([helper.make_node(operator, inputs.split(), ["y"], domain=domain, **attributes)], tensors, feeds, rank)


X, IMAGE = {"x": (FLOAT, ["n", 64])}, {"x": (FLOAT, [1, 16, 9, 9])}
W = {"W": normal(64, 128)}
KERNEL = {"W": normal(32, 16, 3, 3)}
EXPERTS = {"up": normal(4, 128, 64), "up_bias": normal(4, 128), "down": normal(4, 64, 128)}
FOUND = {
    "left factor": one("MatMul", "W x", W, {"x": (FLOAT, [128, "n"])}),
    "transposed product": one("TransposeMatMul", "x W", {"W": normal(128, 64)}, X, domain=CONTRIB, transB=1),
    "fused product": one("FusedMatMul", "x W", W, X, domain=CONTRIB),
    "fused convolution": one("FusedConv", "x W", KERNEL, IMAGE, 4, CONTRIB, activation="Relu"),
    "transposed convolution": one("ConvTranspose", "x W", {"W": normal(16, 32, 3, 3)}, IMAGE, 4),
    "positions": one("GatherND", "W i", W, {"i": (TensorProto.INT64, ["n", 1])}),
    "elements": one("GatherElements", "W i", W, {"i": (TensorProto.INT64, ["n", 128])}),
    "sum of products": one("Einsum", "x W", W, X, equation="ni,ij->nj"),
    "attention": one("Attention", "x W b", {"W": normal(64, 192), "b": normal(192)}, {"x": (FLOAT, [1, 5, 64])}, 3,
                     CONTRIB, num_heads=4),
    "experts": one("MoE", "x r up up_bias down", EXPERTS, X | {"r": (FLOAT, ["n", 4])}, domain=CONTRIB, k=1),
    "modulated kernel": net(
        [helper.make_node("Mul", ["W", "s"], ["m"]), helper.make_node("Conv", ["x", "m"], ["y"])],
        KERNEL, IMAGE | {"s": (FLOAT, [1, 16, 1, 1])}, 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOUND)
def test_weights_of_every_kind_of_product_are_compressed(kind: str, tmp_path: Path) -> None:
    onnx.save(FOUND[kind], tmp_path / "net.onnx")
    result = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", sws.WeightsOnly(components=16))
    weights = {"up", "down"} if kind == "experts" else {"W"}
    assert result.mixtures.keys() == weights
    assert result.ratio > 5


def test_matrices_of_operators_that_are_not_known_are_weights() -> None:
    matrices = {"W": normal(64, 128), "b": normal(300)}
    model = ir.from_proto(one("NewProduct", "x W b", matrices, X, domain=CONTRIB))
    assert [weight.name for weight in find_weights(model)] == ["W"]
    (skipped,) = skipped_weights(model)
    assert (skipped.name, skipped.reason) == ("b", "is not read as a weight by NewProduct")
    assert find_weights(ir.from_proto(one("NewProduct", "x W b", matrices, X, domain="somebody.else"))) == ()


@pytest.mark.parametrize("operator", ["SkipLayerNormalization", "RotaryEmbedding", "QMoE", "BiasGelu", "QLinearAdd"])
def test_scales_biases_and_tables_of_known_operators_are_none(operator: str) -> None:
    assert find_weights(ir.from_proto(one(operator, "x W", W, X, domain=CONTRIB))) == ()


def test_what_scales_the_input_of_a_convolution_is_no_kernel() -> None:
    nodes = [helper.make_node("Mul", ["x", "gain"], ["m"]), helper.make_node("Conv", ["m", "W"], ["y"])]
    model = ir.from_proto(net(nodes, KERNEL | {"gain": normal(1, 16, 9, 9)}, IMAGE, 4))
    assert [weight.name for weight in find_weights(model)] == ["W"]
