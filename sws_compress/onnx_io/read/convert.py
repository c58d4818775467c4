"""Models of older opsets, converted to the oldest one in which decoders can be written."""

from __future__ import annotations

from pathlib import Path

import onnx

from sws_compress.errors import ModelError
from sws_compress.messages import first_line
from sws_compress.onnx_io.native import converted_to
from sws_compress.onnx_io.read.converter_mistakes import corrected
from sws_compress.onnx_io.read.tensor_data import load_external
from sws_compress.onnx_io.traversal import tensors

CONVERTED_FROM = "sws_compress.converted_from"
"""Key of ``ir.Model.meta`` that holds the opset which a converted model has in its file."""


def converted(file: Path, proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A model in operators of version ``opset``.

    The converter of onnx makes mistakes. Those that are known are set right here (`converter_mistakes`). Whoever writes
    the result compares the outputs of both models besides (`ort.conversion`).

    Parameters
    ----------
    file : Path
        The file that the model comes from.
    proto : ModelProto
        The model, checked. Its external data is loaded, in place. Functions are inlined first.
    opset : int
        The version of the default domain that is wanted.

    Returns
    -------
    ModelProto
        Passes the ONNX checker.

    Raises
    ------
    ModelError
        If there is no conversion, or none that means the same.
    """
    stated = default_opset(proto)
    try:
        for tensor in tensors(proto):
            load_external(tensor, file)
        new = converted_to(proto, opset)
        wrong = corrected(new, stated)
        onnx.checker.check_model(new)
    except Exception as error:  # the converter is C++ and raises whatever its steps do
        raise refused_conversion(file, stated, opset, f"'{first_line(error)}'") from error
    if wrong is not None:
        raise refused_conversion(file, stated, opset, wrong)
    return new


def default_opset(proto: onnx.ModelProto) -> int:
    """The version of the default operators that a model states."""
    return max(int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))


def refused_conversion(file: Path, stated: int, opset: int, found: str) -> ModelError:
    """The error for a model of opset ``stated`` that does not convert to ``opset``; ``found`` is what went wrong."""
    return ModelError(
        f"opset of {file} must be >= {opset} or convert to it, got {stated} and {found}: "
        f"export it again with opset {opset} or newer"
    )
