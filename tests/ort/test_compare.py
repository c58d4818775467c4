"""Differences of outputs, and inputs that are drawn for models whose caller gave none."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from sws_compress.errors import DataError, VerificationError
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.differences import difference
from sws_compress.ort.sample_inputs import sample_inputs, too_many
from sws_compress.ort.session import session
from tests.onnx_io.models import matmul_model

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("expected", "actual", "absolute", "relative"),
    [
        ([1.0, -4.0], [1.5, -4.0], 0.5, 0.125),  # relative to the largest magnitude, not to the element's own
        ([-8.0, 1.0], [-8.0, 1.0], 0.0, 0.0),
        ([0.0, 0.0], [0.0, 0.25], 0.25, INF),
        ([0.0], [0.0], 0.0, 0.0),
        ([NAN, 2.0], [NAN, 3.0], 1.0, 0.5),
        ([INF, 2.0], [INF, 2.0], 0.0, 0.0),
        ([INF, 2.0], [-INF, 2.0], INF, INF),
        ([1.0, 2.0], [NAN, 2.0], INF, INF),
        ([NAN, 2.0], [1.0, 2.0], INF, INF),
        ([], [], 0.0, 0.0),
    ],
)
def test_differences(expected, actual, absolute, relative):
    found = difference("y", np.array(expected, np.float32), np.array(actual, np.float32))
    assert (found.name, found.largest_absolute, found.largest_relative) == ("y", absolute, relative)


def test_integers_do_not_wrap_around():
    found = difference("y", np.array([0, 250], np.uint8), np.array([5, 250], np.uint8))
    assert (found.largest_absolute, found.largest_relative) == (5, 0.02)


def test_outputs_of_other_shapes_are_not_compared():
    with pytest.raises(VerificationError, match=r"output 'y' must have shape \(2, 3\), got \(3, 2\)"):
        difference("y", np.zeros((2, 3)), np.zeros((3, 2)))


def test_the_first_model_is_the_reference():
    one, two = (matmul_model(np.full((3, 2), value, np.float32)).SerializeToString() for value in (1, 2))
    feeds = {"x": np.ones((4, 3), np.float32)}
    (there,), (back,) = compare_outputs(one, two, feeds), compare_outputs(two, one, feeds)
    assert (there.largest_absolute, there.largest_relative) == (3, 1)
    assert (back.largest_absolute, back.largest_relative) == (3, 0.5)


def test_models_must_have_the_same_outputs_and_run():
    model = matmul_model(np.ones((3, 2), np.float32))
    other = matmul_model(np.ones((3, 2), np.float32))
    other.graph.output[0].name = other.graph.node[0].output[0] = "z"
    with pytest.raises(VerificationError, match="outputs must be"):
        compare_outputs(model.SerializeToString(), other.SerializeToString())
    with pytest.raises(VerificationError, match="must run on sample inputs") as caught:
        compare_outputs(*2 * [model.SerializeToString()], {"x": np.ones((4, 5), np.float32)})
    assert "\n" not in str(caught.value)


def runtime_with(*inputs):
    """A session whose model passes inputs on; each is (name, type, shape)."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in inputs]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*entry) for entry in inputs],
        [helper.make_tensor_value_info(f"{name}_out", kind, shape) for name, kind, shape in inputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return session(model.SerializeToString())


def test_drawn_inputs_have_the_types_and_shapes_of_the_model():
    kinds = [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL]
    entries = [(f"x{kind}", kind, ["n", 3, None]) for kind in kinds]
    feeds = sample_inputs(runtime_with(*entries), seed=0, batch=5)
    assert list(feeds) == [name for name, _, _ in entries]
    for name, kind, _ in entries:
        assert feeds[name].shape == (5, 3, 5)
        assert feeds[name].dtype == helper.tensor_dtype_to_np_dtype(kind)
        assert np.unique(feeds[name]).size > 1
    assert set(np.unique(feeds[f"x{TensorProto.INT64}"])) == {0, 1}


def test_integers_are_drawn_below_the_rows_of_their_table():
    entries = [(name, kind, [1000]) for name, kind in (("ids", TensorProto.INT64), ("few", TensorProto.INT8))]
    feeds = sample_inputs(runtime_with(*entries), seed=0, batch=2, rows={"ids": 50, "few": 1000})
    assert (feeds["ids"].min(), feeds["ids"].max()) == (0, 49)
    assert feeds["few"].min() >= 0
    one = sample_inputs(runtime_with(*entries), seed=0, batch=2, rows={"ids": 1})
    assert not one["ids"].any()


def test_drawn_images_come_one_by_one():
    entry = ("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    assert sample_inputs(runtime_with(entry), seed=0, batch=224)["x"].shape == (1, 3, 224, 224)
    sound = ("x", TensorProto.FLOAT, ["samples"])
    assert sample_inputs(runtime_with(sound), seed=0, batch=640)["x"].shape == (640,)
    assert too_many(runtime_with(("x", TensorProto.FLOAT, ["a", "b", "c", "d"])), 640)
    assert not too_many(runtime_with(entry), 640)


def test_drawn_inputs_follow_from_the_seed():
    runtime = runtime_with(("x", TensorProto.FLOAT, [2, 3]))
    first, again, other = (sample_inputs(runtime, seed=seed, batch=2)["x"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_inputs_that_are_no_numbers_cannot_be_drawn():
    with pytest.raises(DataError, match=r"input 'text' must be a numeric tensor, got tensor\(string\)"):
        sample_inputs(runtime_with(("text", TensorProto.STRING, [2])), seed=0, batch=2)
