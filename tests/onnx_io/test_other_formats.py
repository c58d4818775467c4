"""Files of other formats are told by name, with what makes ONNX of them."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile

import numpy as np
import pytest
import torch

from sws_compress.errors import ModelError
from sws_compress.onnx_io.read.model import parse, read_model


def safetensors():
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16)


CONTENTS = {
    "m.gz": (gzip.compress(b"model"), "a gzip archive: unpack it first"),
    "m.safetensors": (safetensors(), "weights without a graph (safetensors): export"),
    "m.tflite": (b"\x1c\0\0\0TFL3" + bytes(range(256)), "a TensorFlow Lite model: convert it with tf2onnx"),
    "m.ort": (b"\x1c\0\0\0ORTM" + bytes(range(256)), "a model in ORT format: compress the .onnx file"),
    "m.gguf": (b"GGUF" + bytes(range(256)), "GGUF weights: export"),
    "m.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file, as Keras writes them: convert it"),
    "lfs.onnx": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer: fetch the file"),
    "page.onnx": (b"\n<!DOCTYPE html><html></html>", "a web page: download the file itself"),
    "empty.onnx": (b"", "an empty file: write or download it again"),
    "text.onnx": (b"hello\nworld\n", "bytes that do not parse: it is cut off or of another format"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_files_are_told_by_their_first_bytes(tmp_path, name):
    data, message = CONTENTS[name]
    (tmp_path / name).write_bytes(data)
    for read in (parse, read_model):
        with pytest.raises(ModelError) as caught:
            read(tmp_path / name)
        assert f"must be an ONNX file, got {message}" in str(caught.value)


def test_archives_are_told_by_what_is_in_them(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "m.pt")
    torch.save({"a": torch.zeros(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("m.onnx", b"model")
    for name, message in (
        ("m.pt", "a torch checkpoint: export the network with torch.onnx.export"),
        ("old.pt", "a pickle, as older torch checkpoints are: export the network"),
        ("x.npz", "NumPy arrays: name the model; arrays are for --inputs"),
        ("m.zip", "a zip archive: unpack it first"),
    ):
        with pytest.raises(ModelError) as caught:
            read_model(tmp_path / name)
        assert f"got {message}" in str(caught.value)
