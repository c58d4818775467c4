"""The size that ratios count from: the same for a module and for the file that torch exports of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import sws_compress as sws
from sws_compress.onnx_io.from_torch import from_torch, with_merged_norms
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.write.serialise import metadata_bytes, to_bytes
from sws_compress.onnx_io.write.strip import drop_metadata


class Residual(nn.Module):
    """Convolutions without biases, whose zeros the exporter shares, and batch norms behind them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 24, 2, 2), nn.BatchNorm2d(24))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        return self.up((x + self.second(x)).relu()).mean((2, 3))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as torch exports it: with node metadata that is much of the file."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    x = torch.zeros(2, 3, 8, 8)
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(Residual().eval(), (x,), path, dynamo=True, dynamic_shapes=dynamic, external_data=False)
    return path


def test_module_and_file_have_one_original_size(exported: Path, tmp_path: Path) -> None:
    request = sws.WeightsOnly(components=8)
    module = sws.compress(Residual().eval(), tmp_path / "a.onnx", request, example_inputs=torch.zeros(2, 3, 8, 8))
    file = sws.compress(exported, tmp_path / "b.onnx", request)
    assert file.dense_bytes < os.path.getsize(exported) - 3000
    assert module.dense_bytes == pytest.approx(file.dense_bytes, abs=700)
    weights = 4 * (16 * 3 * 9 + 16 * 16 * 9 + 16 * 24 * 4 + 16 + 16 + 24)
    assert weights < module.dense_bytes < weights + 1500


def test_metadata_is_what_annotations_take_without_loading_weights(exported: Path, tmp_path: Path) -> None:
    model = read_model(exported)
    bare = model.clone()
    drop_metadata(bare)
    dropped = os.path.getsize(exported) - len(to_bytes(bare))
    assert dropped > 3000
    assert metadata_bytes(model) == pytest.approx(dropped, abs=350)
    onnx.save(onnx.load(exported), tmp_path / "out.onnx", save_as_external_data=True, location="w", size_threshold=0)
    outside = read_model(tmp_path / "out.onnx")
    os.remove(tmp_path / "w")
    large = [v for v in outside.graph.initializers.values() if v.const_value.nbytes > 4096]
    for value in list(outside.graph.initializers.values()):
        if value not in large:
            value.const_value = model.graph.initializers[value.name].const_value
    assert large
    assert metadata_bytes(outside) == pytest.approx(dropped, abs=350)


def test_names_of_a_file_count(tmp_path: Path) -> None:
    """Other exporters write long names, and no metadata: the original size is that on disk."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 256])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(256, 64)).astype(np.float32), "weight")
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["m" * 500], name="model/layer" * 50),
        helper.make_node("Relu", ["m" * 500], ["y"]),
    ]
    path = tmp_path / "named.onnx"
    graph = helper.make_graph(nodes, "graph", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    result = sws.compress(path, tmp_path / "small.onnx", sws.WeightsOnly(components=8))
    assert result.dense_bytes == pytest.approx(os.path.getsize(path), abs=64)


def test_merged_norms_are_in_a_copy(tmp_path: Path) -> None:
    model = from_torch(Residual().eval(), (torch.zeros(2, 3, 8, 8),))
    norms = [node for node in model.graph if node.op_type == "BatchNormalization"]
    merged = with_merged_norms(model)
    assert merged is not None
    assert not [node for node in merged.graph if node.op_type == "BatchNormalization"]
    assert [node for node in model.graph if node.op_type == "BatchNormalization"] == norms
    assert with_merged_norms(from_torch(nn.Linear(3, 4), (torch.zeros(2, 3),))) is None
