"""Files whose weights stay in few bits become plain float32 models."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import sws_compress as sws
from sws_compress.onnx_io.write.unblocked import expand_blocked
from sws_compress.pipelines.low_bit_model import pack_low_bit
from tests.models import gaussian
from tests.pipelines.test_low_bit import FEEDS, small_model

NESTED = """<ir_version: 8, opset_import: ["": 17]>
g (int64[n] ids, bool c) => (float[n, 70] y) {
    y = If(c) <then_branch = a () => (float[n, 70] y1) { e1 = Gather(table, ids) y1 = MatMul(e1, turned) },
               else_branch = b () => (float[n, 70] y2) { e2 = Gather(table, ids) f2 = Neg(e2) y2 = MatMul(f2, other) }>
}"""


def nested() -> onnx.ModelProto:
    """Look-ups and products in branches; the table has an odd number of blocks and a last one that is cut off."""
    model = onnx.parser.parse_model(NESTED)
    arrays = {"table": gaussian(100, 70), "turned": gaussian(70, 70, seed=1), "other": gaussian(70, 70, seed=2)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


@pytest.mark.parametrize(
    ("make", "bits", "symmetric", "block_size"),
    [*itertools.product((small_model, nested), (4, 8), (True, False), (32,)), (small_model, 4, False, 64)],
)
def test_low_bit_files_become_plain(tmp_path: Path, make, bits: int, symmetric: bool, block_size: int) -> None:
    model = make()
    onnx.save(model, tmp_path / "net.onnx")
    request = sws.LowBit(bits=bits, symmetric=symmetric, block_size=block_size)
    small = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", request)
    result = sws.expand(small.output, tmp_path / "plain.onnx")
    plain = onnx.load(result.output)
    assert result.notes == ()
    assert {entry.domain for entry in plain.opset_import} == {""}
    operators = {node.op_type for node in plain.graph.node}
    assert operators <= {"Gather", "MatMul", "Add", "LayerNormalization", "Relu", "If"}
    palettes = pack_low_bit(ir.from_proto(model), request).palettes
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    assert set(result.expanded) == set(palettes)
    for name, palette in palettes.items():
        wanted = palette.expand()
        assert held[name].dtype == np.float32
        assert np.array_equal(held[name], wanted) or np.array_equal(held[name], wanted.T), name
    for flag in (True, False):
        feeds = FEEDS if make is small_model else {"ids": np.arange(100), "c": np.array(flag)}
        assert sws.verify(small.output, result.output, inputs=feeds, tolerance=0.02).passed
    again = sws.compress(result.output, tmp_path / "again.onnx", sws.LowBit(bits=bits))
    assert {row.name for row in again.tensors} == set(palettes)


def test_a_table_that_is_multiplied_by_too_is_stored_once(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (int64[n] ids) => (float[n, 100] y) {
        e = Gather(table, ids) f = Tanh(e) y = Gemm<transB = 1>(f, table)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(gaussian(100, 64), "table"))
    onnx.save(model, tmp_path / "net.onnx")
    small = sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx", sws.LowBit(bits=8))
    result = sws.expand(small.output, tmp_path / "plain.onnx")
    assert result.expanded == ("table",)
    assert [tensor.name for tensor in onnx.load(result.output).graph.initializer] == ["table"]
    assert sws.verify(small.output, result.output, inputs={"ids": np.arange(100)}, tolerance=0.02).passed


def test_products_of_the_original_stay_and_are_told(tmp_path: Path) -> None:
    """A model with MatMulNBits of another tool, packed without loss."""
    indices = np.random.default_rng(0).choice([3, 120, 200, 255], (48, 2, 16), p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node(
            "MatMulNBits", ["h", "B", "s"], ["y"], domain="com.microsoft", K=64, N=48, bits=4, block_size=32
        ),
    ]
    tensors = {"w": gaussian(40, 64), "B": indices, "s": gaussian(48, 2, seed=4)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 48])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    source = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), source)
    sws.compress(source, tmp_path / "small.onnx")
    result = sws.expand(tmp_path / "small.onnx", tmp_path / "plain.onnx")
    assert result.notes == (
        "1 products in few bits stay (MatMulNBits): they were in the original, or the file is packed in memory "
        "(--memory packed)",
    )
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(result.output).graph.initializer}
    assert np.array_equal(held["B"], indices)


@pytest.mark.parametrize("part", ["indices", "scales", "zeros"])
def test_damaged_layouts_are_left_alone(part: str) -> None:
    proto = onnx.load_from_string(pack_low_bit(ir.from_proto(small_model()), sws.LowBit(bits=4)).data)
    for tensor in proto.graph.initializer:
        if tensor.name.endswith(part):
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(array.reshape(-1)[:-1], tensor.name))
    before = proto.SerializeToString(deterministic=True)
    assert expand_blocked(proto) == ()
    assert proto.SerializeToString(deterministic=True) == before


def test_files_that_decode_to_other_types_are_refused(tmp_path: Path) -> None:
    """NumPy gets float8 as the bytes that encode it: they would be written as integers."""
    x = gaussian(64, 64)
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 9, opset_import: ["": 19]> g (float[n, 64] x) => (float[n, 64] y) <float[64, 64] w> '
            "{ y = MatMul(x, w) }"
        ),
        tmp_path / "net.onnx",
    )
    model = onnx.load(tmp_path / "net.onnx")
    del model.graph.initializer[:]
    model.graph.initializer.append(numpy_helper.from_array(x, "w"))
    onnx.save(model, tmp_path / "net.onnx")
    small = onnx.load(sws.compress(tmp_path / "net.onnx", tmp_path / "small.onnx").output)
    decoded = next(node for node in small.graph.node if "w" in node.output)
    decoded.output[0] = "w32"
    position = list(small.graph.node).index(decoded) + 1
    small.graph.node.insert(position, helper.make_node("Cast", ["w32"], ["w"], to=TensorProto.FLOAT8E4M3FN))
    small.graph.node[-1].CopyFrom(helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT))
    mark = next(entry for entry in small.metadata_props if "sws" in entry.key)
    mark.value = mark.value.replace(str(position), str(position + 1))
    onnx.save(small, tmp_path / "small.onnx")
    with pytest.raises(sws.ModelError, match=r"got .*float8e4m3fn"):
        sws.expand(tmp_path / "small.onnx", tmp_path / "plain.onnx")
    assert not (tmp_path / "plain.onnx").exists()
