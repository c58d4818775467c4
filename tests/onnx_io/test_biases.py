"""Constants behind weights: what is added to them is added to the outputs of the weight, and nothing else reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sws_compress.onnx_io.analyse.biases import Bias, bias_of
from sws_compress.onnx_io.analyse.products import products_of

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)


def floats(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def model_of(nodes: list[onnx.NodeProto], tensors: dict[str, Array], outputs: tuple[str, ...] = ("y",)) -> Any:
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, None)],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def found_in(model: onnx.ModelProto, weight: str = "w") -> Bias | None:
    graph = ir.from_proto(model)
    (product,) = products_of(graph, weight)
    values = graph.graph.initializers[weight].const_value
    assert values is not None
    groups, outputs, _ = product.layout.rows(values.numpy()).shape
    return bias_of(graph, weight, product.layout, (groups, outputs))


node = helper.make_node
W = floats(6, 4)
KERNEL = floats(6, 2, 3)
NORM = {"s": floats(6), "o": floats(6), "m": floats(6), "v": np.abs(floats(6)) + 1}

LINEAR = {
    "Gemm": ([node("Gemm", ["x", "w", "b"], ["y"], transB=1, alpha=2.0, beta=0.5)], {"w": W, "b": floats(6)}, (3, 4)),
    "Gemm of a row": ([node("Gemm", ["x", "w", "b"], ["y"], transB=1)], {"w": W, "b": floats(1, 6)}, (3, 4)),
    "Gemm of a weight first": ([node("Gemm", ["w", "x", "b"], ["y"])], {"w": W, "b": floats(6, 1)}, (4, 3)),
    "MatMul and Add": (
        [node("MatMul", ["x", "w"], ["h"]), node("Add", ["b", "h"], ["y"])],
        {"w": W.T.copy(), "b": floats(6)},
        (2, 3, 4),
    ),
    "a weight first, and Add": (
        [node("MatMul", ["w", "x"], ["h"]), node("Add", ["h", "b"], ["y"])],
        {"w": W, "b": floats(6, 1)},
        (4, 3),
    ),
    "Conv": ([node("Conv", ["x", "w", "b"], ["y"], group=2)], {"w": KERNEL, "b": floats(6)}, (1, 4, 9)),
    "Conv and Add": (
        [node("Conv", ["x", "w"], ["h"], group=2), node("Add", ["h", "b"], ["y"])],
        {"w": KERNEL, "b": floats(1, 6, 1)},
        (1, 4, 9),
    ),
    "Conv and a moved bias": (
        [
            node("Conv", ["x", "w"], ["h"], group=2),
            node("Transpose", ["b"], ["t"], perm=[1, 0]),
            node("Add", ["h", "t"], ["y"]),
        ],
        {"w": KERNEL, "b": floats(1, 6)},
        (1, 4, 9),
    ),
}


@pytest.mark.parametrize("name", LINEAR)
def test_what_is_added_to_a_bias_changes_outputs_like_the_weight(name: str) -> None:
    """A weight and a bias whose changes cancel each other, on inputs that are all 1."""
    nodes, tensors, shape = LINEAR[name]
    feeds = {"x": np.ones(shape, np.float32)}
    model = model_of(nodes, tensors)
    bias = found_in(model)
    assert bias is not None
    assert bias.name == "b"
    changes = RANDOM.standard_normal(6)
    inputs = tensors["w"].size // 6
    (product,) = products_of(ir.from_proto(model), "w")
    rows = product.layout.rows(tensors["w"])
    weight = product.layout.weight(rows - changes.reshape(*rows.shape[:2], 1) / inputs, tensors["w"].shape)
    before = ReferenceEvaluator(model).run(None, feeds)[0]
    changed = {**tensors, "w": weight.astype(np.float32), "b": bias.added(tensors["b"], changes)}
    assert changed["b"].dtype == np.float32
    after = ReferenceEvaluator(model_of(nodes, changed)).run(None, feeds)[0]
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert (
        np.abs(ReferenceEvaluator(model_of(nodes, {**changed, "w": tensors["w"]})).run(None, feeds)[0] - before).max()
        > 0.1
    )


def test_the_mean_of_a_batch_norm_is_subtracted() -> None:
    nodes = [node("Conv", ["x", "w"], ["h"], group=2), node("BatchNormalization", ["h", "s", "o", "m", "v"], ["y"])]
    tensors = {"w": KERNEL, **NORM}
    bias = found_in(model_of(nodes, tensors))
    assert bias is not None
    assert bias.name == "m"
    changes = RANDOM.standard_normal(6)
    x = {"x": floats(1, 4, 9)}
    first, second = (
        ReferenceEvaluator(model_of(nodes, {**tensors, "m": values})).run(None, x)[0]
        for values in (tensors["m"], bias.added(tensors["m"], changes))
    )
    gains = tensors["s"] / np.sqrt(tensors["v"] + 1e-5)
    np.testing.assert_allclose((second - first)[0], np.outer(changes * gains, np.ones(7)), atol=1e-4)


def test_both_weights_of_an_lstm_have_a_half_of_its_bias() -> None:
    tensors = {"w": floats(1, 12, 4), "r": floats(1, 12, 3), "b": floats(1, 24)}
    nodes = [node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=3)]
    model, changes = model_of(nodes, tensors), RANDOM.standard_normal(12)
    biases = [found_in(model, name) for name in "wr"]
    assert all(bias is not None and bias.name == "b" for bias in biases)
    x = {"x": floats(5, 2, 4)}
    found = []
    for bias in biases:
        assert bias is not None
        changed = {**tensors, "b": bias.added(tensors["b"], changes)}
        found.append(ReferenceEvaluator(model_of(nodes, changed)).run(None, x)[0])
        assert (changed["b"] != tensors["b"]).sum() == 12
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    wider = {**tensors, "w": np.concatenate([tensors["w"], changes[None, :, None].astype(np.float32)], axis=2)}
    ones = np.concatenate([x["x"], np.ones((5, 2, 1), np.float32)], axis=2)
    np.testing.assert_allclose(
        ReferenceEvaluator(model_of(nodes, wider)).run(None, {"x": ones})[0], found[0], atol=1e-5
    )


PRODUCT, ADDED = node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["y"])
MATRIX = {"w": W.T.copy(), "b": floats(6)}
NORM_INPUTS = ["h", "s", "o", "m", "v"]

OTHERS = {
    "none": ([node("Gemm", ["x", "w"], ["y"], transB=1)], {"w": W}),
    "beta 0": ([node("Gemm", ["x", "w", "b"], ["y"], transB=1, beta=0.0)], {"w": W, "b": floats(6)}),
    "one for all": ([node("Gemm", ["x", "w", "b"], ["y"], transB=1)], {"w": W, "b": floats(1)}),
    "one per row": ([node("Gemm", ["x", "w", "b"], ["y"], transB=1)], {"w": W, "b": floats(3, 6)}),
    "read twice": ([PRODUCT, node("Add", ["h", "b"], ["t"]), node("Add", ["t", "b"], ["y"])], MATRIX),
    "seen outside": ([PRODUCT, ADDED], MATRIX),
    "behind a function": ([PRODUCT, node("Relu", ["h"], ["r"]), node("Add", ["r", "b"], ["y"])], MATRIX),
    "no constant": ([PRODUCT, node("Add", ["h", "x"], ["y"])], {"w": floats(4, 4)}),
    "training": (
        [
            node("Conv", ["x", "w"], ["h"], group=2),
            node("BatchNormalization", NORM_INPUTS, ["y", "", ""], training_mode=1),
        ],
        {"w": KERNEL, **NORM},
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_constants_stay(name: str) -> None:
    outputs = ("h", "y") if name == "seen outside" else ("y",)
    assert found_in(model_of(*OTHERS[name], outputs)) is None
