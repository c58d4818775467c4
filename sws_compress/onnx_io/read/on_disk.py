"""A model file together with its external data."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx_ir as ir

from sws_compress.onnx_io.read.model import read_model


def external_files(path: Path) -> set[Path]:
    """The files in which a model keeps weights outside of its own."""
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    names = {str(entry.value) for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    return {path.parent / name for name in names}


def whole_file(path: Path) -> bytes:
    """The model file at ``path``, with external data taken in. Raises ModelError where it is no sound model."""
    model = read_model(path)
    if external_files(path):
        data: bytes = ir.to_proto(ir.external_data.load_to_model(model)).SerializeToString()
        return data
    return path.read_bytes()


def bytes_on_disk(path: Path) -> int:
    """Size of a model file and of its external data."""
    return sum(os.path.getsize(file) for file in (path, *external_files(path)))
