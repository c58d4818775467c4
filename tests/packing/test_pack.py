"""Packed models: the same weights, nothing left over, overhead bounded."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.codec.load_cost import LoadCost
from sws_compress.errors import ArgumentError, ModelError
from sws_compress.onnx_io.read.model import read_model
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.decode import decoded_weights, unfolded_nodes
from sws_compress.ort.session import check_runs
from sws_compress.packing.pack import find_palettes, pack
from sws_compress.quantize.palette import palette_of
from tests.onnx_io.models import as_ir, few_values, lenet, matmul_model, offer_only
from tests.packing.models import arrays
from tests.whole import inspected


def packed_lenet(**options):
    dense = lenet(**options)
    model = as_ir(dense)
    return dense, pack(model, find_palettes(model, smallest=2))


def test_lenet_is_exact_folds_and_stays_within_its_byte_budget():
    dense, packed = packed_lenet()
    check_runs(packed.data)
    expected = arrays(dense)
    decoded = decoded_weights(packed.data, expected)
    assert all(decoded[name].tobytes() == array.tobytes() for name, array in expected.items())
    assert unfolded_nodes(packed.data) == ()
    (difference,) = compare_outputs(dense.SerializeToString(), packed.data)
    assert difference.largest_absolute == 0
    payload = sum({tensor.members: tensor.payload_bytes for tensor in packed.tensors}.values())
    assert {tensor.name for tensor in packed.tensors} == expected.keys()
    assert len(packed.data) - payload <= 1650
    rows = inspected(packed.data).rows
    assert sum(row.file_bytes for row in rows) - payload <= 1350  # decoder, names, shapes, codebooks, tables of gaps


def test_the_model_that_is_packed_stays_as_it_was():
    model = as_ir(lenet())
    before = ir.to_proto(model).SerializeToString()
    pack(model, find_palettes(model))
    assert ir.to_proto(model).SerializeToString() == before


def test_names_of_weights_stay_and_those_of_other_constants_go():
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["h"]),
        helper.make_node("Reshape", ["h", "module/shape"], ["flat"]),
        helper.make_node("Mul", ["flat", "module/scale"], ["y"]),
    ]
    weight = few_values((32, 64), np.linspace(-1, 1.25, 4), np.ones(4))
    tensors = {"weight": weight, "module/shape": np.array([-1]), "module/scale": np.float32(0.5)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m"])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    dense = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    before = dense.SerializeToString()
    packed = pack(as_ir(dense), find_palettes(as_ir(dense)))
    assert {"module/shape", "module/scale"} == packed.renamed.keys()
    assert b"weight" in packed.data
    assert b"module/" not in packed.data
    assert dense.SerializeToString() == before
    (difference,) = compare_outputs(before, packed.data)
    assert difference.largest_absolute == 0


def test_packing_twice_gives_the_same_bytes():
    assert packed_lenet()[1].data == packed_lenet()[1].data


def test_nothing_is_left_over():
    dense, packed = packed_lenet()
    model = onnx.load_from_string(packed.data)
    graph = model.graph
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read
    assert not {tensor.name for tensor in graph.initializer} & arrays(dense).keys()
    called = {node.op_type for node in graph.node if node.domain} | {
        node.op_type for function in model.functions for node in function.node if node.domain
    }
    assert {function.name for function in model.functions} == called
    for function in model.functions:
        used = {name for node in function.node for name in node.input} | set(function.output)
        made = {node.output[-1] for node in function.node}
        assert set(function.input) <= used
        assert made <= used
    assert not graph.value_info
    assert b"pytorch" not in packed.data
    decoding = sum(
        node.output[0] not in {"output", *"abcd"} and node.op_type not in ("Gemm", "Relu") for node in graph.node
    )
    marks = [(entry.key, entry.value) for entry in model.metadata_props]
    assert marks == [("author", "me"), ("sws_compress", f"1:{decoding}")]
    assert not any(node.name or node.doc_string for node in graph.node)


def test_private_paths_do_not_reach_the_file():
    weights = few_values((64, 64), [0, 1, 2], [8, 1, 1])
    model = as_ir(matmul_model(weights))
    for node in model.graph:
        node.metadata_props["pkg.torch.onnx.stack_trace"] = "File /home/someone/secret.py"
    assert b"someone" not in pack(model, find_palettes(model)).data


def test_tensors_that_gain_nothing_stay_dense():
    random = np.random.default_rng(0)
    weights = few_values((5, 4), random.standard_normal(20), np.ones(20))
    packed = pack(as_ir(matmul_model(weights)), {"W": palette_of(weights)})
    assert packed.tensors == ()
    model = onnx.load_from_string(packed.data)
    assert arrays(model)["W"].tobytes() == weights.tobytes()
    assert not model.functions


def test_palettes_replace_values_also_where_the_tensor_stays_dense():
    weights = few_values((5, 4), np.arange(20), np.ones(20))
    packed = pack(as_ir(matmul_model(weights + 1)), {"W": palette_of(weights)})
    assert decoded_weights(packed.data, ["W"])["W"].tobytes() == weights.tobytes()


def test_palettes_must_fit_the_model():
    weights = few_values((8, 8), [0, 1], [1, 1])
    model = as_ir(matmul_model(weights))
    with pytest.raises(ArgumentError, match="palette V must name a float32 initialiser"):
        pack(model, {"V": palette_of(weights)})
    with pytest.raises(ArgumentError, match=r"must have shape \(8, 8\), got \(4, 16\)"):
        pack(model, {"W": palette_of(weights.reshape(4, 16))})


def test_a_packed_model_is_not_packed_again():
    _, packed = packed_lenet()
    model = ir.from_proto(onnx.load_from_string(packed.data))
    with pytest.raises(ModelError, match="must not be compressed already"):
        pack(model, {})


def test_names_of_the_model_are_not_taken():
    weights = few_values((70, 70), [0, 1, -1], [20, 1, 1])
    model = matmul_model(weights, name="a")
    model.graph.node[0].input[0] = model.graph.input[0].name = "b"
    model.graph.node[0].output[0] = model.graph.output[0].name = "c"
    packed = pack(as_ir(model), {"a": palette_of(weights)})
    check_runs(packed.data)
    assert decoded_weights(packed.data, ["a"])["a"].tobytes() == weights.tobytes()


def test_external_data_comes_into_the_file(tmp_path):
    model = lenet(sizes=(64, 32, 10), zeros=(0.9, 0.9))
    model.graph.initializer[2].CopyFrom(
        numpy_helper.from_array(np.random.default_rng(0).standard_normal((10, 32)).astype(np.float32), "2.weight")
    )
    expected = arrays(model)
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="data", size_threshold=0)
    read = read_model(tmp_path / "net.onnx")
    packed = pack(read, find_palettes(read))
    (tmp_path / "data").unlink()
    decoded = decoded_weights(packed.data, expected)
    assert [tensor.name for tensor in packed.tensors] == ["0.weight", "0.bias"]
    assert all(decoded[name].tobytes() == array.tobytes() for name, array in expected.items())


def test_weights_read_in_subgraphs_by_several_nodes_and_declared_as_inputs():
    weights = few_values((64, 64), [0, 1, -2], [30, 1, 1])
    branches = {
        name: helper.make_graph(
            [helper.make_node(operator, ["x", "W"], [f"{name}_y"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)],
        )
        for name, operator in (("then", "MatMul"), ("else", "Add"))
    }
    graph = helper.make_graph(
        [
            helper.make_node("If", ["flag"], ["z"], then_branch=branches["then"], else_branch=branches["else"]),
            helper.make_node("MatMul", ["z", "W"], ["y"]),
        ],
        "main",
        [
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64]),
            helper.make_tensor_value_info("W", TensorProto.FLOAT, [64, 64]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 64])],
        [numpy_helper.from_array(weights, "W")],
    )
    dense = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=7)
    model = as_ir(dense)
    packed = pack(model, find_palettes(model))
    assert [tensor.name for tensor in packed.tensors] == ["W"]
    check_runs(packed.data)
    assert [entry.name for entry in onnx.load_from_string(packed.data).graph.input] == ["flag", "x"]
    feeds = {"x": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}
    for flag in (True, False):
        (difference,) = compare_outputs(dense.SerializeToString(), packed.data, feeds | {"flag": np.array(flag)})
        assert difference.largest_relative < 1e-6


def test_many_tensors_share_their_decoder():
    sizes = (40,) * 12
    dense, packed = packed_lenet(sizes=sizes, zeros=(0.9,) * 11)
    inspection = inspected(packed.data)
    assert inspection.shared_bytes < 900
    decoded = decoded_weights(packed.data, arrays(dense))
    assert all(decoded[name].tobytes() == array.tobytes() for name, array in arrays(dense).items())
    assert unfolded_nodes(packed.data) == ()


def test_what_tensors_compute_alike_is_computed_once(monkeypatch):
    """Positions of the symbols of two tensors of one size: the Range of strides, which stays in memory at load."""
    offer_only(monkeypatch, "strides")
    dense = lenet(sizes=(300, 300, 300), zeros=(0.3, 0.3))
    model = as_ir(dense)
    packed = pack(model, {f"{layer}.weight": palette_of(arrays(dense)[f"{layer}.weight"]) for layer in (0, 2)})
    assert [tensor.encoding for tensor in packed.tensors] == ["strides", "strides"]
    nodes = onnx.load_from_string(packed.data).graph.node
    computed = [(node.op_type, tuple(node.input), str(node.attribute)) for node in nodes]
    assert len(set(computed)) == len(computed)
    assert [operator for operator, *_ in computed].count("Range") == 1
    check_runs(packed.data)
    assert unfolded_nodes(packed.data) == ()
    assert [row.encoding for row in inspected(packed.data).rows if len(row.shape) > 1] == ["strides", "strides"]
    decoded = decoded_weights(packed.data, [tensor.name for tensor in packed.tensors])
    assert all(decoded[name].tobytes() == arrays(dense)[name].tobytes() for name in decoded)


@pytest.mark.parametrize(
    ("values", "shares", "encoding"),
    [
        ([0, 1, 2, -3], [20, 1, 1, 1], "sparse"),
        ([1, 2, 3, 4], [1, 1, 1, 1], "radix"),
        ([4.5], [1], "constant"),
        (np.arange(8) - 3.5, [1, 1, 1, 9, 2, 8, 3, 1], "huffman"),
        (np.arange(8) - 3, [1, 1, 1, 400, 2, 40, 3, 1], "classes"),
    ],
)
def test_the_best_encoding_is_found_and_named_in_the_file(values, shares, encoding):
    weights = few_values((300, 211), values, shares)
    model = as_ir(matmul_model(weights))
    packed = pack(model, find_palettes(model))
    assert packed.tensors[0].encoding == encoding
    assert inspected(packed.data).rows[0].encoding == encoding


def test_slow_codes_are_left_out_where_loading_must_be_fast():
    weights = few_values((300, 200), np.arange(16) - 7.5, np.exp(-(np.linspace(-3.5, 3.5, 16) ** 2) / 2))
    model = as_ir(matmul_model(weights))
    (small,), (fast,) = (
        pack(model, find_palettes(model), load_limit=limit).tensors for limit in (None, LoadCost(0.003, 1e9))
    )
    assert (small.encoding, fast.encoding) == ("buckets", "radix")
    assert fast.load.seconds < 0.003 < small.load.seconds
