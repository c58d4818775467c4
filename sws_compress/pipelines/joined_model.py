"""An ONNX graph whose weights lie in safetensors files, as an ordinary model while it is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sws_compress.errors import OutputError
from sws_compress.files import checked_output, draft
from sws_compress.onnx_io.read.safetensors_files import stored_tensors
from sws_compress.onnx_io.write.joined import write_joined


@contextmanager
def joined_model(graph: Path, weights: Path, output: Path) -> Iterator[Path]:
    """The path of a temporary model beside the output, made of a graph and of weights by the same names.

    Raises
    ------
    ModelError
        If there are no such files, or if they do not fit each other.
    OutputError
        If the output would overwrite one of them.
    """
    checked_output(output)
    tensors = stored_tensors(weights)
    for own in (graph, *{tensor.file for tensor in tensors.values()}):
        if output.exists() and own.exists() and output.samefile(own):
            raise OutputError(f"output {output} must not be an input, got the same file: choose another path")
    with draft(output) as file, draft(output) as data:
        write_joined(graph, tensors, file, data)
        yield file.path
