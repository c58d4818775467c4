"""Files whose nodes are out of order are read like the same files in order."""

from __future__ import annotations

import itertools

import onnx
import pytest
from onnx import helper

import sws_compress as sws
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.read.sort import sort_nodes
from sws_compress.onnx_io.traversal import graphs
from sws_compress.onnx_io.write.serialise import to_bytes
from tests.onnx_io.models import graph_model, lenet
from tests.onnx_io.nested_models import in_a_loop, in_a_scan, in_branches, in_constants, in_functions
from tests.whole import taken_in

MODELS = [lenet, in_constants, in_branches, in_a_loop, in_a_scan, in_functions]
FLOAT = onnx.TensorProto.FLOAT


def bodies(model):
    return [*(graph.node for graph in graphs(model)), *(function.node for function in model.functions)]


def reverse(model):
    """Reverse the nodes of every body, innermost first."""
    for i in reversed(range(len(bodies(model)))):
        body = bodies(model)[i]
        turned = onnx.GraphProto(node=reversed(body))
        del body[:]
        body.extend(turned.node)


@pytest.mark.parametrize("make", MODELS)
def test_models_in_order_stay_as_they_are(make):
    model = make()
    assert not sort_nodes(model)
    assert model == make()


def test_the_order_in_the_file_does_not_change_what_is_written(tmp_path):
    model = lenet(sizes=(30, 20, 10, 5))
    onnx.save(model, tmp_path / "sorted.onnx")
    reverse(model)
    onnx.save(model, tmp_path / "reversed.onnx")
    for name in ("sorted", "reversed"):
        sws.compress(tmp_path / f"{name}.onnx", tmp_path / f"{name}.small.onnx")
    assert (tmp_path / "sorted.small.onnx").read_bytes() == (tmp_path / "reversed.small.onnx").read_bytes()
    assert sws.inspect(tmp_path / "reversed.onnx").parts.rows == sws.inspect(tmp_path / "sorted.onnx").parts.rows


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("external", [False, True])
def test_reversed_models_are_read(make, external, tmp_path):
    model = make()
    reverse(model)
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=external, location="net.data", size_threshold=0)
    onnx.checker.check_model(onnx.load_from_string(to_bytes(read_model(path))), full_check=True)
    onnx.checker.check_model(taken_in(path), full_check=True)


def test_every_order_of_a_diamond_is_put_right():
    """Nodes without an order between them stay in the order of the file."""
    nodes = [
        helper.make_node("Neg", ["x"], ["a"]),
        helper.make_node("Abs", ["a"], ["b"]),
        helper.make_node("Exp", ["a"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    for order in itertools.permutations(nodes):
        model = graph_model(nodes, {}, [("x", FLOAT, [2])], [("y", FLOAT, [2])])
        del model.graph.node[:]
        model.graph.node.extend(order)
        sort_nodes(model)
        found = [node.output[0] for node in model.graph.node]
        middle = [node.output[0] for node in order if node.output[0] in "bc"]
        assert found == ["a", *middle, "y"]


def test_what_a_branch_reads_comes_before_its_node():
    """Names that a branch defines itself are its own, also where an outer node uses them."""
    inner = helper.make_graph(
        [helper.make_node("Neg", ["late"], ["y"])], "b", [], [helper.make_tensor_value_info("y", FLOAT, [2])]
    )
    model = graph_model([helper.make_node("Neg", ["x"], ["y"])], {}, [("x", FLOAT, [2])], [("y", FLOAT, [2])])
    model.graph.input.append(helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, []))
    del model.graph.node[:]
    model.graph.node.extend(
        [
            helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner),
            helper.make_node("Exp", ["x"], ["late"]),
        ]
    )
    assert sort_nodes(model)
    assert [node.op_type for node in model.graph.node] == ["Exp", "If"]


def test_a_long_chain_in_reverse():
    names = [f"v{i}" for i in range(20_001)]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names)]
    model = onnx.ModelProto(graph=onnx.GraphProto(node=reversed(nodes)))
    assert sort_nodes(model)
    assert [node.input[0] for node in model.graph.node] == names[:-1]
