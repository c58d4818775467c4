"""Norms of trained networks in files, by what the file is to be like in memory."""

import pytest
import torch
from torch import nn

from sws_compress.file_options import FLOAT, PACKED, FileOptions
from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.pipelines.publish import reduced_as


@pytest.mark.parametrize(("memory", "norms"), [(FLOAT, 0), (PACKED, 1)])
def test_weights_that_stay_integers_are_not_multiplied_at_load(memory, norms):
    network = nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)).eval()
    model = from_torch(network, (torch.ones(2, 8),))
    reduced_as(FileOptions(memory=memory), model)
    assert sum(node.op_type == "BatchNormalization" for node in model.graph) == norms
