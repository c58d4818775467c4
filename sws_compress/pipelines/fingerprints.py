"""What a result is made of, as one text: the same model, request and version make the same file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sws_compress.onnx_io.external_data import is_external
from sws_compress.onnx_io.read.model import parse
from sws_compress.onnx_io.read.on_disk import external_files
from sws_compress.onnx_io.traversal import tensors
from sws_compress.ort.activations import Feeds
from sws_compress.ort.session import runtime_version
from sws_compress.pipelines.job import Job

_CHUNK_BYTES = 1 << 24


def fingerprint(path: Path, feeds: Sequence[Feeds], request: str, job: Job, version: str) -> str:
    """SHA-256 of a model file with its external data, of inputs and of everything that was asked for.

    Parameters
    ----------
    path : Path
        The model.
    feeds : sequence of mapping of str to ndarray
        Sets of inputs.
    request : str
        What is asked for.
    job : Job
        What is asked for besides.
    version : str
        The version of this package.
    """
    digest = hashlib.sha256()
    asked = (version, runtime_version(), np.__version__, request, job.seed, job.keep, dict(job.overrides), job.limits)
    digest.update(repr(asked).encode())
    proto = parse(path)
    for tensor in filter(is_external, tensors(proto)):
        for entry in tensor.external_data:
            if entry.key == "location":  # the same data may lie in a file of another name
                entry.value = ""
    digest.update(proto.SerializeToString(deterministic=True))
    for file in sorted(external_files(path)):
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
        digest.update(b"end of a file")
    for given in feeds:
        for name in sorted(given):
            array = np.ascontiguousarray(given[name])
            digest.update(repr((name, array.dtype, array.shape)).encode())
            digest.update(array.data if array.size else b"")
    return digest.hexdigest()
