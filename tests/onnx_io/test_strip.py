"""What a runtime does not need goes; what users rely on stays, and so do the outputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.onnx_io.write.serialise import plain_bytes, to_bytes
from sws_compress.onnx_io.write.strip import constant_names, shorten, strip, value_names
from sws_compress.ort.compare import compare_outputs
from tests.onnx_io.models import as_ir, lenet
from tests.onnx_io.nested_models import MODELS, feeds_of


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_stripped_models_compute_the_same(make):
    dense = make()
    model = as_ir(dense)
    strip(model)
    for flag in (True, False):
        for difference in compare_outputs(dense.SerializeToString(), to_bytes(model), feeds_of(dense, flag)):
            assert difference.largest_absolute == 0


def traced():
    """LeNet with everything that an exporter leaves behind."""
    model = lenet()
    model.graph.doc_string = model.graph.name = "traced"
    for number, node in enumerate(model.graph.node):
        node.name, node.doc_string = f"traced node {number}", "traced to a line"
        node.metadata_props.add(key="traced", value="to a module")
        model.graph.value_info.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None))
    model.graph.value_info[0].doc_string = "traced"
    model.producer_name = "traced"
    return model


def test_traces_of_the_exporter_go_and_the_user_s_own_words_stay():
    model = traced()
    model.doc_string, model.domain, model.model_version = "trained on a Tuesday", "org.example", 12
    stripped = as_ir(model)
    strip(stripped)
    data = to_bytes(stripped)
    assert b"traced" in model.SerializeToString()
    assert b"traced" not in data
    after = onnx.load_from_string(data)
    assert (after.doc_string, after.domain, after.model_version) == ("trained on a Tuesday", "org.example", 12)
    assert {entry.key: entry.value for entry in after.metadata_props} == {"author": "me"}
    assert list(after.graph.input) == list(model.graph.input)
    assert [entry.name for entry in after.graph.output] == ["output"]
    assert {tensor.name for tensor in after.graph.initializer} == {tensor.name for tensor in model.graph.initializer}
    assert not after.graph.value_info
    assert {name for node in after.graph.node for name in node.output} == {"a", "b", "c", "d", "output"}


def test_plain_bytes_leave_the_model_as_it_is():
    model = as_ir(traced())
    before = to_bytes(model)
    stripped = as_ir(traced())
    strip(stripped)
    assert plain_bytes(model) == to_bytes(stripped)
    assert to_bytes(model) == before


def test_shapes_that_inference_does_not_find_stay():
    nodes = [
        helper.make_node("Compress", ["x", "mask"], ["kept"], axis=0),
        helper.make_node("Relu", ["kept"], ["r"]),
        helper.make_node("Mystery", ["r"], ["y"], domain="com.example"),
    ]
    known = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 4]) for name in ("kept", "r")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4])],
        [numpy_helper.from_array(np.array([1, 0, 1, 1, 0], bool), "mask")],
        value_info=known,
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=imports, ir_version=8))
    strip(model)
    stated = ir.to_proto(model).graph.value_info
    assert [[dim.dim_value for dim in entry.type.tensor_type.shape.dim] for entry in stated] == [[3, 4]]
    (compress,) = (node for node in model.graph if node.op_type == "Compress")
    assert stated[0].name == compress.outputs[0].name


def test_short_names_avoid_those_in_bodies():
    for make in MODELS:
        model = as_ir(make())
        strip(model)
        names = [v.name for v in (*model.graph.inputs, *(v for node in model.graph for v in node.outputs)) if v.name]
        assert len(names) == len(set(names))
        inner = {v.name for graph in model.graph.subgraphs() for node in graph for v in node.outputs}
        assert not inner & set(names)
        assert inner | set(names) <= value_names(model)


def test_weights_are_renamed_only_where_asked():
    model = as_ir(lenet())
    renamed = shorten(model, {"0.weight", "2.bias", "input", "output"})
    assert renamed == {"0.weight": "a", "2.bias": "b"}
    assert {"a", "b", "0.bias", "2.weight"} <= model.graph.initializers.keys()
    assert [value.name for value in (*model.graph.inputs, *model.graph.outputs)] == ["input", "output"]
    (difference,) = compare_outputs(lenet().SerializeToString(), to_bytes(model))
    assert difference.largest_absolute == 0


def test_values_inside_of_branches_and_loops_get_short_names_too():
    for make in MODELS:
        model = as_ir(make())
        for graph in model.graphs():
            for number, value in enumerate(value for node in graph for value in node.outputs):
                if not value.is_graph_output() or graph is not model.graph:
                    value.name = f"/a/long/name/of/a/module/{graph.name}/{number}/{value.name}"
        strip(model)
        kept = {value.name for value in (*model.graph.inputs, *model.graph.outputs)}
        inner = {value.name for graph in model.graphs() for node in graph for value in node.outputs} - kept
        assert all(len(name) <= 2 for name in inner)


def test_numbers_that_nobody_calls_weights_are_constants():
    values = {
        "shape": np.array([2, -1]),
        "axis": np.array(1),
        "epsilon": np.array([1e-5], np.float32),
        "bias": np.ones(4, np.float32),
        "table": np.ones((2, 2), np.int64),
    }
    tensors = [numpy_helper.from_array(array, name) for name, array in values.items()]
    model = ir.from_proto(helper.make_model(helper.make_graph([], "g", [], [], tensors)))
    assert constant_names(model) == {"shape", "axis", "epsilon"}


def test_new_names_are_those_of_one_copy_alone():
    proto = lenet()
    before = proto.SerializeToString()
    copy = as_ir(proto).clone()
    shorten(copy, {"0.weight", "2.bias"})
    to_bytes(copy)
    assert proto.SerializeToString() == before
