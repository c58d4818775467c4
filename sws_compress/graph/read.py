"""Reading ONNX files that may be anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from sws_compress.errors import ModelError

OLDEST_OPSET = 13
"""Decoders are written with the operators of this version."""


def read_model(path: str | os.PathLike[str]) -> ir.Model:
    """The model at ``path``, checked by the ONNX checker; external data stays on disk until it is used.

    Raises ModelError with one line for everything that is not a sound ONNX model of opset 13 or newer.
    """
    file = Path(path)
    proto = _parse(file)
    if not proto.graph.node:
        raise ModelError(f"model {file} must have nodes, got an empty graph: export the network itself")
    _check_opset(file, proto)
    _check_external_data(file, proto)
    try:
        onnx.checker.check_model(str(file))
        model = ir.from_proto(proto)
    except Exception as error:  # bytes of unknown origin: the checker and the reader raise a dozen unrelated classes
        reason = first_line(error)
        raise ModelError(f"model {file} must pass the ONNX checker, got '{reason}': export it again") from error
    for tensor in _external_tensors(model):
        tensor.base_dir = file.parent
    return model


def _parse(file: Path) -> onnx.ModelProto:
    if file.is_dir():
        raise ModelError(f"model {file} must be a file, got a directory: name the .onnx file in it")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ModelError(f"model {file} must be readable, got '{error.strerror}': check the path") from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            f"model {file} must be an ONNX file, got bytes that do not parse: it is cut off or of another format"
        ) from error
    if not proto.ir_version or not proto.HasField("graph"):
        raise ModelError(
            f"model {file} must be an ONNX file, got one without version or graph: it is empty or of another format"
        )
    return proto


def _check_opset(file: Path, proto: onnx.ModelProto) -> None:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions or max(versions) < OLDEST_OPSET:
        found = max(versions) if versions else "none"
        raise ModelError(
            f"opset of {file} must be >= {OLDEST_OPSET}, got {found}: "
            f"convert it with onnx.version_converter.convert_version(model, {OLDEST_OPSET})"
        )


def _check_external_data(file: Path, proto: onnx.ModelProto) -> None:
    """External data may only lie in the model's own folder: a path out of it could name any file of the reader's."""
    folder = file.parent.resolve()
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        data = (folder / location).resolve()
        if not location or folder not in data.parents:
            raise ModelError(
                f"external data of {tensor.name} must lie in the model's folder, got '{location}': move it"
            )
        if not data.is_file():
            raise ModelError(f"external data of {tensor.name} must exist, got no file {data}: copy it beside the model")


def _external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            yield value.const_value


def first_line(error: Exception) -> str:
    """The first line of a message that says something, for one-line errors."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
