"""Expanding gives back a plain model that can be compressed again."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sws_compress.errors import ModelError, OutputError
from sws_compress.onnx_io.read.model import read_model
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.session import check_runs
from sws_compress.packing.pack import find_palettes, pack
from sws_compress.pipelines.expand import expand
from tests.onnx_io.models import as_ir, few_values, lenet, matmul_model
from tests.onnx_io.nested_models import MODELS, feeds_of
from tests.whole import expanded


def packed(model, **options):
    read = as_ir(model)
    return pack(read, find_palettes(read, **options))


def test_weights_come_back_bit_for_bit_and_nothing_else_stays():
    dense = lenet()
    expansion = expanded(packed(dense, smallest=2).data)
    model = onnx.load_from_string(expansion.data)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(expansion.expanded) == set(arrays) == {tensor.name for tensor in dense.graph.initializer}
    for tensor in dense.graph.initializer:
        assert arrays[tensor.name].tobytes() == numpy_helper.to_array(tensor).tobytes()
    assert not model.functions
    assert not model.graph.value_info
    assert [node.op_type for node in model.graph.node] == [node.op_type for node in dense.graph.node]
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("author", "me")]
    assert [entry.domain for entry in model.opset_import] == [""]
    assert list(model.graph.input) == list(dense.graph.input)
    assert list(model.graph.output) == list(dense.graph.output)


def test_expanding_and_packing_again_gives_the_same_file():
    data = packed(lenet(), smallest=2).data
    again = as_ir(onnx.load_from_string(expanded(data).data))
    assert set(pack(again, find_palettes(again, smallest=2)).tensors) == set(packed(lenet(), smallest=2).tensors)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_models_with_bodies_and_functions(make, tmp_path):
    onnx.save(make(), tmp_path / "net.onnx")
    model = read_model(tmp_path / "net.onnx")
    small = pack(model, find_palettes(model)).data
    plain = expanded(small).data
    check_runs(plain)
    for flag in (True, False):
        (difference,) = compare_outputs(small, plain, feeds_of(make(), flag))
        assert difference.largest_absolute == 0


def test_constant_arithmetic_of_the_network_stays():
    """A transposition right behind the decoder, of a weight that nothing else reads."""
    model = matmul_model(few_values((64, 70), [0, 1, 2], [8, 1, 1]))
    model.graph.node[0].input[1] = "T"
    weights = few_values((70, 64), [0, 1, 2], [8, 1, 1])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "W"))
    model.graph.node.insert(0, helper.make_node("Transpose", ["W"], ["T"], perm=[1, 0]))
    data = packed(model).data
    expansion = expanded(data)
    assert expansion.expanded == ("W",)
    plain = onnx.load_from_string(expansion.data)
    assert [node.op_type for node in plain.graph.node] == ["Transpose", "MatMul"]
    assert decoded_weights(expansion.data, ["W"])["W"].tobytes() == weights.tobytes()


def test_files(tmp_path):
    (tmp_path / "small.onnx").write_bytes(packed(lenet()).data)
    result = expand(tmp_path / "small.onnx", tmp_path / "plain.onnx")
    assert result.file_bytes == (tmp_path / "plain.onnx").stat().st_size > 10 * result.compressed_bytes
    before = (tmp_path / "small.onnx").read_bytes()
    with pytest.raises(OutputError, match="must not be the input"):
        expand(tmp_path / "small.onnx", tmp_path / "small.onnx")
    with pytest.raises(ModelError, match="must be compressed to be expanded"):
        expand(tmp_path / "plain.onnx", tmp_path / "other.onnx")
    assert (tmp_path / "small.onnx").read_bytes() == before
    assert not (tmp_path / "other.onnx").exists()


@pytest.mark.parametrize("mark", ["1", "2:3", "1:-1", "1:x", "", "1:99999999999"])
def test_broken_marks(mark):
    model = onnx.load_from_string(packed(lenet()).data)
    next(entry for entry in model.metadata_props if entry.key == "sws_compress").value = mark
    with pytest.raises(ModelError, match="must be a mark like '1:12'"):
        expanded(model.SerializeToString())


def test_a_mark_that_counts_too_many_nodes():
    model = onnx.load_from_string(packed(lenet()).data)
    next(entry for entry in model.metadata_props if entry.key == "sws_compress").value = "1:999"
    plain = expanded(model.SerializeToString()).data
    assert np.isfinite([entry.largest_absolute for entry in compare_outputs(model.SerializeToString(), plain)]).all()


def test_external_data_is_that_of_the_model_s_folder(tmp_path, monkeypatch):
    """A file of the same name and size in the current folder holds other bytes."""
    folder = tmp_path / "models"
    folder.mkdir()
    small, data = folder / "small.onnx", folder / "small.data"
    compressed = onnx.load_from_string(packed(lenet()).data)
    onnx.save(compressed, small, save_as_external_data=True, location=data.name, size_threshold=0)
    (tmp_path / data.name).write_bytes(bytes(data.stat().st_size))
    monkeypatch.chdir(tmp_path)
    result = expand(small, tmp_path / "plain.onnx")
    arrays = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "plain.onnx").graph.initializer}
    for tensor in lenet().graph.initializer:
        assert arrays[tensor.name].tobytes() == numpy_helper.to_array(tensor).tobytes()
    assert result.compressed_bytes == small.stat().st_size + data.stat().st_size
    with pytest.raises(OutputError, match="must not be the input"):
        expand(small, data)
