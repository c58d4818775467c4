"""Models written piece by piece are the models that are written in one piece."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.files import draft
from sws_compress.onnx_io.external_data import external_fields, is_external, offset_and_length
from sws_compress.onnx_io.format.sizes import initializer_bytes, model_bytes
from sws_compress.onnx_io.write.external import (
    LARGE_TENSOR_BYTES,
    DataFile,
    inline_bytes,
    moved_to,
    with_external_data,
    write_inline,
)
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.session import session

RANDOM = np.random.default_rng(0)
LARGE = RANDOM.standard_normal((61, 83)).astype(np.float32)  # not a multiple of a page
HALVES = RANDOM.standard_normal((83, 47)).astype(np.float16)
SMALL = RANDOM.standard_normal(47).astype(np.float32)


def network() -> ir.Model:
    """x (n, 61) -> MatMul, Cast, MatMul, Cast, Add -> y (n, 47), with two large weights and a small one."""
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["b", "halves"], ["c"]),
        helper.make_node("Cast", ["c"], ["d"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["d", "small"], ["y"]),
    ]
    tensors = {"large": LARGE, "halves": HALVES, "small": SMALL}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 61])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 47])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {"author": "me"})
    return ir.from_proto(model)


def answer(source):
    x = np.random.default_rng(1).standard_normal((3, 61)).astype(np.float32)
    return session(source).run({"x": x})[0]


@pytest.fixture
def data(tmp_path):
    with draft(tmp_path / "net.onnx.data") as file:
        yield DataFile(file)


# -- the data file ----------------------------------------------------------------------------------------------------


def test_arrays_come_back_mapped_and_begin_at_pages(data):
    arrays = [LARGE, np.arange(5, dtype=np.int8), HALVES[::2], np.zeros((0, 3), np.float32)[:0], SMALL]
    mapped = [data.add(array) for array in arrays if array.size]
    for array, back in zip([array for array in arrays if array.size], mapped, strict=True):
        assert isinstance(back, np.memmap)
        assert back.offset % 4096 == 0
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.tobytes() == array.tobytes()
    assert data.bytes == data.path.stat().st_size == mapped[-1].offset + SMALL.nbytes


def test_tensors_of_mapped_arrays_are_not_written_again(data):
    mapped = data.add(LARGE)
    size = data.bytes
    assert data.add_tensor(ir.Tensor(mapped)) == mapped.offset
    assert data.bytes == size
    offset = data.add_tensor(ir.Tensor(LARGE))
    assert offset >= size
    assert data.path.read_bytes()[offset : offset + LARGE.nbytes] == LARGE.tobytes()


def test_arrays_stay_valid_when_the_file_is_published(tmp_path, data):
    mapped = data.add(LARGE)
    data.publish(tmp_path / "other.data")
    assert mapped.tobytes() == LARGE.tobytes()
    assert (tmp_path / "other.data").read_bytes() == LARGE.tobytes()


# -- models -----------------------------------------------------------------------------------------------------------


def test_large_tensors_go_to_the_data_file_and_small_ones_stay(data):
    proto = with_external_data(network(), data)
    external = {tensor.name: tensor for tensor in proto.graph.initializer if is_external(tensor)}
    assert external.keys() == {"large", "halves"}
    for name, array in (("large", LARGE), ("halves", HALVES)):
        assert array.nbytes >= LARGE_TENSOR_BYTES
        offset, length = offset_and_length(external[name])
        assert data.path.read_bytes()[offset : offset + length] == array.tobytes()
        assert external_fields(external[name])["location"] == data.path.name


def test_models_in_two_files_run_under_other_names(tmp_path, data):
    wanted = answer(to_bytes(network()))
    proto = with_external_data(network(), data)
    moved_to(proto, "weights.bin")
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    data.publish(tmp_path / "weights.bin")
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)
    assert answer(tmp_path / "net.onnx").tobytes() == wanted.tobytes()


def test_models_written_inline_are_those_that_are_serialised_whole(tmp_path, data):
    proto = with_external_data(network(), data)
    with draft(tmp_path / "net.onnx") as file, data.path.open("rb") as stream:
        offsets = write_inline(proto, stream, file)
        file.publish()
    written = (tmp_path / "net.onnx").read_bytes()
    assert written == to_bytes(network())
    assert offsets.keys() == {"large", "halves"}
    for name, array in (("large", LARGE), ("halves", HALVES)):
        assert written[offsets[name] : offsets[name] + array.nbytes] == array.tobytes()


def test_bytes_are_known_before_a_model_is_written(tmp_path, data):
    proto = with_external_data(network(), data)
    with draft(tmp_path / "net.onnx") as file, data.path.open("rb") as stream:
        write_inline(proto, stream, file)
        file.publish()
    size = (tmp_path / "net.onnx").stat().st_size
    assert size <= inline_bytes(proto) <= size + 2 * 200
    assert model_bytes(proto) == size
    found = onnx.load(tmp_path / "net.onnx")
    sizes = {tensor.name: initializer_bytes(tensor) for tensor in found.graph.initializer}
    assert {tensor.name: initializer_bytes(tensor) for tensor in proto.graph.initializer} == sizes


def test_small_external_tensors_are_loaded(tmp_path, data):
    """A tensor of a few bytes, external in the model that was read, is part of the graph in the one that is written."""
    onnx.save(ir.to_proto(network()), tmp_path / "in.onnx", save_as_external_data=True, location="w", size_threshold=0)
    model = ir.load(tmp_path / "in.onnx")
    assert isinstance(model.graph.initializers["small"].const_value, ir.ExternalTensor)
    proto = with_external_data(model, data)
    (tmp_path / "w").unlink()
    (small,) = (tensor for tensor in proto.graph.initializer if tensor.name == "small")
    assert numpy_helper.to_array(small).tobytes() == SMALL.tobytes()


def test_writing_holds_a_piece_of_a_tensor_at_a_time(tmp_path):
    """96 MB are copied while 40 MB or less are allocated."""
    zeros = np.zeros((1 << 10, 24 << 10), np.float32)
    with draft(tmp_path / "data") as place, draft(tmp_path / "net.onnx") as file:
        data = DataFile(place)
        model = network()
        model.graph.initializers["large"].const_value = ir.Tensor(data.add(zeros), name="large")
        proto = with_external_data(model, data)
        del zeros
        tracemalloc.start()
        try:
            with data.path.open("rb") as stream:
                write_inline(proto, stream, file)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 40e6
