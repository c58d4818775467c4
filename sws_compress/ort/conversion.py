"""Whether a model of an older opset, once converted, still computes what its file does."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from sws_compress.errors import DataError, VerificationError
from sws_compress.onnx_io.messages import first_line
from sws_compress.onnx_io.read.convert import CONVERTED_FROM, refused_conversion
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import compare_outputs

LARGEST_RELATIVE_DIFFERENCE = 1e-5
"""Relative difference of outputs up to which a converted model counts as the same: some roundings of float32."""


def check_conversion(file: Path, model: ir.Model) -> None:
    """Compare a model that had to be converted with its file, in ONNX Runtime on random inputs.

    Parameters
    ----------
    file : Path
        The file that the model was read from.
    model : ir.Model
        The model as `read_model` returned it; one that was not converted passes.

    Raises
    ------
    ModelError
        If outputs differ by more than `LARGEST_RELATIVE_DIFFERENCE`, or if they cannot be compared.
    """
    stated = model.meta.get(CONVERTED_FROM)
    if stated is None:
        return
    opset = model.opset_imports[""]
    try:
        differences = compare_outputs(file, to_bytes(model))
    except (VerificationError, DataError) as error:
        found = f"two versions that cannot be compared ('{first_line(error.__cause__ or error)}')"
        raise refused_conversion(file, stated, opset, found) from error
    largest = max((difference.largest_relative for difference in differences), default=0.0)
    if not largest <= LARGEST_RELATIVE_DIFFERENCE:
        raise refused_conversion(file, stated, opset, f"outputs that differ by {largest:.1e}")
