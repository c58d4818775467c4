"""Names by which a compressed model is recognised: its metadata mark, its function domain, its look-ups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from sws_compress.errors import ModelError

DOMAIN = "sws"


ROWS = "rows"
"""How the names of functions begin that look up rows; a number may follow, which no other function's name has."""


FORMAT_KEY = "sws_compress"
"""Key of the model's metadata that marks a compressed model; the value is a `Mark`."""


FORMAT_VERSION = "1"


@dataclass(frozen=True)
class Mark:
    """What a compressed model says of itself: the version of the format, and how many nodes at its beginning decode."""

    version: str
    decode_nodes: int

    def __str__(self) -> str:
        return f"{self.version}:{self.decode_nodes}"


def mark_of(metadata: Mapping[str, str]) -> Mark | None:
    """The mark in the metadata of a model, None if it is not compressed; ModelError if it is none of ours."""
    text = metadata.get(FORMAT_KEY)
    if text is None:
        return None
    version, _, count = text.partition(":")
    if version != FORMAT_VERSION or not (count.isascii() and count.isdigit() and len(count) < 10):
        raise ModelError(
            f"metadata {FORMAT_KEY} must be a mark like '{FORMAT_VERSION}:12', got {text[:40]!r}: "
            "the file is damaged, or of a newer version of this package"
        )
    return Mark(version, int(count))


def refuse_compressed(model: ir.Model) -> None:
    """Raise ModelError if ``model`` was written by this package."""
    if mark := mark_of(model.metadata_props):
        raise ModelError(
            f"model must not be compressed already, got one of format version {mark.version}: "
            "start from the original model, or expand this one first"
        )
