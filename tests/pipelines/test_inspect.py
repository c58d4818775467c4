"""Inspection counts every byte of a file once, and tells what each tensor holds."""

from __future__ import annotations

import pytest

from sws_compress.packing.pack import find_palettes, pack
from sws_compress.pipelines.inspect import inspect_model
from sws_compress.quantize.palette import palette_of
from tests.onnx_io.models import as_ir, lenet
from tests.packing.models import arrays


def test_inspection_counts_every_byte_once():
    dense = lenet()
    packed = pack(as_ir(dense), find_palettes(as_ir(dense), smallest=2))
    inspection = inspect_model(packed.data)
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
    plain = inspect_model(dense.SerializeToString())
    assert {row.encoding for row in plain.rows} == {"dense"}
    assert (plain.shared_bytes, plain.format_version) == (0, None)
    assert sum(row.file_bytes for row in plain.rows) + plain.graph_bytes == plain.file_bytes
