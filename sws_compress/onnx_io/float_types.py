"""The floating-point types of tensors that are compressed."""

from __future__ import annotations

import onnx_ir as ir

FLOAT_TYPES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE)
"""Types of tensors that are compressed. Smaller floats (float8, float4) are quantised already."""
