"""Model files together with their external data: the door for whoever needs the bytes of a model.

External data is found by the folder of the model. Bytes alone do not tell it: a runtime that is given them looks in the
current folder.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import onnx_ir as ir

from sws_compress.errors import OutputError
from sws_compress.onnx_io.external_data import StoredModel, external_fields, is_external
from sws_compress.onnx_io.format.sizes import model_bytes
from sws_compress.onnx_io.read.model import checked_proto, lifted_model, parse
from sws_compress.onnx_io.read.tensor_data import mapped, state_place
from sws_compress.onnx_io.traversal import graphs, tensors


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


def stored_model(path: Path) -> StoredModel:
    """Open a model, whose external initialisers stay on disk.

    Tensors that bodies of nodes and functions hold are loaded.

    Raises
    ------
    ModelError
        If the file at ``path`` is no sound model.
    """
    proto = checked_proto(path)
    for tensor in filter(is_external, tensors(proto)):
        state_place(tensor)
    external = any(map(is_external, tensors(proto)))
    model = StoredModel(
        proto,
        model_bytes(proto) if external else os.path.getsize(path),
        lambda tensor: mapped(tensor, path),
        path,
    )
    for graph in itertools.islice(graphs(proto), 1, None):  # those of bodies: the main graph comes first
        model.take_in(graph.initializer)
    return model


def lifted(model: StoredModel) -> ir.Model:
    """The model in onnx-ir's form, its weights made initialisers of the main graph; they stay on disk."""
    return lifted_model(model.path or Path(), model.proto)


def bytes_on_disk(path: Path) -> int:
    """Size of a model file and of its external data, in bytes."""
    return sum(os.path.getsize(file) for file in (path, *external_files(path)))
