"""Models that are bytes in a test, handed to what works on files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import onnx

from sws_compress.files import draft
from sws_compress.onnx_io.external_data import StoredModel, in_memory
from sws_compress.onnx_io.read.on_disk import stored_model
from sws_compress.onnx_io.write.external import DataFile
from sws_compress.onnx_io.write.output import write_draft
from sws_compress.ort.all_weights import StoredWeights
from sws_compress.ort.session import Array
from sws_compress.pipelines.expand import plain_model
from sws_compress.pipelines.inspect import inspect_model
from sws_compress.report.inspection import ModelParts


class Expanded(NamedTuple):
    """A plain file and the names of the weights that were decoded for it."""

    data: bytes
    expanded: tuple[str, ...]


def inspected(data: bytes) -> ModelParts:
    return inspect_model(in_memory(data))


def expanded(data: bytes) -> Expanded:
    """A compressed model as a plain one, which may have operators that no runtime knows."""
    with (
        tempfile.TemporaryDirectory() as folder,
        draft(Path(folder) / "a") as beside,
        draft(Path(folder) / "b") as file,
    ):
        tensors = DataFile(beside)
        plain, names = plain_model(in_memory(data), tensors)
        write_draft(plain, tensors, file, inline=True)
        return Expanded(file.path.read_bytes(), names)


def weights_in(model: bytes | StoredModel) -> dict[str, Array]:
    stored = in_memory(model) if isinstance(model, bytes) else model
    return {weight.name: weight.values for weight in StoredWeights(stored).each()}


def factors_in(data: bytes) -> dict[str, tuple[Array, Array]]:
    weights = StoredWeights(in_memory(data)).each()
    return {weight.name: weight.factors for weight in weights if weight.factors is not None}


def taken_in(path: Path) -> onnx.ModelProto:
    """The model at a path as it is opened, with all its tensors loaded."""
    model = stored_model(path)
    model.take_in(model.proto.graph.initializer)
    return model.proto
