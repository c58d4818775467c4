"""Every way of compressing says what it left dense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn.functional import cross_entropy

import sws_compress as sws
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
from sws_compress.pipelines.weights_only import compress_weights
from tests.models import Mlp, batches, gaussian, tuned


def write_net(path: Path, weight: np.ndarray) -> Path:
    """x W + P with a learned vector P of 4,000 bytes."""
    nodes = [helper.make_node("MatMul", ["x", "W"], ["h"]), helper.make_node("Add", ["h", "P"], ["y"])]
    tensors = {"W": weight, "P": gaussian(1, weight.shape[1])}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("mode", ["weights only", "streamed", "low bit"])
def test_a_file_says_what_is_dense(tmp_path: Path, mode: str) -> None:
    source = write_net(tmp_path / "net.onnx", gaussian(60, 1000))
    output = tmp_path / "small.onnx"
    if mode == "streamed":
        request = sws.WeightsOnly()
        job = Job(output=output, limits=Limits(model_bytes=0))
        result = compress_weights(open_source(source, job), request, job)
    else:
        result = sws.compress(source, output, sws.WeightsOnly() if mode == "weights only" else sws.LowBit(bits=4))
    (note,) = result.notes
    share = 100 * 4000 / result.file_bytes
    tensors = "floating-point tensors left dense: 'P' (4,000 bytes) is not read as a weight by Add"
    assert note == f"{share:.1f} % of the file are {tensors}"


def test_weights_that_were_not_chosen_for_training_are_said(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"train": batches(), "loss": cross_entropy, "components": 4, "epochs": 1, "ratio": 2}
    result = tuned(Mlp(hidden=50), tmp_path / "small.onnx", parameters=["fc2.weight"], **options)
    (note,) = [note for note in result.notes if "left dense" in note]
    assert "'fc1.weight' (" in note
    assert ") holds more than 256 distinct values, and was not chosen" in note


def test_integers_that_stay_are_said(tmp_path: Path) -> None:
    source = write_net(tmp_path / "net.onnx", gaussian(2, 1000))
    model = onnx.load(source)
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.random.default_rng(0).integers(-128, 128, (2, 1000), np.int8), "W")
    )
    model.graph.node[0].input[1] = "w"
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["W", "s"], ["w"]))
    model.graph.node.append(helper.make_node("MatMul", ["y", "V"], ["z"]))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "s"))
    model.graph.initializer.append(numpy_helper.from_array(gaussian(1000, 1), "V"))
    model.graph.output[0].name, model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = "z", 1
    onnx.save(model, source)
    result = sws.compress(source, tmp_path / "small.onnx")
    expected = "integers left as they are: 'W' (2,000 bytes) is int8, read by DequantizeLinear, and gets no smaller"
    assert any(expected in note for note in result.notes)
