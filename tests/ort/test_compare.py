"""Differences of outputs, and inputs that are drawn for models whose caller gave none."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from onnx import TensorProto, helper

from sws_compress.errors import VerificationError
from sws_compress.ort.compare import compare_outputs, differences_on
from sws_compress.ort.differences import Differences, difference
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


def test_the_relative_error_is_that_of_the_norms():
    random = np.random.default_rng(0)
    expected = random.standard_normal((7, 30)).astype(np.float32)
    actual = expected + 0.1 * random.standard_normal(expected.shape).astype(np.float32)
    wanted = np.linalg.norm(np.float64(actual) - expected) / np.linalg.norm(np.float64(expected))
    found = difference("y", expected, actual)
    assert found.error == found.relative_error == pytest.approx(wanted, rel=1e-12)
    assert difference("y", [expected[:3], expected[3:]], [actual[:3], actual[3:]]) == found


@pytest.mark.parametrize(
    ("expected", "actual", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.0], [0.0, 0.0], 1.0),
        ([0.0], [0.0], 0.0),
        ([0.0], [1.0], INF),
        ([NAN, INF, 2.0], [NAN, INF, 3.0], 0.5),
        ([INF, 2.0], [2.0, 2.0], INF),
        ([1e200, 2.0], [0.5e200, 2.0], 0.5),  # squares are infinite
    ],
)
def test_relative_errors_of_odd_numbers(expected, actual, error):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert difference("y", np.array(expected), np.array(actual)).relative_error == pytest.approx(error, rel=1e-12)


def test_several_runs_count_as_one():
    """The error of all is not the mean of the errors: runs with large outputs weigh more."""
    one, two = (matmul_model(np.full((3, 2), value, np.float32)).SerializeToString() for value in (1, 1.25))
    rows = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32) * np.geomspace(1, 50, 9)[:, None]
    feeds = [{"x": part.astype(np.float32)} for part in np.split(rows, [2, 3])]
    (found,) = differences_on(one, two, feeds)
    (whole,) = compare_outputs(one, two, {"x": rows.astype(np.float32)})
    assert found.elements == whole.elements
    assert found.relative_error == pytest.approx(whole.relative_error, rel=1e-6)
    assert found.largest_relative == pytest.approx(whole.largest_relative, rel=1e-6)


def test_one_run_of_another_shape_is_infinitely_far():
    there, nothing = np.ones((2, 3)), Differences("y")
    nothing.add(there, there)
    assert nothing.telling.error == 0
    nothing.add_other(there)
    assert nothing.telling.error == nothing.found.deviation == INF
    assert nothing.found.elements == 12


@pytest.mark.parametrize(
    ("expected", "actual", "share"),
    [
        (np.array([30_000, 7, 9, 2], np.int64), np.array([30_001, 7, 9, 2], np.int64), 0.25),
        (np.array([2**53, 2**53 + 1]), np.array([2**53, 2**53 + 2]), 0.5),  # equal in float64
        (np.array([True, False]), np.array([False, True]), 1.0),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), 0.5),
        ([np.array([3, 4]), np.array(["a"], object)], [np.array([3, 5]), np.array(["a"], object)], 1 / 3),
        (np.array([200, 250], np.uint8), np.array([201, 250], np.uint8), None),  # a pixel, not a class
        (np.array([1.0, 2.0]), np.array([1.0, 3.0]), None),
        ([np.array([3]), np.array([1.0])], [np.array([4]), np.array([1.0])], None),
    ],
)
def test_names_differ_or_not(expected, actual, share):
    """Class 11 for class 10 is as wrong as class 500: what counts is how many differ, not by how much."""
    found = difference("y", expected, actual)
    assert found.differing_share == share
    assert found.deviation == (found.largest_relative if share is None else share)
    assert found.error == (found.relative_error if share is None else share)


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
    feeds = sample_inputs(runtime_with(*entries), seed=0, batch=2, ranges={"ids": range(50), "few": range(1000)})
    assert (feeds["ids"].min(), feeds["ids"].max()) == (0, 49)
    assert feeds["few"].min() >= 0
    one = sample_inputs(runtime_with(*entries), seed=0, batch=2, ranges={"ids": range(1)})
    assert not one["ids"].any()
    strange = {"ids": range(-3, -2), "few": range(5, 5)}
    drawn = sample_inputs(runtime_with(*entries), seed=0, batch=2, ranges=strange)
    assert (drawn["ids"] == -3).all()
    assert not drawn["few"].any()


def test_drawn_images_come_one_by_one():
    entry = ("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    assert sample_inputs(runtime_with(entry), seed=0, batch=224)["x"].shape == (1, 3, 224, 224)
    sound = ("x", TensorProto.FLOAT, ["samples"])
    assert sample_inputs(runtime_with(sound), seed=0, batch=640)["x"].shape == (640,)
    assert too_many(runtime_with(("x", TensorProto.FLOAT, ["a", "b", "c", "d"])), 640)
    assert not too_many(runtime_with(entry), 640)
    frames = (("x", TensorProto.FLOAT, ["batch", "samples"]), ("state", TensorProto.FLOAT, [2, "batch", 64]))
    shapes = {
        size: [x.shape for x in sample_inputs(runtime_with(*frames), seed=0, batch=size).values()] for size in (2, 224)
    }
    assert shapes == {2: [(2, 2), (2, 2, 64)], 224: [(1, 224), (2, 1, 64)]}


def test_drawn_inputs_follow_from_the_seed():
    runtime = runtime_with(("x", TensorProto.FLOAT, [2, 3]))
    first, again, other = (sample_inputs(runtime, seed=seed, batch=2)["x"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_text_is_drawn_from_digits():
    text = sample_inputs(runtime_with(("text", TensorProto.STRING, [20, "n"])), seed=0, batch=2)["text"]
    assert text.shape == (20, 2)
    assert set(text.flat) <= set("0123456789")
    assert len(set(text.flat)) > 5


def test_sums_of_free_dimensions_are_evaluated():
    sizes = {"p + s": 6, "past+1": 4, "n": 3, "a * b": 3, "2+": 3, "-1 + n": 3}
    for text, size in sizes.items():
        runtime = runtime_with(("x", TensorProto.FLOAT, [text, 2]))
        assert sample_inputs(runtime, seed=0, batch=3)["x"].shape == (size, 2), text


def test_booleans_and_signs_are_chosen():
    runtime = runtime_with(("on", TensorProto.BOOL, [40]), ("x", TensorProto.FLOAT, [40]))
    drawn = sample_inputs(runtime, seed=0, batch=2)
    assert 0 < drawn["on"].sum() < 40
    assert drawn["x"].min() < 0
    for flags in (True, False):
        chosen = sample_inputs(runtime, seed=0, batch=2, flags=flags, positive=True)
        assert (chosen["on"] == flags).all()
        assert chosen["x"].min() >= 0
