"""Bytes of models with external data are those of their own folder, whatever the current one holds."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper, numpy_helper

import sws_compress as sws
from sws_compress.errors import ArgumentError, ModelError
from sws_compress.onnx_io.external_data import in_memory
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, external_files, refuse_overwriting, stored_model
from sws_compress.onnx_io.traversal import tensors
from sws_compress.ort.decode import decoded_weights
from tests.onnx_io.models import few_values, lenet, matmul_model
from tests.whole import taken_in, weights_in

WEIGHTS = few_values((64, 64), [0, 1, 2], [8, 1, 1])


@pytest.fixture
def net(tmp_path):
    """A model whose weight lies in w.bin beside it."""
    folder = tmp_path / "models"
    folder.mkdir()
    path = folder / "net.onnx"
    onnx.save(matmul_model(WEIGHTS), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def test_a_model_in_one_file_is_that_file(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(lenet(), path)
    model = stored_model(path)
    assert model.proto.SerializeToString() == path.read_bytes()
    assert model.file_bytes == path.stat().st_size
    assert external_files(path) == set()
    assert bytes_on_disk(path) == path.stat().st_size


def test_external_data_is_taken_in(net):
    inside = taken_in(net)
    assert inside == matmul_model(WEIGHTS)
    assert external_files(net) == {net.parent / "w.bin"}
    assert bytes_on_disk(net) == net.stat().st_size + WEIGHTS.nbytes


def test_another_file_of_that_name_in_the_current_folder_is_not_read(net, tmp_path, monkeypatch):
    (tmp_path / "w.bin").write_bytes(bytes(WEIGHTS.nbytes))
    monkeypatch.chdir(tmp_path)
    (values,) = weights_in(stored_model(net)).values()
    assert values.tobytes() == WEIGHTS.tobytes()


def test_tensors_of_nodes_are_external_data_too(net):
    model = onnx.load(net, load_external_data=False)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["W"], value=model.graph.initializer[0]))
    del model.graph.initializer[:]
    net.write_bytes(model.SerializeToString())
    assert external_files(net) == {net.parent / "w.bin"}
    assert bytes_on_disk(net) == net.stat().st_size + WEIGHTS.nbytes
    inside = taken_in(net)
    assert numpy_helper.to_array(inside.graph.node[0].attribute[0].t).tobytes() == WEIGHTS.tobytes()


def test_bytes_that_refer_to_other_files_are_refused(net):
    """Bytes do not tell the folder: a runtime would look in the current one."""
    for work in (in_memory, lambda data: decoded_weights(data, ["W"])):
        with pytest.raises(ArgumentError, match="must hold all its tensors, got 'W' in a file beside it"):
            work(net.read_bytes())


def test_data_out_of_the_folder_is_refused(net, tmp_path):
    (net.parent / "w.bin").rename(tmp_path / "w.bin")
    model = onnx.load(net, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../w.bin"
    net.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="must lie in the model's folder"):
        stored_model(net)


@pytest.mark.parametrize("location", ["none.bin", "big.bin", "../secret.bin", "net.onnx"])
@pytest.mark.parametrize(
    ("where", "opset"), [("initializer", 12), ("initializer", 18), ("constant", 12), ("constant", 18), ("function", 18)]
)
def test_places_that_a_tensor_in_the_file_states_are_not_looked_at(location, where, opset, tmp_path):
    """Only ``data_location`` makes a tensor external. Other files are never read, counted or guarded."""
    model = matmul_model(WEIGHTS, opset=opset)
    tensor = model.graph.initializer[0]
    if where != "initializer":
        node = helper.make_node("Constant", [], ["W"], value=tensor)
        model.graph.node.insert(0, node)
        del model.graph.initializer[:]
        tensor = node.attribute[0].t
    if where == "function":
        opsets = [helper.make_opsetid("", opset)]
        body = helper.make_function("mine", "F", ["x"], ["y"], list(model.graph.node), opsets)
        model.functions.append(body)
        model.opset_import.append(helper.make_opsetid("mine", 1))
        del model.graph.node[:]
        model.graph.node.append(helper.make_node("F", ["x"], ["y"], domain="mine"))
    for tensor in tensors(model):
        tensor.external_data.add(key="location", value=location)
    path, other = tmp_path / "models" / "net.onnx", tmp_path / "models" / "big.bin"
    path.parent.mkdir()
    other.write_bytes(bytes(100_000))
    path.write_bytes(model.SerializeToString())
    assert external_files(path) == set()
    assert bytes_on_disk(path) == path.stat().st_size
    assert stored_model(path).proto == model
    refuse_overwriting(path, other)
    (stored,) = read_model(path).graph.initializers.values()
    assert stored.const_value.numpy().tobytes() == WEIGHTS.tobytes()


def test_a_stated_place_changes_no_result(tmp_path):
    for name in ("plain", "stray"):
        model = matmul_model(WEIGHTS)
        if name == "stray":
            model.graph.initializer[0].external_data.add(key="location", value="none.bin")
        onnx.save(model, tmp_path / f"{name}.onnx")
        sws.compress(tmp_path / f"{name}.onnx", tmp_path / f"{name}.small.onnx")
    assert (tmp_path / "plain.small.onnx").read_bytes() == (tmp_path / "stray.small.onnx").read_bytes()
    assert sws.inspect(tmp_path / "stray.onnx").disk_bytes == (tmp_path / "stray.onnx").stat().st_size


def test_external_tensors_with_bytes_in_the_file_too_are_refused(net):
    model = onnx.load(net, load_external_data=False)
    model.graph.initializer[0].raw_data = WEIGHTS.tobytes()
    net.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="must pass the ONNX checker"):
        read_model(net)


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"not a model")
    for work in (stored_model, external_files, bytes_on_disk):
        with pytest.raises(ModelError, match="must be an ONNX file"):
            work(tmp_path / "net.onnx")
