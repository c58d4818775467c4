"""Files that are packed stay so when ONNX Runtime loads them, and files that other tools have unpacked are noticed."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import sws_compress as sws
from sws_compress.cli.main import main
from sws_compress.codec.transforms.unpack import tensor_candidates
from sws_compress.onnx_io.external_data import in_memory
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.still_packed import still_packed
from sws_compress.packing.integers import Memory, in_integers
from sws_compress.packing.pack import pack, packed_model
from tests.packing.test_integers import FEEDS, FORMS, network, palettes_of

LEVELS = {
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

OF_THE_NETWORK = {
    *("DequantizeLinear", "MatMulNBits", "MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Add", "Conv", "FusedConv"),
    *("ConvTranspose", "Gather", "Relu", "Reshape"),
}


def loaded_at(data: bytes, level: str, path: Path) -> onnx.ModelProto:
    """The graph that a runtime holds, and its answers."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.graph_optimization_level = 3, LEVELS[level]
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(data, options)
    return onnx.load(path)


def codes_of(held, name):
    """The last code of every encoding of an initialiser of integers."""
    palette = held.palettes[name]
    codes = tensor_candidates([palette.indices.reshape(palette.shape)], palette.codebook)
    return {code.encoding: code for code in codes}


@pytest.mark.parametrize("memory", FORMS, ids=("nbits", "standard"))
def test_every_encoding_of_every_route_is_folded_at_every_level(tmp_path, memory):
    palettes = palettes_of(40)
    for palette in palettes.values():  # half zeros: all encodings apply
        palette.indices[::2] = np.flatnonzero(palette.codebook == 0)[0]
    model = network(palettes)
    held = in_integers(model, palettes, memory)
    codes = {name: codes_of(held, name) for name in palettes}
    encodings = sorted(set().union(*codes.values()))
    assert len(encodings) > 6
    for encoding, level in itertools.product(encodings, LEVELS):
        chosen = {name: each[encoding] for name, each in codes.items() if encoding in each}
        dense = {name: each for name, each in held.palettes.items() if name not in chosen}
        packed, _ = packed_model(held.model, dense, chosen)
        loaded = loaded_at(to_bytes(packed), level, tmp_path / "loaded.onnx")
        sizes = {np.prod(each.dims): ir.DataType(each.data_type).name for each in loaded.graph.initializer}
        for name in chosen:
            shape = held.palettes[name].shape
            assert sizes[np.prod(shape)] in ("INT8", "UINT8"), (encoding, level, name)
        assert {node.op_type for node in loaded.graph.node} <= OF_THE_NETWORK, (encoding, level)


def test_without_optimisation_the_answers_are_the_same():
    palettes = palettes_of(40, scaled=True)
    data = pack(network(palettes), palettes, memory=Memory(True)).data
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    optimised = onnxruntime.InferenceSession(data, options).run(None, FEEDS)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for left, right in zip(onnxruntime.InferenceSession(data, options).run(None, FEEDS), optimised, strict=True):
        assert np.abs(left - right).max() < 0.01 * np.abs(right).max()  # words that are computed multiply floats


@pytest.mark.parametrize("memory", [Memory(), *FORMS], ids=("floats", "nbits", "standard"))
def test_our_files_are_packed(memory):
    palettes = palettes_of(40)
    found = still_packed(in_memory(pack(network(palettes), palettes, memory=memory).data))
    assert found.passed
    assert found.held == (5 if memory.integers else 0)
    assert (found.integer_bytes > 8000) == memory.integers
    assert found.line.startswith("yes: 5 tensors are decoded at load")


def test_what_tools_unpack_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    palettes = palettes_of(40)
    model = network(palettes)
    plain, small, folded = (tmp_path / f"{name}.onnx" for name in ("plain", "small", "folded"))
    plain.write_bytes(to_bytes(model))
    small.write_bytes(pack(model, palettes, memory=Memory(True)).data)
    assert sws.verify(plain, small, inputs=FEEDS, packed=True).passed
    loaded_at(small.read_bytes(), "basic", folded)
    found = sws.verify(plain, folded, inputs=FEEDS, packed=True)
    assert not found.passed
    assert "no tensor is stored in packed form" in found.still_packed.line
    assert sws.verify(plain, folded, inputs=FEEDS).passed
    np.savez(tmp_path / "feeds.npz", **FEEDS)
    given = [str(plain), str(folded), "--inputs", str(tmp_path / "feeds.npz")]
    assert main(["verify", *given]) == 0
    assert main(["verify", *given, "--packed"]) == 1
    assert "still packed" in capsys.readouterr().out


def test_words_that_do_not_compress_are_right_without_optimisation(tmp_path: Path):
    """Words that are constants beside computed scales would be multiplied without them (ONNX Runtime 1.32)."""
    palettes = palettes_of(127)
    for seed, palette in enumerate(palettes.values()):
        palette.indices[:] = np.random.default_rng(seed).integers(0, len(palette.codebook), palette.indices.size)
    small, plain = tmp_path / "small.onnx", tmp_path / "plain.onnx"
    small.write_bytes(pack(network(palettes), palettes, memory=Memory(True)).data)
    sws.expand(small, plain)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    wanted = onnxruntime.InferenceSession(small, options).run(None, FEEDS)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for path in (small, plain):
        for left, right in zip(onnxruntime.InferenceSession(path, options).run(None, FEEDS), wanted, strict=True):
            assert np.abs(left - right).max() < 0.02 * np.abs(right).max()
