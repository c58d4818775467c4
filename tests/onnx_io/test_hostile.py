"""Hostile files are refused: one clear line each, nothing written, no crash, bounded memory."""

from __future__ import annotations

import os
import resource
import time

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import sws_compress as sws
from sws_compress.errors import ModelError, VerificationError
from sws_compress.onnx_io.analyse.weights import find_weights
from sws_compress.onnx_io.format.decoders import find_decoders
from sws_compress.onnx_io.format.mark import mark_of_proto
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.read.on_disk import bytes_on_disk
from sws_compress.packing.pack import find_palettes, pack
from tests.onnx_io.models import as_ir, few_values, matmul_model
from tests.onnx_io.nested_models import in_branches, in_functions
from tests.whole import expanded, inspected, taken_in

WEIGHTS = few_values((64, 64), [0, 1, 2], [8, 1, 1])
TERABYTES = [1 << 20, 1 << 22]


@pytest.fixture
def home(tmp_path):
    """A folder with a model whose weight lies in w.bin, and a secret beside the folder."""
    folder = tmp_path / "models"
    folder.mkdir()
    onnx.save(
        matmul_model(WEIGHTS), folder / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    (tmp_path / "secret.bin").write_bytes(bytes(WEIGHTS.nbytes))
    return folder


def refused(path):
    """The message of a refusal: one line in the common form. Nothing is written, and hardly any memory is taken."""
    before = sorted(os.listdir(path.parent)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError) as caught:
        find_weights(read_model(path))
    message = str(caught.value)
    assert "\n" not in message
    assert " must " in message
    assert ", got " in message
    assert len(message) < 1000
    assert sorted(os.listdir(path.parent)) == before[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before[1] + 200_000  # KiB
    return message


def saved(model, tmp_path):
    (tmp_path / "net.onnx").write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return tmp_path / "net.onnx"


def with_external(home, **fields):
    model = onnx.load(home / "net.onnx", load_external_data=False)
    tensor = model.graph.initializer[0]
    known = {entry.key: entry.value for entry in tensor.external_data} | fields
    del tensor.external_data[:]
    for key, value in known.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return saved(model, home)


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "/etc/passwd", "", ".", "..", "sub/../../secret.bin", "link.bin", "folder/secret.bin", "w\0.bin",
     "x" * 5000, "circle"],
)  # fmt: skip
def test_external_data_out_of_the_folder(home, location):
    (home / "link.bin").symlink_to(home.parent / "secret.bin")
    (home / "folder").symlink_to(home.parent)
    (home / "circle").symlink_to(home / "circle")
    assert "model's folder" in refused(with_external(home, location=location))


def test_external_data_by_links_within_the_folder_is_read(home):
    (home / "link.bin").symlink_to(home / "w.bin")
    (weight,) = find_weights(read_model(with_external(home, location="w.bin", checksum="0")))
    assert weight.values.tobytes() == WEIGHTS.tobytes()


@pytest.fixture
def cache(home):
    """The model and its data as a cache of the Hugging Face hub: links to files that lie side by side."""
    blobs, snapshot = home.parent / "blobs", home.parent / "snapshots" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (home / "net.onnx").rename(blobs / "aaa")
    (home / "w.bin").rename(blobs / "bbb")
    (snapshot / "net.onnx").symlink_to("../../blobs/aaa")
    (snapshot / "w.bin").symlink_to("../../blobs/bbb")
    return snapshot


def test_links_into_one_cache_are_read(cache):
    (weight,) = find_weights(read_model(cache / "net.onnx"))
    assert weight.values.tobytes() == WEIGHTS.tobytes()
    inside = taken_in(cache / "net.onnx")
    assert numpy_helper.to_array(inside.graph.initializer[0]).tobytes() == WEIGHTS.tobytes()
    assert bytes_on_disk(cache / "net.onnx") == (cache / "net.onnx").stat().st_size + WEIGHTS.nbytes
    result = sws.compress(cache / "net.onnx", cache / "small.onnx")
    assert result.file_bytes < WEIGHTS.nbytes / 4


