"""Files of other formats, told by their first bytes, and how they become ONNX."""

from __future__ import annotations

from pathlib import Path

HEAD_BYTES = 1024
"""Bytes from the beginning of a file that are looked at."""

_AT_START = (
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself with git lfs pull"),
    (b"GGUF", "GGUF weights", "export the network they belong to with torch.onnx.export"),
    (b"\x89HDF", "an HDF5 file, as Keras writes them", "convert it with tf2onnx"),
    (b"\x93NUMPY", "a NumPy array", "name the model"),
    (b"\x80\x02", "a pickle, as older torch checkpoints are", "export the network with torch.onnx.export"),
    (b"<!doctype", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
)
"""Beginnings in lower case where they are text, what has them, and what to do."""

_AT_FOUR = (
    (b"TFL3", "a TensorFlow Lite model", "convert it with tf2onnx"),
    (b"ORTM", "a model in ORT format", "compress the .onnx file that it was made from"),
)
"""The same for what stands at the fifth byte."""

_IN_ZIP = (
    (b"data.pkl", "a torch checkpoint", "export the network with torch.onnx.export"),
    (b".npy", "NumPy arrays", "name the model; arrays are for --inputs"),
)
"""The same for names of files in a zip archive."""


def other_format(file: Path) -> tuple[str, str] | None:
    """The format of a file that is no ONNX, and the cure.

    Parameters
    ----------
    file : Path
        A file that did not parse.

    Returns
    -------
    tuple of str
        What the file is, and what to do; None if nothing is known.
    """
    with file.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not head:
        return "an empty file", "write or download it again"
    if head.startswith(b"PK\x03\x04"):
        known = ((what, cure) for name, what, cure in _IN_ZIP if name in head)
        return next(known, ("a zip archive", "unpack it first"))
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "weights without a graph (safetensors)", "export the network they belong to with torch.onnx.export"
    text = head.lstrip().lower()
    starts = ((what, cure) for start, what, cure in _AT_START if head.startswith(start) or text.startswith(start))
    later = ((what, cure) for start, what, cure in _AT_FOUR if head[4:8] == start)
    return next(starts, None) or next(later, None)
