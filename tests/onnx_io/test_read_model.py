"""Bad files: one line that names the thing, the rule, the value and the cure."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from sws_compress.errors import ModelError
from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.onnx_io.read.model import read_model
from tests.onnx_io.models import few_values, lenet, matmul_model

WEIGHTS = few_values((64, 64), [0, 1, 2], [8, 1, 1])


def refused(path):
    with pytest.raises(ModelError) as caught:
        read_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert " must " in message
    assert ", got " in message
    assert ": " in message
    return message


def test_a_sound_model_is_read(tmp_path):
    onnx.save(lenet(), tmp_path / "net.onnx")
    model = read_model(tmp_path / "net.onnx")
    assert len(model.graph.initializers) == 6


def test_missing_file_directory_and_other_formats(tmp_path):
    assert "must be readable" in refused(tmp_path / "none.onnx")
    assert "a directory" in refused(tmp_path)
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert "got an empty file" in refused(tmp_path / "empty.onnx")
    (tmp_path / "text.onnx").write_bytes(b"this is not a model\n" * 10)
    assert "must be an ONNX file" in refused(tmp_path / "text.onnx")
    np.save(tmp_path / "array.npy", WEIGHTS)
    assert "must be an ONNX file" in refused(tmp_path / "array.npy")


def test_an_empty_graph(tmp_path):
    model = matmul_model(WEIGHTS)
    del model.graph.node[:]
    onnx.save(model, tmp_path / "net.onnx")
    assert "an empty graph" in refused(tmp_path / "net.onnx")


def test_opsets_that_cannot_be_converted_or_are_unknown(tmp_path, monkeypatch):
    model = matmul_model(WEIGHTS, opset=12)
    onnx.save(model, tmp_path / "net.onnx")
    with monkeypatch.context() as patch:
        patch.setattr("sws_compress.onnx_io.read.convert.converted_to", lambda *_: 1 / 0)
        assert "opset of" in refused(tmp_path / "net.onnx")
    model.opset_import[0].version = 999
    onnx.save(model, tmp_path / "net.onnx")
    assert "install a newer onnx" in refused(tmp_path / "net.onnx")
    del model.opset_import[:]
    onnx.save(model, tmp_path / "net.onnx")
    assert "one opset of the default domain, got none" in refused(tmp_path / "net.onnx")
    model = matmul_model(WEIGHTS)
    model.ir_version = 99
    onnx.save(model, tmp_path / "net.onnx")
    assert "IR version" in refused(tmp_path / "net.onnx")


def test_the_default_domain_by_its_long_name(tmp_path):
    model = matmul_model(WEIGHTS)
    model.opset_import[0].domain = model.graph.node[0].domain = "ai.onnx"
    onnx.save(model, tmp_path / "net.onnx")
    read = read_model(tmp_path / "net.onnx")
    assert read.opset_imports == {"": 18}
    assert [weight.name for weight in find_weights(read)] == ["W"]


def test_weights_are_inputs_in_old_files(tmp_path):
    model = matmul_model(WEIGHTS, opset=13)
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("W", onnx.TensorProto.FLOAT, WEIGHTS.shape))
    onnx.save(model, tmp_path / "net.onnx")
    read = read_model(tmp_path / "net.onnx")
    assert [value.name for value in read.graph.inputs] == ["x"]
    assert [weight.name for weight in find_weights(read)] == ["W"]


def test_a_graph_that_the_checker_refuses(tmp_path):
    model = matmul_model(WEIGHTS)
    model.graph.node[0].input[1] = "nothing"
    onnx.save(model, tmp_path / "net.onnx")
    assert "ONNX checker" in refused(tmp_path / "net.onnx")
