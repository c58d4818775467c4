"""Tensors that no output depends on are dropped; whatever is read anywhere stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sws_compress as sws
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.write.dead_tensors import Dropped, drop_dead
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
from sws_compress.pipelines.weights_only import compress_weights
from tests.onnx_io.models import graph_model
from tests.onnx_io.nested_models import in_a_loop, in_a_scan, in_branches, in_constants, in_functions

RANDOM = np.random.default_rng(0)
WEIGHT, OTHER = (RANDOM.standard_normal((64, 64)).astype(np.float32) for _ in range(2))
X, Y = ("x", TensorProto.FLOAT, ["n", 64]), ("y", TensorProto.FLOAT, ["n", 64])


def net(nodes=(), tensors=None, outputs=(Y,), inputs=(X,)):
    """y = x W, and whatever else is asked for."""
    return graph_model(
        [helper.make_node("MatMul", ["x", "W"], ["y"]), *nodes], {"W": WEIGHT, **(tensors or {})}, inputs, outputs
    )


def dropped(model, folder: Path):
    """What is dropped of a model, and the names of the initialisers that stay."""
    onnx.save(model, folder / "net.onnx")
    read = read_model(folder / "net.onnx")
    found = drop_dead(read)
    return found, set(read.graph.initializers)


def test_what_nothing_reads_is_dropped(tmp_path):
    tensors = {"old.weight": OTHER, "num_batches_tracked": np.int64(3), "old.bias": OTHER[0]}
    found, kept = dropped(net(tensors=tensors), tmp_path)
    assert found == Dropped(3, OTHER.nbytes + 8 + OTHER[0].nbytes)
    assert kept == {"W"}


def test_what_only_dead_nodes_read_is_dropped(tmp_path):
    nodes = [helper.make_node("MatMul", ["y", "D"], ["d"]), helper.make_node("Add", ["d", "b"], ["dead"])]
    found, kept = dropped(net(nodes, {"D": OTHER, "b": OTHER[0]}), tmp_path)
    assert found == Dropped(2, OTHER.nbytes + OTHER[0].nbytes)
    assert kept == {"W"}


def test_one_output_of_a_node_is_enough(tmp_path):
    nodes = [helper.make_node("TopK", ["D", "k"], ["values", "places"], axis=0)]
    outputs = [Y, ("places", TensorProto.INT64, [2, 64])]
    found, kept = dropped(net(nodes, {"D": OTHER, "k": np.array([2])}, outputs), tmp_path)
    assert (found.tensors, kept) == (0, {"W", "D", "k"})


def test_inputs_and_outputs_stay(tmp_path):
    inputs = [X, ("scale", TensorProto.FLOAT, [64])]
    outputs = [Y, ("table", TensorProto.FLOAT, [64, 64])]
    found, kept = dropped(net((), {"scale": OTHER[0], "table": OTHER}, outputs, inputs), tmp_path)
    assert found == Dropped(0, 0)
    assert found.notes == ()
    assert kept == {"W", "scale", "table"}


@pytest.mark.parametrize("make", [in_constants, in_branches, in_a_loop, in_a_scan, in_functions])
def test_what_bodies_and_functions_read_stays(make, tmp_path):
    model = make()
    onnx.save(model, tmp_path / "net.onnx")
    before = set(read_model(tmp_path / "net.onnx").graph.initializers)
    assert dropped(model, tmp_path) == (Dropped(0, 0), before)


def test_what_operators_of_unknown_domains_read_stays(tmp_path):
    model = net(tensors={"D": OTHER})
    model.graph.node.append(helper.make_node("Print", ["D"], ["nothing"], domain="mine"))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    assert dropped(model, tmp_path) == (Dropped(0, 0), {"W", "D"})


@pytest.mark.parametrize("way", ["weights", "low_bit", "streamed"])
def test_every_way_drops_and_says_so(way, tmp_path):
    """The file is as small as that of a model without the dead tensor."""
    sizes = {}
    for name, tensors in (("clean", {}), ("dead", {"old": OTHER})):
        path = tmp_path / f"{name}.onnx"
        onnx.save(net(tensors=tensors), path)
        output = tmp_path / f"{name}.small.onnx"
        if way == "streamed":
            job = Job(output=output, limits=Limits(model_bytes=0))
            result = compress_weights(open_source(path, job), sws.WeightsOnly(), job)
        else:
            result = sws.compress(path, output, sws.LowBit() if way == "low_bit" else sws.WeightsOnly())
        sizes[name] = output.stat().st_size
        note = "left out, because no output depends on it: 1 tensor of 16,384 bytes"
        assert (note in result.notes) == (name == "dead")
    assert sizes["dead"] == sizes["clean"]
