"""Model files together with their external data: the door for whoever needs the bytes of a model.

External data is found by the folder of the model. Bytes alone do not tell it: a runtime that is given them looks in the
current folder.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from sws_compress.errors import OutputError
from sws_compress.onnx_io.external_data import external_fields, is_external
from sws_compress.onnx_io.read.model import parse, read_model
from sws_compress.onnx_io.read.sort import sort_nodes
from sws_compress.onnx_io.read.tensor_data import load_external
from sws_compress.onnx_io.traversal import tensors


def external_files(path: Path) -> set[Path]:
    """The files in which the model at ``path`` keeps tensors outside of its own.

    Raises
    ------
    ModelError
        If the file at ``path`` does not parse as a model. What it refers to is not checked.
    """
    external = (tensor for tensor in tensors(parse(path)) if is_external(tensor))
    return {path.parent / external_fields(tensor).get("location", "") for tensor in external}


def refuse_overwriting(path: Path, *outputs: Path) -> None:
    """Raise OutputError if writing one of ``outputs`` would overwrite the model at ``path`` or its external data."""
    for file, output in itertools.product((path, *external_files(path)), outputs):
        if output.exists() and output.samefile(file):
            raise OutputError(f"output {output} must not be the input, got the same file: choose another path")


def whole_file(path: Path) -> bytes:
    """The bytes of a model with its nodes sorted and its external data taken in; those of the file if it needs neither.

    Raises
    ------
    ModelError
        If the file at ``path`` is no sound model.
    """
    read_model(path)
    proto = parse(path)
    if not sort_nodes(proto) and not any(is_external(tensor) for tensor in tensors(proto)):
        return path.read_bytes()
    for tensor in tensors(proto):
        load_external(tensor, path)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def bytes_on_disk(path: Path) -> int:
    """Size of a model file and of its external data, in bytes."""
    return sum(os.path.getsize(file) for file in (path, *external_files(path)))
