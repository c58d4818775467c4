"""What is wrong with a caller's own models and inputs is told as bad input, on one line."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sws_compress.api import compress
from sws_compress.errors import DataError, ModelError
from sws_compress.ort.given_inputs import as_input
from sws_compress.ort.user_models import answers, check_same_interface, feeds_for, open_model, run_model
from sws_compress.pipelines.verify import verify
from tests.models import gaussian, write_mlp


@pytest.fixture
def model(tmp_path):
    """x (n, 40) -> y (n, 30)."""
    return write_mlp(tmp_path / "net.onnx")


def test_outputs_are_those_of_the_network(model):
    x = gaussian(5, 40, seed=3)
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer]
    expected = np.maximum(x @ weights[0], 0) @ weights[1]
    np.testing.assert_allclose(run_model(model, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


def test_feeds_are_drawn_given_or_read(model, tmp_path):
    runtime = open_model(model)
    x = gaussian(5, 40, seed=3)
    np.savez(tmp_path / "inputs.npz", x=x)
    assert feeds_for(runtime, None, seed=0)["x"].shape == (2, 40)
    assert feeds_for(runtime, {"x": x}, seed=0)["x"] is x
    assert np.array_equal(feeds_for(runtime, tmp_path / "inputs.npz", seed=0)["x"], x)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "inputs must be arrays named 'x', got none"),
        ({"x": np.ones((2, 40)), "mask": np.ones(2)}, "got 'mask', 'x'"),
        ({"x": np.zeros((0, 40), np.float32)}, r"input 'x' must hold numbers, got shape \(0, 40\)"),
        ({"x": np.full((2, 40), np.nan, np.float32)}, "got nothing but NaN"),
        ({"x": np.full((2, 40), -np.inf, np.float32)}, "got no finite one"),
    ],
)
def test_inputs_that_tell_nothing(model, feeds, message):
    with pytest.raises(DataError, match=message):
        feeds_for(open_model(model), feeds, seed=0)


def test_tensors_and_lists_are_inputs(model):
    torch = pytest.importorskip("torch")
    runtime, x = open_model(model), gaussian(5, 40, seed=3)
    tensor = torch.from_numpy(x).requires_grad_()
    for given in (tensor, tensor.T.contiguous().T, x.tolist(), tuple(map(list, x))):
        found = feeds_for(runtime, {"x": given}, seed=0)["x"]
        assert (found.dtype, found.tolist()) == (np.float32, x.tolist())
    rounded = feeds_for(runtime, {"x": tensor.bfloat16()}, seed=0)["x"]
    assert (rounded.dtype, rounded.tolist()) == (np.float32, tensor.bfloat16().float().tolist())
    assert compress(model, model.with_name("small.onnx"), example_inputs={"x": tensor}).outputs
    with pytest.raises(DataError, match="input 'x' must be an array, got lists of unequal lengths"):
        feeds_for(runtime, {"x": [[1.0], [1.0, 2.0]]}, seed=0)


@pytest.mark.parametrize(
    ("given", "stated", "expected"),
    [
        ([1, 2], "tensor(float)", np.array([1, 2], np.float32)),
        ([1, 2], "tensor(int32)", np.array([1, 2], np.int32)),
        ([1, 300], "tensor(uint8)", np.array([1, 300])),  # not made to fit: the runtime refuses it
        ([1.5], "tensor(int64)", np.array([1.5])),
        (7, "tensor(int64)", np.array(7)),
        ([True], "tensor(bool)", np.array([True])),
        (["a", "b"], "tensor(string)", np.array(["a", "b"])),
    ],
)
def test_lists_get_the_type_of_their_input(given, stated, expected):
    found = as_input("x", given, stated)
    assert (found.dtype, found.tolist()) == (expected.dtype, expected.tolist())


def test_sequences_are_taken_element_by_element():
    first, second = as_input("x", [[1, 2], np.ones(3, np.float32)], "seq(tensor(float))")
    assert (first.dtype, first.tolist(), second.shape) == (np.float32, [1.0, 2.0], (3,))


@pytest.mark.parametrize("batch", [1 << 20, 3_000_000, 1 << 62])
def test_inputs_of_stated_sizes_that_no_memory_holds(tmp_path, batch):
    """A kilobyte of model states a batch; nothing is allocated by it, and its weights are compressed all the same."""
    path = write_mlp(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_param="n")
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_param="m")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match=r"at most 16777216 elements to be drawn, got shape \[\d+, 40\] for 'x'"):
        feeds_for(open_model(path), None, seed=0)
    result = compress(path, tmp_path / "small.onnx")
    assert any("outputs were not compared" in note for note in result.notes)


def test_an_empty_past_is_the_first_step_of_a_decoder(tmp_path):
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[n, p, 64] past, float[n, s, 64] x) => (float[n, t, 40] y) {
        all = Concat<axis=1>(past, x)
        y = MatMul(all, w)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(gaussian(64, 40), "w"))
    source = tmp_path / "decoder.onnx"
    onnx.save(model, source)
    feeds = {"past": np.zeros((1, 0, 64), np.float32), "x": gaussian(3, 64).reshape(1, 3, 64)}
    result = compress(source, tmp_path / "small.onnx", example_inputs=feeds)
    assert result.outputs == verify(source, result.output, inputs=feeds).outputs
    with pytest.raises(DataError, match=r"input 'past' must hold numbers, got shape \(1, 0, 64\)"):
        feeds_for(open_model(source), {**feeds, "x": np.zeros((1, 0, 64), np.float32)}, seed=0)


def test_masks_may_hold_infinities(model):
    x = np.where(gaussian(2, 40) > 0, 0, -np.inf).astype(np.float32)
    assert feeds_for(open_model(model), {"x": x}, seed=0)["x"] is x


def test_outputs_of_nothing_but_nan_do_not_pass(tmp_path):
    """The logarithm of what is below 0: two models that differ in every weight agree on it."""
    paths = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    for seed, path in enumerate(paths):
        text = """<ir_version: 8, opset_import: ["": 17]> g (float[2, 40] x) => (float[2, 30] y) {
            a = MatMul(x, w)
            b = Abs(a)
            c = Neg(b)
            y = Log(c)
        }"""
        net = onnx.parser.parse_model(text)
        net.graph.initializer.append(onnx.numpy_helper.from_array(gaussian(40, 30, seed=seed), "w"))
        onnx.save(net, path)
    assert not verify(*paths, tolerance=1e9).passed
    assert not verify(paths[0], paths[0]).passed


def test_inputs_that_do_not_fit(model):
    runtime = open_model(model)
    for feeds, given, cure in (
        ({"x": np.ones((2, 41), np.float32)}, True, "must run on the given inputs, got '.*': check their shapes"),
        ({"x": np.ones((2, 40))}, False, "must run on random inputs, got '.*': give inputs that fit"),
    ):
        with pytest.raises(DataError, match=cure) as caught:
            answers(runtime, model, feeds, given=given)
        assert "\n" not in str(caught.value)
        assert "ONNXRuntimeError" not in str(caught.value)  # the runtime's status codes


def test_models_that_do_not_load(model):
    net = onnx.load(model)
    net.graph.node[0].op_type = "Mystery"
    model.write_bytes(net.SerializeToString())
    with pytest.raises(ModelError, match=r"must load in ONNX Runtime, got '.*Mystery.*': export it") as caught:
        open_model(model)
    assert "\n" not in str(caught.value)


def test_interfaces_are_compared_by_name(model, tmp_path):
    other = write_mlp(tmp_path / "classes.onnx", classes=True)
    check_same_interface(open_model(model), open_model(model))
    with pytest.raises(ModelError, match="outputs of the second model must be 'y' as in the first, got 'z'"):
        check_same_interface(open_model(model), open_model(other))


@pytest.mark.parametrize("constant", [False, True])  # it fails while the model runs, or while it is loaded
def test_the_runtime_prints_nothing_of_its_own(constant, tmp_path, capfd):
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in "xy"]
    initialisers = [
        onnx.numpy_helper.from_array(np.array([77]), "index"),
        onnx.numpy_helper.from_array(np.ones(5, np.float32), "table"),
    ]
    nodes = [
        onnx.helper.make_node("Gather", ["table" if constant else "x", "index"], ["a"]),
        onnx.helper.make_node("Add", ["x", "a"], ["y"]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], initialisers)
    path = tmp_path / "net.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises((DataError, ModelError), match=r"77|indices"):
        run_model(path, {"x": np.ones(3, np.float32)})
    assert capfd.readouterr() == ("", "")
