"""Files that may hold anything, read as checked ONNX models."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from sws_compress.errors import ModelError
from sws_compress.messages import first_line
from sws_compress.onnx_io.external_data import is_external
from sws_compress.onnx_io.map_types import model_from_proto
from sws_compress.onnx_io.read.convert import CONVERTED_FROM, converted, default_opset
from sws_compress.onnx_io.read.lift import lift_constants
from sws_compress.onnx_io.read.other_formats import other_format
from sws_compress.onnx_io.read.sort import sort_nodes
from sws_compress.onnx_io.read.tensor_data import external_path, load_external
from sws_compress.onnx_io.read.untrusted import check_untrusted
from sws_compress.onnx_io.traversal import attribute_tensors, nodes, tensors

OLDEST_OPSET = 13
"""Opset in which decoders are written; older models are converted to it."""


LARGEST_FILE_BYTES = (1 << 31) - 1
"""Bytes of the largest message that protobuf reads: longer files are not even opened."""


_INPUTS_APART_IR_VERSION = 4
"""First IR version in which initialisers need not be inputs too."""


def read_model(path: str | os.PathLike[str]) -> ir.Model:
    """Read and check a model; all its weights become initialisers of the main graph (`lift.lift_constants`).

    Parameters
    ----------
    path : path-like
        The model file.

    Returns
    -------
    ir.Model
        External initialisers stay on disk until they are used. A model of an opset below 13 is converted, and its
        ``meta[CONVERTED_FROM]`` is the opset of the file. In files of IR versions below 4 every initialiser is an input
        too; here only inputs without a value are inputs.

    Raises
    ------
    ModelError
        If the file is not a sound ONNX model.
    """
    file = Path(path)
    proto = checked_proto(file)
    opset = default_opset(proto)
    old = opset < OLDEST_OPSET
    if old:
        proto = converted(file, proto, OLDEST_OPSET)
    model = lifted_model(file, proto)
    if old:
        model.meta[CONVERTED_FROM] = opset
    return model


def checked_proto(file: Path) -> onnx.ModelProto:
    """The model in ``file``, checked as `read_model` does, in its own opset.

    Returns
    -------
    ModelProto
        Its nodes are sorted. External initialisers stay on disk; external tensors of attributes are loaded.

    Raises
    ------
    ModelError
        If the file is not a sound ONNX model.
    """
    proto = parse(file)
    if not proto.graph.node:
        raise ModelError(f"model {file} must have nodes, got an empty graph: export the network itself")
    if not proto.graph.output:
        raise ModelError(f"model {file} must have outputs, got none: nothing could read what it computes; export again")
    sort_nodes(proto)
    check_untrusted(file, proto)
    _check_opset(file, proto)
    for tensor in attribute_tensors(proto):
        load_external(tensor, file)
    _check(file, proto)
    return proto


def lifted_model(file: Path, proto: onnx.ModelProto) -> ir.Model:
    """A checked model in onnx-ir's form, its weights made initialisers of the main graph (`lift.lift_constants`)."""
    model = model_in_ir(file, proto)
    lift_constants(model)
    return model


def parse(file: Path) -> onnx.ModelProto:
    """The model in ``file``, unchecked, without its external data.

    Raises
    ------
    ModelError
        If the file cannot be read or does not parse.
    """
    try:
        if file.is_dir():
            raise ModelError(f"model {file} must be a file, got a directory: name the .onnx file in it")
        if file.exists() and not file.is_file():
            raise ModelError(f"model {file} must be an ordinary file, got a device or pipe: save it first")
        if file.stat().st_size > LARGEST_FILE_BYTES:
            raise ModelError(
                f"model {file} must have at most {LARGEST_FILE_BYTES} bytes in its own file, got "
                f"{file.stat().st_size}: no ONNX file is larger; larger weights are external data"
            )
        data = file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError for names that no file can have
        if isinstance(error, ModelError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"model {file} must be readable, got '{reason}': check the path") from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise _no_onnx(file, "bytes that do not parse") from error
    if not proto.ir_version or not proto.HasField("graph"):
        raise _no_onnx(file, "one without version or graph")
    return proto


def _no_onnx(file: Path, found: str) -> ModelError:
    """The error for a file that is no ONNX; ``found`` is what is told of an unknown format."""
    known = other_format(file)
    what, cure = (found, "it is cut off or of another format") if known is None else known
    return ModelError(f"model {file} must be an ONNX file, got {what}: {cure}")


def _check_opset(file: Path, proto: onnx.ModelProto) -> None:
    """Check the stated versions. In place, the default domain goes by "" alone, and none is stated twice alike."""
    for node in nodes(proto):
        if node.domain == "ai.onnx":
            node.domain = ""
    for owner in (proto, *proto.functions):
        for entry in owner.opset_import:
            if entry.domain == "ai.onnx":
                entry.domain = ""
    for owner in (proto, *proto.functions):
        imports = dict.fromkeys((entry.domain, entry.version) for entry in owner.opset_import)
        if len(imports) < len(owner.opset_import):  # the converter would change one of two that are alike
            del owner.opset_import[:]
            owner.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in imports)
    versions = {entry.version for entry in proto.opset_import if not entry.domain}
    if len(versions) != 1:
        found = " and ".join(map(str, sorted(versions))) or "none"
        raise ModelError(f"model {file} must state one opset of the default domain, got {found}: export it again")
    version, newest = versions.pop(), onnx.defs.onnx_opset_version()
    if version > newest or proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"model {file} must be of opset <= {newest} and IR version <= {onnx.IR_VERSION}, got {version} and "
            f"{proto.ir_version}: install a newer onnx"
        )


def _check(file: Path, proto: onnx.ModelProto) -> None:
    """Run the ONNX checker.

    It gets the model as it is read, and not the file, so it cannot find external data. That was checked before
    (`check_untrusted`), and is left out of the copy that the checker gets.
    """
    if any(map(is_external, tensors(proto))):
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        for tensor in filter(is_external, tensors(copy)):  # initialisers: attributes are loaded
            tensor.ClearField("data_location")
            del tensor.external_data[:]
            tensor.dims[:] = [0]
        proto = copy
    try:
        onnx.checker.check_model(proto)
    except Exception as error:  # bytes of unknown origin: the checker raises a dozen unrelated classes
        raise _unsound(file, error) from error


def model_in_ir(file: Path, proto: onnx.ModelProto) -> ir.Model:
    """The model in onnx-ir's form; external initialisers know the file that holds them."""
    if proto.ir_version < _INPUTS_APART_IR_VERSION:
        stored = {tensor.name for tensor in proto.graph.initializer}
        inputs = [entry for entry in proto.graph.input if entry.name not in stored]
        del proto.graph.input[:]
        proto.graph.input.extend(inputs)
        proto.ir_version = _INPUTS_APART_IR_VERSION
    try:
        model = model_from_proto(proto)
    except Exception as error:  # as for the checker
        raise _unsound(file, error) from error
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = _without_links(value.const_value, file)
    return model


def _without_links(tensor: ir.ExternalTensor, file: Path) -> ir.ExternalTensor:
    """An external tensor of the model in ``file`` whose place is the file that holds it, all links followed."""
    path = external_path(str(tensor.name), str(tensor.location), file)
    return ir.ExternalTensor(
        path.name,
        tensor.offset,
        tensor.length,
        tensor.dtype,
        shape=tensor.shape,
        name=str(tensor.name),
        base_dir=path.parent,
    )


def _unsound(file: Path, error: Exception) -> ModelError:
    return ModelError(f"model {file} must pass the ONNX checker, got '{first_line(error)}': export it again")
