"""Models as they are run to be compared: every session draws the same numbers, and inputs and outputs fit NumPy."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from sws_compress.errors import VerificationError
from sws_compress.onnx_io.analyse.draws import DRAWING, fix_draws
from sws_compress.onnx_io.read.on_disk import bytes_on_disk
from sws_compress.onnx_io.read.tensor_data import load_external
from sws_compress.onnx_io.traversal import tensors
from sws_compress.onnx_io.write.external import LARGEST_FILE_BYTES
from sws_compress.onnx_io.write.widened import widen_interface
from sws_compress.ort.session import Model, Session, session

_WIDENED = ("bfloat16", "float8", "float4", "int4", "int2")
"""How the names of types begin that the runtime does not exchange with NumPy as numbers, after an optional u."""


def comparable_session(model: Model, *, trusted: bool = False, optimize: bool = True) -> Session:
    """A session of a model whose outputs can be compared.

    Parameters
    ----------
    model : bytes or path-like
        The model; a file is not changed.
    trusted : bool
        Whether this package made it, as in `session`.
    optimize : bool
        Whether the runtime may fuse and fold nodes, as in `session`.

    Returns
    -------
    Session
        Nodes draw the same random numbers in every new session. Inputs and outputs of types that NumPy lacks, such as
        bfloat16, are float32.

    Raises
    ------
    VerificationError
        If the model does not load.
    """
    seeded = _changed(model, fix_draws) if _names_draws(model) else model
    runtime = session(seeded, trusted=trusted, optimize=optimize)
    if any(_is_widened(entry.type) for entry in (*runtime.inputs, *runtime.outputs)):
        try:
            return session(_changed(seeded, widen_interface), trusted=trusted, optimize=optimize)
        except VerificationError:  # the runtime cannot convert this type: comparing will tell
            return runtime
    return runtime


def _changed(model: Model, change: Callable[[onnx.ModelProto], bool]) -> Model:
    """A copy that ``change`` was applied to, with its external data; ``model`` itself if it changes nothing.

    A model whose copy would be too large for one file is left as it is, too.
    """
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(model if isinstance(model, bytes) else Path(model).read_bytes())
    except DecodeError:  # the runtime says what is wrong
        return model
    if not change(proto):
        return model
    if not isinstance(model, bytes):
        file = Path(model)
        if bytes_on_disk(file) > LARGEST_FILE_BYTES:
            return model
        for tensor in tensors(proto):
            load_external(tensor, file)
    return bytes(proto.SerializeToString())


def _is_widened(kind: str) -> bool:
    """Whether a type by the runtime's name, like ``tensor(bfloat16)``, is one that NumPy lacks."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return kind.startswith("tensor(") and name.removeprefix("u").startswith(_WIDENED)


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
