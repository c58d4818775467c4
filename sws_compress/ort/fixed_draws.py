"""Networks that draw random numbers, made comparable: every new session draws the same ones."""

from __future__ import annotations

import mmap
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from sws_compress.onnx_io.analyse.draws import DRAWING, fix_draws
from sws_compress.onnx_io.read.on_disk import bytes_on_disk
from sws_compress.onnx_io.read.tensor_data import load_external
from sws_compress.onnx_io.traversal import tensors
from sws_compress.onnx_io.write.external import LARGEST_FILE_BYTES
from sws_compress.ort.session import Model


def with_fixed_draws(model: Model) -> Model:
    """A model whose nodes draw the same random numbers in every new session.

    Parameters
    ----------
    model : bytes or path-like
        The model; a file is not changed.

    Returns
    -------
    bytes or path-like
        A copy with seeds, external data included; ``model`` itself if none of its nodes draws, or if the copy would be
        too large for one file.
    """
    if not _names_draws(model):
        return model
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(model if isinstance(model, bytes) else Path(model).read_bytes())
    except DecodeError:  # the runtime says what is wrong
        return model
    if not fix_draws(proto):
        return model
    if not isinstance(model, bytes):
        file = Path(model)
        if bytes_on_disk(file) > LARGEST_FILE_BYTES:
            return model
        for tensor in tensors(proto):
            load_external(tensor, file)
    return bytes(proto.SerializeToString())


def _names_draws(model: Model) -> bool:
    """Whether the bytes of a model hold the name of an operator that draws: few do, and only these are parsed."""
    names = [name.encode() for name in DRAWING]
    if isinstance(model, bytes):
        return any(name in model for name in names)
    file = Path(model)
    if not file.is_file() or not file.stat().st_size:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as held:
        return any(held.find(name) >= 0 for name in names)
