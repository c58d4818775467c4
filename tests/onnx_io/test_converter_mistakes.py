"""Operators that the converter of onnx gets wrong mean the same after it, wherever they stand."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sws_compress.errors import ModelError
from sws_compress.onnx_io.read.convert import converted
from sws_compress.ort.compare import outputs_in_runtime

X = np.random.default_rng(0).standard_normal((2, 3, 11, 8)).astype(np.float32)


def net(body, opset, **tensors):
    """A model of one image input; ``body`` computes y, and ``tensors`` are its initialisers."""
    text = f'<ir_version: 6, opset_import: ["": {opset}]> g (float[2, 3, h, w] x) => (y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in tensors.items())
    return model


def both(model, x=X):
    """The only output of a model, before and after conversion."""
    before = outputs_in_runtime(model.SerializeToString(), {"x": x})[0]
    return before, outputs_in_runtime(converted(Path("net.onnx"), model, 13).SerializeToString(), {"x": x})[0]


def scales(height, width):
    return np.array([1, 1, height, width], np.float32)


ENLARGING = list(itertools.product((1, 1.3, 2, 2.7), repeat=2))
REDUCING = list(itertools.product((1, 0.3, 0.5, 0.7), repeat=2))


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize(
    ("operator", "opset", "factors"), [("Upsample", 9, ENLARGING), ("Resize", 10, [*ENLARGING, *REDUCING])]
)
def test_sizes_change_as_before(operator, opset, factors, mode):
    for pair in factors:
        before, after = both(net(f'y = {operator}<mode="{mode}">(x, s)', opset, s=scales(*pair)))
        assert np.array_equal(before, after), pair


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_scales_that_were_attributes(mode):
    before, after = both(net(f'y = Upsample<mode="{mode}", scales=[1.0, 1.0, 1.3, 2.5]>(x)', 8))
    assert np.array_equal(before, after)


def test_linear_sizes_change_in_any_direction():
    before, after = both(net('y = Resize<mode="linear">(x, s)', 10, s=scales(0.3, 2.7)))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("opset", [8, 11, 12])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3])
def test_hardmax_goes_on_flattening(opset, axis):
    attribute = "" if axis is None else f"<axis={axis}>"
    before, after = both(net(f"y = Hardmax{attribute}(x)", opset))
    assert np.array_equal(before, after)


BRANCHES = """
    m = ReduceMean<keepdims=0>(x)
    bright = Greater(m, limit)
    y = If(bright) <
        then_branch = then () => (float[2, 3, h2, w2] t) { t = %s },
        else_branch = else () => (float[2, 3, h2, w2] e) { e = Neg(x) }
    >
"""


@pytest.mark.parametrize(
    ("node", "opset"), [('Upsample<mode="linear">(x, s)', 9), ('Resize<mode="nearest">(x, s)', 10), ("Hardmax(x)", 12)]
)
def test_branches_that_random_inputs_do_not_reach(node, opset):
    model = net(BRANCHES % node, opset, s=scales(1.3, 2), limit=np.array(2, np.float32))
    before, after = both(model, X + 5)
    assert np.array_equal(before, after)
    assert before.max() > 0.5  # -x is below 0


def test_newer_versions_keep_their_modes():
    body = 'y = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(x, r, s)'
    before, after = both(net(body, 11, r=np.array([], np.float32), s=scales(2, 3)))
    assert np.array_equal(before, after)
    (node,) = converted(Path("net.onnx"), net('y = Resize<mode="nearest">(x, s)', 10, s=scales(2, 3)), 13).graph.node[
        -1:
    ]
    assert [entry.name for entry in node.attribute] == ["mode"]  # whole factors agree as they are


def test_what_no_rounding_does_is_refused():
    mixed = net('y = Resize<mode="nearest">(x, s)', 10, s=scales(0.5, 1.3))
    with pytest.raises(ModelError, match="got 10 and a nearest Resize 'y' that may both enlarge and reduce: export"):
        converted(Path("net.onnx"), mixed, 13)
    hidden = net(BRANCHES % 'Resize<mode="nearest">(x, s2)', 10, s=scales(1.3, 2), limit=np.array(2, np.float32))
    hidden.graph.node.insert(0, onnx.helper.make_node("Exp", ["s"], ["s2"]))
    with pytest.raises(ModelError, match="that may both enlarge and reduce"):
        converted(Path("net.onnx"), hidden, 13)
