"""Values inside of a network, in branches and loops as well, on inputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from sws_compress.onnx_io.analyse.products import products_of
from sws_compress.ort.activations import OutputErrors, Trials, activations

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)


def model_of(text: str) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    proto.graph.initializer.append(numpy_helper.from_array(W, "w"))
    return ir.from_proto(proto)


BRANCHES = """g (float[n,4] x, bool c, bool d) => (float[n,4] y) {
  y = If (c) <
    then_branch = outer () => (float[n,4] a) {
      r = Relu(x)
      a = If (d) <
        then_branch = inner () => (float[n,4] t) { s = Neg(r)  t = MatMul(s, w) },
        else_branch = unused () => (float[n,4] e) { e = Identity(r) } > },
    else_branch = other () => (float[n,4] b) { b = Identity(x) } > }"""


def test_values_of_nested_branches() -> None:
    model = model_of(BRANCHES)
    taken, untaken = (np.array(flag) for flag in (True, False))
    feeds = [{"x": X, "c": c, "d": d} for c, d in ((taken, taken), (taken, untaken), (untaken, taken))]
    found = list(activations(model, ["s", "r", "x"], feeds))
    np.testing.assert_array_equal(found[0]["s"], -np.maximum(X, 0))
    assert [each["s"].size for each in found] == [12, 0, 0]
    assert [each["r"].size for each in found] == [12, 12, 0]
    assert all(each["x"] is X for each in found)
    (product,) = products_of(model, "w")
    assert (product.value, product.stacks) == ("s", 0)


LOOP = """g (float[n,4] x, int64 count) => (float[n,4] y) <bool go = {{1}}> {{
  y = Loop (count, go, x) <body = body (int64 i, bool before, float[n,4] state) => (bool after, float[n,4] next) {{
    after = Identity(before)  s = {value}  p = MatMul(s, w)  next = Tanh(p) }}> }}"""


def test_values_of_loops_are_stacked() -> None:
    model = model_of(LOOP.format(value="Neg(state)"))
    (found,) = activations(model, ["s"], [{"x": X, "count": np.array(3)}])
    states = [X]
    for _ in range(2):
        states.append(np.tanh(-states[-1] @ W))
    np.testing.assert_allclose(found["s"], -np.stack(states), rtol=1e-5, atol=1e-6)
    (product,) = products_of(model, "w")
    assert (product.value, product.stacks) == ("s", 1)


def test_values_of_changing_shape_are_left_out() -> None:
    model = model_of(
        """g (float[n,4] x, int64 count) => (float[m,4] y) <bool go = {1}> {
        y = Loop (count, go, x) <body = body (int64 i, bool before, float[k,4] state) => (bool after, float[l,4] next) {
          after = Identity(before)  p = MatMul(state, w)  next = Concat<axis = 0>(p, p) }>
        z = Neg(x) }"""
    )
    found = list(activations(model, ["state", "z"], [{"x": X, "count": np.array(count)} for count in (3, 1)]))
    assert [each["state"].size for each in found] == [0, 12]
    assert all((each["z"] == -X).all() for each in found)


def test_values_of_scans_are_stacked() -> None:
    model = model_of(
        """g (float[n,4] x, float[4] first) => (float[4] last, float[n,4] y) {
        last, y = Scan <num_scan_inputs = 1, scan_output_directions = [1],
          body = body (float[4] state, float[4] row)
          => (float[4] next, float[4] out) { next = Add(state, row)  s = Relu(next)  out = MatMul(s, w) }>
          (first, x) }"""
    )
    (found,) = activations(model, ["s"], [{"x": X, "first": np.zeros(4, np.float32)}])
    np.testing.assert_allclose(found["s"], np.maximum(np.cumsum(X, axis=0), 0), rtol=1e-5, atol=1e-6)


def test_weights_in_branches_are_tried() -> None:
    model = model_of(BRANCHES)
    flags = {"c": np.array(True), "d": np.array(True)}
    trials = Trials(model, ("w",), [{"x": X, **flags}])
    expected = -np.maximum(X, 0) @ W
    error = np.square(-np.maximum(X, 0) @ (1.1 * W) - expected).sum() / np.square(expected).sum()
    np.testing.assert_allclose(trials.error({"w": 1.1 * W}), error, rtol=1e-4)


def test_errors_are_those_of_what_is_finite() -> None:
    expected, found = np.array([3.0, np.nan, 4.0, np.inf]), np.array([3.0, 7.0, 4.5, 8.0])
    errors = OutputErrors(1)
    errors.add(0, expected, found)
    assert errors.mean == pytest.approx(0.25 / 25)
    errors.add(0, expected, np.full(4, np.nan))
    assert errors.mean == pytest.approx((0.25 + 25) / 50)
    nothing = OutputErrors(1)
    nothing.add(0, np.array([np.nan]), np.array([1.0]))
    assert nothing.mean == 0
