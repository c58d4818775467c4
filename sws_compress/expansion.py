"""A compressed file back into a plain one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sws_compress.errors import OutputError
from sws_compress.files import write_atomically
from sws_compress.graph.expand import expand_model
from sws_compress.graph.read import read_model
from sws_compress.graph.verify import check_runs


@dataclass(frozen=True)
class ExpansionResult:
    """The plain file that was written. ``expanded``: names of the weights that were decoded for it."""

    output: Path
    compressed_bytes: int
    file_bytes: int
    expanded: tuple[str, ...]


def expand(path: str | os.PathLike[str], output: str | os.PathLike[str]) -> ExpansionResult:
    """Write the compressed model at ``path`` as a plain dense ONNX file to ``output``.

    Weights are initialisers again, of the same names and bit for bit those that the compressed file decodes to; the
    result can be compressed again. Raises ModelError where ``path`` is no compressed model, OutputError where
    ``output`` cannot be written or is the input; nothing is written then.
    """
    source, target = Path(path), Path(output)
    read_model(source)
    if target.exists() and target.samefile(source):
        raise OutputError(f"output {target} must not be the input, got the same file: choose another path")
    data = source.read_bytes()
    expansion = expand_model(data)
    check_runs(expansion.data)
    write_atomically(target, expansion.data)
    return ExpansionResult(target, len(data), len(expansion.data), expansion.expanded)
