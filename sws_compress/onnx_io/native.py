"""Calls of onnx's C++ in the child process: its shape inference crashes on some models, and the converter runs it."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx.inliner

from sws_compress.child_process.client import in_child
from sws_compress.child_process.limits import loading, own


def converted_to(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model in operators of version ``opset``, by onnx's converter; its functions are written out.

    Raises
    ------
    CallError
        If the converter refuses, or goes out of bounds.
    """
    data = proto.SerializeToString()
    return onnx.load_from_string(in_child(_convert, data, opset, limits=loading(len(data))))


def inferred(proto: onnx.ModelProto, *, strict: bool = False, data_prop: bool = False) -> onnx.ModelProto:
    """The model with the shapes that onnx infers.

    Parameters
    ----------
    proto : ModelProto
        It is not changed.
    strict : bool
        Whether types are checked, and contradictions are errors.
    data_prop : bool
        Whether shapes are computed from values.

    Raises
    ------
    CallError
        If inference fails, or goes out of bounds.
    """
    data = proto.SerializeToString()
    return onnx.load_from_string(in_child(_infer, data, strict, data_prop, limits=loading(len(data))))


def check_fully(model: bytes | str | os.PathLike[str]) -> None:
    """Check a model of ours, or the file at a path, with strict shape inference.

    Raises
    ------
    CallError
        If it does not pass.
    """
    in_child(_check, model if isinstance(model, bytes) else str(Path(model).absolute()), limits=own())


# -- in the child -----------------------------------------------------------------------------------------------------


def _convert(data: bytes, opset: int) -> bytes:
    proto = onnx.load_from_string(data)
    if proto.functions:  # the converter would lose them
        proto = onnx.inliner.inline_local_functions(proto, convert_version=True)
    converted = onnx.version_converter.convert_version(proto, opset)
    return bytes(converted.SerializeToString())


def _infer(data: bytes, strict: bool, data_prop: bool) -> bytes:
    found = onnx.shape_inference.infer_shapes(
        onnx.load_from_string(data), check_type=strict, strict_mode=strict, data_prop=data_prop
    )
    return bytes(found.SerializeToString())


def _check(model: bytes | str) -> None:
    onnx.checker.check_model(model, full_check=True)
