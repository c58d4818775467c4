"""Models of older opsets are converted, and compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import sws_compress as sws
from sws_compress.errors import ModelError
from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.onnx_io.read.convert import CONVERTED_FROM, converted, default_opset
from sws_compress.onnx_io.read.model import OLDEST_OPSET, read_model
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs
from tests.onnx_io.models import few_values, matmul_model

WEIGHTS = few_values((64, 64), [0, 1, 2], [8, 1, 1])


@pytest.mark.parametrize("opset", [9, 12, 13])
def test_older_opsets_are_converted_when_they_are_read(tmp_path, opset):
    model = matmul_model(WEIGHTS, opset=opset)
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    read = read_model(tmp_path / "net.onnx")
    assert read.opset_imports[""] == OLDEST_OPSET
    assert read.meta.get(CONVERTED_FROM) == (opset if opset < OLDEST_OPSET else None)
    (weight,) = find_weights(read)
    assert weight.values.tobytes() == WEIGHTS.tobytes()
    (difference,) = compare_outputs(tmp_path / "net.onnx", to_bytes(read))
    assert difference.largest_absolute == 0


def with_nodes(nodes, *, opset):
    model = matmul_model(WEIGHTS, opset=opset)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def test_operators_that_changed_mean_the_same(tmp_path):
    """Softmax flattened its input before version 13; Squeeze took its axes as an attribute."""
    model = with_nodes(
        [
            helper.make_node("MatMul", ["x", "W"], ["a"]),
            helper.make_node("Softmax", ["a"], ["b"]),
            helper.make_node("Unsqueeze", ["b"], ["c"], axes=[0]),
            helper.make_node("Squeeze", ["c"], ["y"], axes=[0]),
        ],
        opset=11,
    )
    old = model.SerializeToString()
    new = converted(tmp_path / "net.onnx", model, 13)
    assert default_opset(new) == 13
    feeds = {"x": np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)}
    (difference,) = compare_outputs(old, new.SerializeToString(), feeds)
    assert difference.largest_relative < 1e-6


def test_external_data_is_loaded_from_the_folder_of_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "net.onnx"
    onnx.save(matmul_model(WEIGHTS, opset=12), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    new = converted(path, onnx.load(path, load_external_data=False), 13)
    (tensor,) = new.graph.initializer
    assert onnx.numpy_helper.to_array(tensor).tobytes() == WEIGHTS.tobytes()


def test_what_does_not_convert_is_told_in_one_line(tmp_path):
    """GRU of version 1 has no successor that means the same."""
    model = with_nodes([helper.make_node("GRU", ["x", "W", "W"], ["y"], hidden_size=2)], opset=6)
    with pytest.raises(
        ModelError, match=r"opset of \S+ must be >= 13 or convert to it, got 6 and '.*GRU.*': "
    ) as caught:
        converted(tmp_path / "net.onnx", model, 13)
    assert "\n" not in str(caught.value)


def test_the_default_domain_goes_by_two_names():
    model = matmul_model(WEIGHTS, opset=12)
    assert default_opset(model) == 12
    model.opset_import[0].domain = "ai.onnx"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 99))
    assert default_opset(model) == 12


@pytest.mark.parametrize("domains", [("", ""), ("", "ai.onnx")])
def test_an_opset_that_is_stated_twice(tmp_path, domains):
    """The converter would change one of the two, and the file would state 13 and 9."""
    model = matmul_model(WEIGHTS, opset=9)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, 9) for domain in domains)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert read_model(tmp_path / "net.onnx").opset_imports == {"": OLDEST_OPSET}
    sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx")
