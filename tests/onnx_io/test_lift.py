"""Weights in constants, bodies and functions are found, stored once, decoded in the main graph, and folded at load."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sws_compress.onnx_io.analyse.affine_weights import affine_weights
from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.decode import decoded_weights, unfolded_nodes
from sws_compress.ort.session import check_runs
from sws_compress.packing.pack import find_palettes, pack
from tests.onnx_io.nested_models import (
    MODELS,
    SIZE,
    behind_identities,
    behind_identities_in_bodies,
    constant,
    feeds_of,
    identity,
    in_branches,
    in_constants,
    in_functions,
    info,
    matmul,
    model_of,
    weights,
)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_weights_are_packed_wherever_they_live(make, tmp_path):
    dense = make()
    onnx.save(dense, tmp_path / "net.onnx")
    model = read_model(tmp_path / "net.onnx")
    assert len(find_weights(model)) == MODELS[make]
    packed = pack(model, find_palettes(model))
    assert sum(len(tensor.shape) > 1 for tensor in packed.tensors) == MODELS[make]
    check_runs(packed.data)
    assert unfolded_nodes(packed.data) == ()
    for flag in (True, False):
        (difference,) = compare_outputs(dense.SerializeToString(), packed.data, feeds_of(dense, flag))
        assert difference.largest_relative < 1e-6
    assert len(packed.data) < MODELS[make] * weights(0).nbytes / 4
    if dense.functions:
        return  # the reference evaluator does not pass inputs of functions on to their branches
    evaluated = ReferenceEvaluator(onnx.load_from_string(packed.data)).run(None, feeds_of(dense, False))
    expected = ReferenceEvaluator(dense).run(None, feeds_of(dense, False))
    np.testing.assert_allclose(evaluated[0], expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_nothing_decodes_in_a_body(make, tmp_path):
    """All decode nodes are in the main graph: bodies and functions hold only nodes of the network."""
    onnx.save(make(), tmp_path / "net.onnx")
    model = read_model(tmp_path / "net.onnx")
    packed = onnx.load_from_string(pack(model, find_palettes(model)).data)

    def operators(nodes):
        for node in nodes:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    assert not attribute.g.initializer
                    yield from (inner.op_type for inner in attribute.g.node)
                    yield from operators(attribute.g.node)

    inner = {*operators(packed.graph.node)}
    inner |= {node.op_type for entry in packed.functions if entry.domain == "mine" for node in entry.node}
    assert inner <= {"MatMul", "Tanh", "Add", "Identity", "Neg", "If", "Inner"}


def test_reading_alone_changes_no_output(tmp_path):
    for make in MODELS:
        dense = make()
        onnx.save(dense, tmp_path / "net.onnx")
        written = to_bytes(read_model(tmp_path / "net.onnx"))
        (difference,) = compare_outputs(dense.SerializeToString(), written, feeds_of(dense, True))
        assert difference.largest_absolute == 0


def test_names_stay_and_equal_names_are_told_apart(tmp_path):
    onnx.save(in_branches(), tmp_path / "net.onnx")
    names = [weight.name for weight in find_weights(read_model(tmp_path / "net.onnx"))]
    assert sorted(names) == ["W", "W_1"]
    onnx.save(in_constants(), tmp_path / "net.onnx")
    assert [weight.name for weight in find_weights(read_model(tmp_path / "net.onnx"))] == ["W", "V"]


def test_a_weight_of_a_function_is_stored_once(tmp_path):
    onnx.save(in_functions(), tmp_path / "net.onnx")
    model = read_model(tmp_path / "net.onnx")
    packed = pack(model, find_palettes(model))
    stored = decoded_weights(packed.data, [tensor.name for tensor in packed.tensors])
    assert sorted(array.tobytes() for array in stored.values()) == sorted(weights(seed).tobytes() for seed in (6, 7))


def test_small_and_integer_constants_are_lifted_but_outputs_stay(tmp_path):
    nodes = [
        constant("one", np.array(1, np.float32)),
        helper.make_node("Constant", [], ["shape"], value_ints=[2, SIZE]),
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Constant", [], ["z"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["text"], value_string="a"),
        helper.make_node("Mul", ["x", "two"], ["a"]),
        helper.make_node("Add", ["a", "one"], ["b"]),
        helper.make_node("Reshape", ["b", "shape"], ["y"]),
    ]
    model = model_of(nodes)
    model.graph.output.append(info("z", shape=[2]))
    onnx.save(model, tmp_path / "net.onnx")
    read = read_model(tmp_path / "net.onnx")
    assert set(read.graph.initializers) == {"one", "shape", "two"}
    written = to_bytes(read)
    assert all(entry.largest_absolute == 0 for entry in compare_outputs(model.SerializeToString(), written))


@pytest.mark.parametrize("make", [behind_identities, behind_identities_in_bodies], ids=lambda make: make.__name__)
def test_no_weight_hides_behind_an_identity(make, tmp_path):
    onnx.save(make(), tmp_path / "net.onnx")
    model = read_model(tmp_path / "net.onnx")
    bodies = [model.graph, *model.functions.values()]
    assert not [node for body in bodies for node in body.all_nodes() if node.op_type == "Identity"]
    if not model.functions:
        assert len(affine_weights(model)) == 1


def test_an_identity_that_makes_an_output_stays(tmp_path):
    tensors = [numpy_helper.from_array(weights(1), "W")]
    model = model_of([identity("W", "z"), matmul("x", "W", "y")], initializers=tensors)
    model.graph.output.append(info("z", shape=[SIZE, SIZE]))
    onnx.save(model, tmp_path / "net.onnx")
    read = read_model(tmp_path / "net.onnx")
    assert [value.name for value in read.graph.outputs] == ["y", "z"]
    assert all(entry.largest_absolute == 0 for entry in compare_outputs(model.SerializeToString(), to_bytes(read)))