def test_other_links_out_of_a_cache_are_refused(cache):
    """The data is no link, or leads elsewhere than the model does, or the model is no link."""
    target = cache / "w.bin"
    for elsewhere in ("../../secret.bin", "../../blobs/../secret.bin", "../../blobs/sub/ccc"):
        target.unlink()
        target.symlink_to(elsewhere)
        assert "model's folder" in refused(cache / "net.onnx")
    target.unlink()
    target.symlink_to("../../blobs/bbb")
    for location in ("../../blobs/bbb", str(cache.parents[1] / "blobs" / "bbb"), "../onnx/../../blobs/bbb"):
        model = onnx.load(cache / "net.onnx", load_external_data=False)
        next(entry for entry in model.graph.initializer[0].external_data if entry.key == "location").value = location
        (cache.parents[1] / "blobs" / "ccc").write_bytes(model.SerializeToString())
        (cache / "other.onnx").unlink(missing_ok=True)
        (cache / "other.onnx").symlink_to("../../blobs/ccc")
        assert "model's folder" in refused(cache / "other.onnx")
    (cache / "copy.onnx").write_bytes((cache / "net.onnx").read_bytes())
    assert "model's folder" in refused(cache / "copy.onnx")


def test_hard_links_pipes_and_folders_are_no_external_data(home):
    os.link(home.parent / "secret.bin", home / "hard.bin")
    assert "hard link" in refused(with_external(home, location="hard.bin"))
    os.mkfifo(home / "pipe")
    assert "must exist" in refused(with_external(home, location="pipe"))
    (home / "sub").mkdir()
    assert "must exist" in refused(with_external(home, location="sub"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"offset": -4}, "number >= 0, got '-4'"),
        ({"offset": "ten"}, "number >= 0"),
        ({"offset": "9" * 400}, "number >= 0"),
        ({"length": 4}, "must hold 16384 bytes, got 4"),
        ({"length": 1 << 60}, "must hold 16384 bytes"),
        ({"offset": 8}, "must end within the"),
        ({"offset": 1 << 62}, "must end within the"),
        ({"offset": 1 << 62, "length": None}, "must end within the"),
    ],
)
def test_external_offsets_and_lengths(home, fields, message):
    assert message in refused(with_external(home, **fields))


def test_external_data_that_is_cut_off(home):
    data = (home / "w.bin").read_bytes()
    (home / "w.bin").write_bytes(data[:-1])
    assert "must end within the" in refused(home / "net.onnx")


def test_external_data_of_constant_nodes_is_checked_and_read(home):
    model = onnx.load(home / "net.onnx", load_external_data=False)
    tensor = model.graph.initializer[0]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["W"], value=tensor))
    del model.graph.initializer[:]
    (weight,) = find_weights(read_model(saved(model, home)))
    assert weight.values.tobytes() == WEIGHTS.tobytes()
    next(entry for entry in model.graph.node[0].attribute[0].t.external_data).value = "../secret.bin"
    assert "model's folder" in refused(saved(model, home))


@pytest.mark.parametrize("dims", [TERABYTES, [1 << 62, 1 << 62, 1 << 62], [3, 3], [-1, 4096], [-64, -64]])
@pytest.mark.parametrize("where", ["initializer", "constant", "branch", "function", "external", "typed"])
def test_shapes_that_the_data_does_not_fill(tmp_path, dims, where):
    if where == "branch":
        model = in_branches()
        tensor = model.graph.node[0].attribute[0].g.initializer or model.graph.node[0].attribute[1].g.initializer
        tensor = tensor[0]
    elif where == "function":
        model = in_functions()
        tensor = model.functions[0].node[0].attribute[0].t
    else:
        model = matmul_model(WEIGHTS)
        tensor = model.graph.initializer[0]
        if where == "constant":
            model.graph.node.insert(0, helper.make_node("Constant", [], ["W"], value=tensor))
            del model.graph.initializer[:]
            tensor = model.graph.node[0].attribute[0].t
        if where == "typed":
            tensor.ClearField("raw_data")
            tensor.float_data.extend(WEIGHTS.reshape(-1).tolist())
        if where == "external":
            (tmp_path / "w.bin").write_bytes(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="w.bin")
    del tensor.dims[:]
    tensor.dims.extend(dims)
    path = saved(model, tmp_path)
    if where == "external" and dims == [3, 3]:
        return  # an external tensor may be a part of its file
    message = refused(path)
    assert "must hold" in message or "must not be negative" in message or "must end within" in message


