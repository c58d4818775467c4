"""A compressed file back into a plain one."""

from __future__ import annotations

import os
from pathlib import Path

from sws_compress.errors import OutputError
from sws_compress.files import write_atomically
from sws_compress.graph.expand import expand_model
from sws_compress.graph.read import read_model
from sws_compress.graph.verify import check_runs
from sws_compress.report.result import ExpansionResult
from sws_compress.shipping import checked_output


def expand(path: str | os.PathLike[str], output: str | os.PathLike[str]) -> ExpansionResult:
    """Write the compressed model at ``path`` as a plain dense ONNX file to ``output``.

    Weights are initialisers again, of the same names and bit for bit those that the compressed file decodes to; the
    result can be compressed again. Raises ModelError where ``path`` is no compressed model, OutputError where
    ``output`` cannot be written or is the input; nothing is written then.
    """
    source, target = Path(path), checked_output(output)
    read_model(source)
    if target.exists() and target.samefile(source):
        raise OutputError(f"output {target} must not be the input, got the same file: choose another path")
    data = source.read_bytes()
    expansion = expand_model(data)
    check_runs(expansion.data)
    write_atomically(target, expansion.data)
    return ExpansionResult(target, len(data), len(expansion.data), expansion.expanded)
