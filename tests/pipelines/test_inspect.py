"""Inspection counts every byte of a file once, and tells what each tensor holds."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from sws_compress.packing.pack import find_palettes, pack
from sws_compress.quantize.palette import palette_of
from tests.onnx_io.models import as_ir, graph_model, lenet
from tests.packing.models import arrays
from tests.whole import inspected


def test_inspection_counts_every_byte_once():
    dense = lenet()
    packed = pack(as_ir(dense), find_palettes(as_ir(dense), smallest=2))
    inspection = inspected(packed.data)
    rows = {row.name: row for row in inspection.rows}
    assert inspection.file_bytes == len(packed.data)
    assert inspection.format_version == "1"
    assert sum(row.file_bytes for row in inspection.rows) + inspection.shared_bytes + inspection.graph_bytes == len(
        packed.data
    )
    for name, array in arrays(dense).items():
        palette = palette_of(array)
        row = rows[name]
        assert (row.shape, row.encoding, row.distinct_values) == (array.shape, "classes", len(palette.codebook))
        assert row.entropy_bits == pytest.approx(palette.entropy_bits)
        assert row.zeros == pytest.approx(palette.zeros)
    plain = inspected(dense.SerializeToString())
    assert {row.encoding for row in plain.rows} == {"dense"}
    assert (plain.shared_bytes, plain.format_version) == (0, None)
    assert sum(row.file_bytes for row in plain.rows) + plain.graph_bytes == plain.file_bytes


def test_tensors_of_every_type_are_counted_by_what_they_are():
    """Quantised weights, a table of integers, floats, and the small numbers of the graph; before and after packing."""
    random = np.random.default_rng(0)
    tensors = {
        "q": random.binomial(9, 0.5, (64, 80)).astype(np.int8),
        "rows": np.arange(4096).reshape(64, 64) % 60,
        "scale": np.full(80, 0.1, np.float32),
        "shape": np.array([-1, 64]),
    }
    nodes = [
        helper.make_node("Gather", ["rows", "i"], ["r"]),
        helper.make_node("Cast", ["r"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["c", "shape"], ["x"]),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    dense = graph_model(nodes, tensors, [("i", TensorProto.INT64, ["n"])], [("y", TensorProto.FLOAT, ["n", 80])])
    packed = pack(as_ir(dense), find_palettes(as_ir(dense)))
    for data in (dense.SerializeToString(), packed.data):
        parts = inspected(data)
        assert {row.name: row.kind for row in parts.rows} == {"q": "quantised", "rows": "integers", "scale": "float"}
        assert all(parts.bytes_of(row.kind) == row.file_bytes for row in parts.rows)
        assert sum(row.file_bytes for row in parts.rows) + parts.shared_bytes + parts.graph_bytes == len(data)
        assert parts.graph_bytes < 500
    assert {tensor.name for tensor in packed.tensors} >= {"q", "rows"}
