"""Whether a model of an older opset, once converted, still computes what its file does."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from sws_compress.errors import VerificationError
from sws_compress.onnx_io.messages import first_line
from sws_compress.onnx_io.read.convert import CONVERTED_FROM, refused_conversion
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs

LARGEST_ERROR = 1e-5
"""Relative difference of outputs up to which a converted model counts as the same."""


def check_conversion(file: Path, model: ir.Model) -> None:
    """Compare ``model``, as it was read from ``file``, with the file; nothing to do unless it had to be converted.

    Both run in ONNX Runtime on random inputs. Raises ModelError where outputs differ by more than LARGEST_ERROR, or
    where they cannot be compared.
    """
    stated = model.meta.get(CONVERTED_FROM)
    if stated is None:
        return
    opset = model.opset_imports[""]
    try:
        differences = compare_outputs(file, to_bytes(model))
    except VerificationError as error:
        found = f"two versions that cannot be compared ('{first_line(error.__cause__ or error)}')"
        raise refused_conversion(file, stated, opset, found) from error
    largest = max((difference.largest_relative for difference in differences), default=0.0)
    if not largest <= LARGEST_ERROR:
        raise refused_conversion(file, stated, opset, f"outputs that differ by {largest:.1e}")
