"""The types of tensors that are compressed."""

from __future__ import annotations

import onnx_ir as ir

FLOAT_TYPES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Types of tensors that may be clustered. Smaller floats (float8, float4) are quantised already."""

INTEGER_TYPES = (
    ir.DataType.BOOL,
    ir.DataType.INT4,
    ir.DataType.UINT4,
    ir.DataType.INT8,
    ir.DataType.UINT8,
    ir.DataType.INT16,
    ir.DataType.UINT16,
    ir.DataType.INT32,
    ir.DataType.UINT32,
    ir.DataType.INT64,
    ir.DataType.UINT64,
)
"""Types of tensors that are packed as they are, and never clustered."""
