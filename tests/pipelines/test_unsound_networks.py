"""Networks that full inference refuses are bad input, though only the written file gets it."""

from __future__ import annotations

import onnx
import pytest

import sws_compress as sws
from tests.models import write_mlp


def test_a_network_that_is_unsound_itself_is_bad_input(tmp_path):
    """The output of a Constant is declared as another type: found by full inference alone, which the result gets."""
    path = write_mlp(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["odd"], value_int=3))
    model.graph.output.append(onnx.helper.make_tensor_value_info("odd", onnx.TensorProto.FLOAT, []))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(sws.ModelError, match=r"net.onnx must be sound and load in ONNX Runtime, got '.*elem type"):
        sws.compress(path, tmp_path / "small.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
