"""How a compressed model is recognised: a mark in its metadata, and the names of its function domain and look-ups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from sws_compress.errors import ModelError
from sws_compress.messages import shown

DOMAIN = "sws"
"""Domain of the model-local functions that decode."""


ROWS = "rows"
"""Name of functions that look up packed rows. A number may follow, which no other function's name has."""


FORMAT_KEY = "sws_compress"
"""Key of the model's metadata that holds the `Mark`."""


FORMAT_VERSION = "1"
"""Version of the format that is written, and the only one that is read."""


@dataclass(frozen=True)
class Mark:
    """What a compressed model says of itself.

    Parameters
    ----------
    version : str
        Version of the format.
    decode_nodes : int
        Number of nodes at the beginning of the main graph that decode.
    """

    version: str
    decode_nodes: int

    def __str__(self) -> str:
        return f"{self.version}:{self.decode_nodes}"


def mark_of(metadata: Mapping[str, str]) -> Mark | None:
    """The mark in a model's metadata.

    Parameters
    ----------
    metadata : mapping of str to str
        The model's ``metadata_props``.

    Returns
    -------
    Mark or None
        None if the model is not compressed.

    Raises
    ------
    ModelError
        If there is a mark that this version of the package does not write.
    """
    text = metadata.get(FORMAT_KEY)
    if text is None:
        return None
    version, _, count = text.partition(":")
    if version != FORMAT_VERSION or not (count.isascii() and count.isdigit() and len(count) < 10):
        raise ModelError(
            f"metadata {FORMAT_KEY} must be a mark like '{FORMAT_VERSION}:12', got {shown(text)}: "
            "the file is damaged, or of a newer version of this package"
        )
    return Mark(version, int(count))


def mark_of_proto(proto: onnx.ModelProto) -> Mark | None:
    """`mark_of` a model in protobuf form."""
    return mark_of({entry.key: entry.value for entry in proto.metadata_props})


def set_mark(model: ir.Model, decode_nodes: int) -> None:
    """Mark ``model`` as compressed, in place; its first ``decode_nodes`` nodes decode."""
    model.metadata_props[FORMAT_KEY] = str(Mark(FORMAT_VERSION, decode_nodes))


def refuse_compressed(model: ir.Model) -> None:
    """Raise ModelError if ``model`` was written by this package."""
    if mark := mark_of(model.metadata_props):
        raise ModelError(
            f"model must not be compressed already, got one of format version {mark.version}: "
            "start from the original model, or expand this one first"
        )