@pytest.mark.parametrize("size", [0, 1, WEIGHTS.nbytes - 1, WEIGHTS.nbytes + 1])
def test_raw_data_of_the_wrong_length(tmp_path, size):
    model = matmul_model(WEIGHTS)
    model.graph.initializer[0].raw_data = bytes(size)
    assert f"must hold {WEIGHTS.nbytes} bytes, got {size}" in refused(saved(model, tmp_path))


@pytest.mark.parametrize("number", [0, 99, -1, 1 << 30])
def test_types_that_do_not_exist(tmp_path, number):
    model = matmul_model(WEIGHTS)
    model.graph.initializer[0].data_type = number
    refused(saved(model, tmp_path))


def test_every_type_that_exists_is_measured_right(tmp_path):
    """Tensors that onnx itself writes are never refused."""
    tensors = []
    for name, number in TensorProto.DataType.items():
        if name in ("UNDEFINED", "STRING") or number not in set(ir.DataType):  # an older onnx-ir knows fewer
            continue
        for raw in (True, False):
            dtype = helper.tensor_dtype_to_np_dtype(number)
            values = np.ones((3, 5), dtype)
            tensor = numpy_helper.from_array(values, f"{name}.{raw}")
            if not raw:
                try:
                    tensor = helper.make_tensor(f"{name}.{raw}", number, (3, 5), values.reshape(-1).tolist())
                except (TypeError, ValueError):  # NumPy cannot make lists of some
                    continue
            tensors.append(tensor)
    tensors.append(helper.make_tensor("text", TensorProto.STRING, (2,), [b"a", b"b"]))
    tensors.append(numpy_helper.from_array(np.zeros((0, 4), np.float32), "empty"))
    model = matmul_model(WEIGHTS)
    model.graph.initializer.extend(tensors)
    model.ir_version, model.opset_import[0].version = onnx.IR_VERSION, 21
    read_model(saved(model, tmp_path))


def test_zero_size_tensors(tmp_path):
    model = matmul_model(np.zeros((0, 5), np.float32))
    assert find_weights(read_model(saved(model, tmp_path)), smallest=0) == ()
    model.graph.initializer[0].raw_data = b"1234"
    assert "must hold 0 bytes" in refused(saved(model, tmp_path))


def test_duplicate_names(tmp_path):
    model = matmul_model(WEIGHTS)
    model.graph.initializer.append(model.graph.initializer[0])
    assert "unique" in refused(saved(model, tmp_path))
    model = matmul_model(WEIGHTS)
    model.graph.node.append(model.graph.node[0])
    refused(saved(model, tmp_path))
    model = in_functions()
    model.functions.append(model.functions[0])
    refused(saved(model, tmp_path))


def test_functions_that_call_themselves(tmp_path):
    model = in_functions()
    opsets = model.functions[0].opset_import
    for entry in model.functions:
        del entry.opset_import[:]
        entry.opset_import.extend([helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)])
    inner = next(entry for entry in model.functions if entry.name == "Inner")
    inner.node.append(helper.make_node("Outer", ["b"], ["c"], domain="mine"))
    assert opsets
    assert "functions must not call themselves" in refused(saved(model, tmp_path))
    inner.node[-1].op_type = "Inner"
    assert "functions must not call themselves" in refused(saved(model, tmp_path))


def test_calls_with_more_inputs_than_the_function_has(tmp_path):
    model = in_functions()
    model.graph.node[0].input.append("x")
    assert "must have at most 1 inputs and 1 outputs, got 2 and 1" in refused(saved(model, tmp_path))


