"""Whether the names of weights are worth their bytes in the file of a trained network."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from sws_compress.file_options import FileOptions
from sws_compress.onnx_io.write.strip import constant_names

NAMES_SHARE = 0.02
"""Share of the file up to which names of weights stay where nothing is said about them."""


def with_names_settled(options: FileOptions, model: ir.Model, file_bytes: float) -> FileOptions:
    """The options with ``weight_names`` decided: True where names take at most `NAMES_SHARE` of ``file_bytes``."""
    if options.weight_names is not None:
        return options
    return replace(options, weight_names=name_bytes(model) <= NAMES_SHARE * file_bytes)


def name_bytes(model: ir.Model) -> int:
    """Bytes that the names of weights take in a file beyond the shortest ones: where made and wherever read."""
    constants = constant_names(model)
    weights = ((name, value) for name, value in model.graph.initializers.items() if name not in constants)
    return sum((len(name.encode()) - 1) * (1 + len(value.uses())) for name, value in weights)


def unnamed_note(options: FileOptions, asked: FileOptions, model: ir.Model) -> tuple[str, ...]:
    """A line if names were left out without being asked."""
    if options.weight_names or asked.weight_names is not None:
        return ()
    return (
        f"weights have short names in the file, which saves about {name_bytes(model)} bytes: "
        "FileOptions(weight_names=True) keeps their own",
    )