def test_functions_that_read_what_nobody_makes(tmp_path):
    model = in_functions()
    model.functions[0].node[-1].input[0] = "x"
    assert "must define what its nodes read, got 'x'" in refused(saved(model, tmp_path))


def test_functions_that_do_not_make_their_outputs(tmp_path):
    model = in_functions()
    model.functions[0].output[0] = "elsewhere"
    assert "must make its outputs, got none named 'elsewhere'" in refused(saved(model, tmp_path))


def test_names_that_are_no_text(tmp_path):
    data = matmul_model(WEIGHTS).SerializeToString()
    assert "must be text" in refused(saved(data.replace(b"the matmul", b"the \xff\xfe\xfdmul"), tmp_path))


def test_compressed_files_whose_decoders_fail(tmp_path):
    model = as_ir(matmul_model(few_values((64, 64), np.arange(16), np.ones(16))))
    broken = onnx.load_from_string(pack(model, find_palettes(model)).data)
    tensor = next(tensor for tensor in broken.graph.initializer if tensor.data_type == TensorProto.UINT8)
    tensor.dims[0] -= 1
    tensor.raw_data = tensor.raw_data[: int(np.prod(tensor.dims))]
    for work in (inspected, expanded):
        with pytest.raises(VerificationError, match="decode nodes must run"):
            work(broken.SerializeToString())
    path = saved(broken, tmp_path)
    for command in (sws.inspect, sws.clusters, lambda file: sws.expand(file, tmp_path / "plain.onnx")):
        with pytest.raises(ModelError, match=r"net.onnx must decode to weights in ONNX Runtime, got '.*': the file is"):
            command(path)
    assert os.listdir(tmp_path) == ["net.onnx"]


def test_graphs_in_a_circle(tmp_path):
    model = matmul_model(WEIGHTS)
    model.graph.node.insert(0, helper.make_node("MatMul", ["y", "W"], ["x2"]))
    model.graph.node[1].input[0] = "x2"
    assert "nodes must not read their own results, got a circle at 'x2'" in refused(saved(model, tmp_path))


@pytest.mark.parametrize("where", ["branch", "function"])
def test_nested_graphs_in_a_circle(tmp_path, where):
    model = in_branches() if where == "branch" else in_functions()
    body = model.graph.node[0].attribute[0].g if where == "branch" else model.functions[0]
    body.node.append(helper.make_node("Neg", ["around"], ["around"]))
    assert "a circle at 'around'" in refused(saved(model, tmp_path))


@pytest.mark.parametrize("depth", [20, 60, 3000])
def test_bodies_in_bodies(tmp_path, depth):
    """The deepest are deeper than parsers go, so they are written byte by byte."""
    model = matmul_model(WEIGHTS)
    node = helper.make_node("Identity", ["x"], ["t"]).SerializeToString()
    output = helper.make_tensor_value_info("t", TensorProto.FLOAT, None).SerializeToString()
    for _ in range(depth):
        graph = field(1, node) + field(2, b"g") + field(12, output)
        branches = b"".join(
            field(5, field(1, name) + field(6, graph) + b"\xa0\x01\x05")
            for name in (b"then_branch", b"else_branch")[:1]
        )
        node = field(1, b"c") + field(2, b"t") + field(4, b"If") + branches
    data = model.SerializeToString()
    path = saved(data + field(7, field(1, node)), tmp_path)
    with pytest.raises(ModelError):
        read_model(path)


def field(number, data):
    length, size = bytearray(), len(data)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + data


def test_sparse_initializers_are_refused_not_lost(tmp_path):
    model = matmul_model(WEIGHTS)
    values = helper.make_tensor("S", TensorProto.FLOAT, [1], [2.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [3])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))
    assert "must be dense" in refused(saved(model, tmp_path))


def test_devices_and_pipes_are_no_models(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "ordinary file" in refused(tmp_path / "pipe.onnx")


@pytest.mark.parametrize("size", [0, 1, 7, 100, 2000, 15000])
def test_truncated_files(tmp_path, size):
    data = matmul_model(WEIGHTS).SerializeToString()
    refused(saved(data[:size], tmp_path))


@pytest.mark.parametrize("count", [3, 9, 14, 60, 3000])
def test_functions_that_double(tmp_path, count):
    """Each calls the next one twice; the number of nodes is 2^count."""
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("double", 1)]
    model = matmul_model(WEIGHTS)
    model.opset_import.add(domain="double", version=1)
    for number in range(count):
        called, domain = ("Neg", "") if number == count - 1 else (f"f{number + 1}", "double")
        calls = [helper.make_node(called, [a], [b], domain=domain) for a, b in (("a", "m"), ("m", "b"))]
        model.functions.append(helper.make_function("double", f"f{number}", ["a"], ["b"], calls, imports))
    model.graph.node[0].output[0] = "t"
    model.graph.node.append(helper.make_node("f0", ["t"], ["y"], domain="double"))
    path = saved(model, tmp_path)
    if count < 10:
        read_model(path)
    else:
        assert f"nodes of {2 * count + 2} when they are inlined" in refused(path)


def test_a_function_that_every_layer_calls(tmp_path):
    """Twenty nodes, called by 96 layers, are no attack."""
    imports = [helper.make_opsetid("", 18)]
    body = [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(200)]
    model = matmul_model(WEIGHTS)
    model.opset_import.add(domain="mine", version=1)
    model.functions.append(helper.make_function("mine", "layer", ["v0"], ["v200"], body, imports))
    model.graph.node[0].output[0] = "t0"
    calls = [helper.make_node("layer", [f"t{i}"], ["y" if i == 95 else f"t{i + 1}"], domain="mine") for i in range(96)]
    model.graph.node.extend(calls)
    assert len(find_weights(read_model(saved(model, tmp_path)))) == 1


def chain_of_decoders(count):
    """Each decoded tensor is computed from the one before it, and all are asked for."""
    model = matmul_model(WEIGHTS)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "c0"))
    chain = [helper.make_node("Neg", [f"c{number}"], [f"c{number + 1}"]) for number in range(count)]
    product = graph.node.pop()
    graph.node.extend([*chain, product])
    graph.output.extend(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [3]) for node in chain)
    model.metadata_props.add(key="sws_compress", value=f"1:{count}")
    return model


def test_a_thousand_decoders_that_depend_on_each_other():
    """Every byte counts once; no step looks at all pairs of tensors for all nodes."""
    begun = time.process_time()
    parts = inspected(chain_of_decoders(1000).SerializeToString())
    assert time.process_time() - begun < 6
    assert len(parts.rows) == 1001
    assert sum(row.file_bytes for row in parts.rows) + parts.shared_bytes + parts.graph_bytes == parts.file_bytes


def test_decoders_that_read_too_much_together():
    """Three thousand of a chain read five million values: that is refused before they are listed."""
    proto = chain_of_decoders(3000)
    with pytest.raises(ModelError, match="decoders must read at most 1000000 values together, got more at"):
        find_decoders(proto, mark_of_proto(proto))


def test_calls_of_functions_that_are_missing():
    proto = chain_of_decoders(1)
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "unpack7", "sws"
    with pytest.raises(ModelError, match="functions that are in the file, got 'unpack7'"):
        find_decoders(proto, mark_of_proto(proto))


@pytest.mark.parametrize("values", [["a", "b"], np.zeros((0, 4), np.float32)], ids=["strings", "empty"])
def test_decoded_tensors_without_numbers(tmp_path, values):
    proto = chain_of_decoders(1)
    made = numpy_helper.from_array(np.array(values, object) if isinstance(values, list) else values)
    proto.graph.node[0].CopyFrom(helper.make_node("Constant", [], ["c1"], value=made))
    path = saved(proto, tmp_path)
    if isinstance(values, list):
        with pytest.raises(ModelError):
            sws.inspect(path)
    else:
        row = next(row for row in sws.inspect(path).parts.rows if row.name == "c1")
        assert (row.shape, row.file_bytes, row.distinct_values) == ((0, 4), 0, 0)


@pytest.mark.parametrize("kind", ["TENSOR", "GRAPH", "SPARSE_TENSOR", "TYPE_PROTO"])
def test_attributes_without_the_value_that_they_state(tmp_path, kind):
    model = matmul_model(WEIGHTS)
    model.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.AttributeType.Value(kind))
    assert "attribute 'body' of 'MatMul' must hold a" in refused(saved(model, tmp_path))


def test_attributes_without_a_type(tmp_path):
    """The ONNX checker does not look at those in functions."""
    model = in_functions()
    model.functions[0].node[-1].attribute.add(name="to", i=1)
    assert "attribute 'to' of 'Add' must have a type" in refused(saved(model, tmp_path))


def test_references_to_attributes_of_no_function(tmp_path):
    """ONNX Runtime takes the value beside the reference; whoever writes the file anew has only the reference."""
    model = matmul_model(WEIGHTS)
    model.graph.node.append(helper.make_node("Softmax", ["y"], ["z"], axis=1))
    model.graph.node[-1].attribute[0].ref_attr_name = "axis"
    assert "outside of functions must have values" in refused(saved(model, tmp_path))


@pytest.mark.parametrize("name", ["x", "y", "W"])
def test_outputs_declared_with_another_type(tmp_path, name):
    model = matmul_model(WEIGHTS)
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", 64]))
    assert f"value '{name}' must have one type, got numbers 1 and 7" in refused(saved(model, tmp_path))


def test_outputs_of_compressed_files_declared_with_an_unknown_type(tmp_path):
    """The ONNX checker lets them through."""
    model = as_ir(matmul_model(few_values((64, 64), np.arange(16), np.ones(16))))
    broken = onnx.load_from_string(pack(model, find_palettes(model)).data)
    broken.graph.output[0].type.tensor_type.elem_type = 99
    with pytest.raises(ModelError, match="must pass the ONNX checker"):
        sws.inspect(saved(broken, tmp_path))


def test_files_that_no_protobuf_is_as_large_as(tmp_path):
    """Terabytes of holes are refused before a byte is read."""
    with open(tmp_path / "net.onnx", "wb") as file:
        file.truncate(1 << 42)
    assert f"must have at most {(1 << 31) - 1} bytes in its own file, got {1 << 42}" in refused(tmp_path / "net.onnx")


def test_decoders_that_make_a_gigabyte_of_a_kilobyte(tmp_path):
    """The runtime's process may hold it, but does not hand it over."""
    model = matmul_model(WEIGHTS)
    tensors = {"one": np.ones((1, 1), np.float32), "large": np.array([1 << 14, 1 << 14])}
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in tensors.items())
    model.graph.node.insert(0, helper.make_node("Expand", ["one", "large"], ["grown"]))
    model.graph.output.append(helper.make_tensor_value_info("grown", TensorProto.FLOAT, [1 << 14, 1 << 14]))
    model.metadata_props.add(key="sws_compress", value="1:1")
    path, before = saved(model, tmp_path), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for command in (sws.inspect, sws.clusters, lambda file: sws.expand(file, tmp_path / "plain.onnx")):
        with pytest.raises(ModelError, match="must decode to weights in ONNX Runtime, got"):
            command(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 300_000  # KiB


@pytest.mark.parametrize("size", [1 << 30, 1 << 40, 1 << 62])
def test_shapes_that_inference_allocates(tmp_path, size):
    """Shape inference with values makes as many numbers as the target of a Reshape says: in another process."""
    model = as_ir(matmul_model(few_values((64, 64), np.arange(16), np.ones(16))))
    broken = onnx.load_from_string(pack(model, find_palettes(model)).data)
    made = {node.output[0]: node for node in broken.graph.node}
    table = made["W"]
    broken.graph.initializer.append(numpy_helper.from_array(np.array([size]), "huge"))
    broken.graph.node.insert(-1, helper.make_node("Reshape", [table.input[0], "huge"], ["flat"]))
    table.input[0] = "flat"
    path, before = saved(broken, tmp_path), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for command in (sws.inspect, sws.clusters):
        with pytest.raises(ModelError):
            command(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 300_000  # KiB
