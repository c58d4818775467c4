"""The command line beyond the smallest file: weights that stay in few bits, and the way back to a plain model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import sws_compress
from tests.models import write_mlp
from tests.test_cli import assert_one_line, run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_mlp(tmp_path / "model.onnx")


def weights(path: Path) -> dict[str, bytes]:
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(("runtime", "tolerance"), [("int8", "0.02"), ("int4", "0.2")])
def test_matrices_that_stay_in_few_bits(
    runtime: str, tolerance: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "low.onnx"
    assert run("compress", model, "-o", output, "--runtime", runtime, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["file_bytes"] == os.path.getsize(output) < result["dense_bytes"]
    assert {tensor["encoding"] for tensor in result["tensors"]} <= {"int4", "int8"}
    assert "MatMulNBits" in {node.op_type for node in onnx.load(output).graph.node}
    assert run("verify", model, output, "--tolerance", tolerance) == 0
    assert run("verify", model, output, "--tolerance", "1e-6") == 1


def test_low_bits_of_a_module_or_of_an_unknown_width(model: Path, tmp_path: Path) -> None:
    import torch

    with pytest.raises(sws_compress.ArgumentError, match="runtime must be int4 or int8, got 'int2'"):
        sws_compress.compress(model, tmp_path / "low.onnx", runtime="int2")  # type: ignore[arg-type]
    with pytest.raises(sws_compress.ArgumentError, match="runtime must be left out for a torch module"):
        sws_compress.compress(torch.nn.Linear(64, 64), tmp_path / "low.onnx", runtime="int4")
    assert not (tmp_path / "low.onnx").exists()


def test_expanding_gives_plain_weights_that_compress_again(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, plain, again = (tmp_path / name for name in ("small.onnx", "plain.onnx", "again.onnx"))
    assert run("compress", model, "-o", small, "--components", "8") == 0
    capsys.readouterr()
    assert run("expand", small, "-o", plain, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["compressed_bytes"] == os.path.getsize(small)
    assert result["file_bytes"] == os.path.getsize(plain) > os.path.getsize(small)
    assert set(weights(plain)) == set(weights(model))
    assert run("verify", small, plain, "--tolerance", "0") == 0
    assert run("compress", plain, "-o", again, "--components", "8") == 0
    assert run("verify", small, again, "--tolerance", "0") == 0
    assert all(len(np.unique(np.frombuffer(data, np.float32))) <= 8 for data in weights(plain).values())


def test_expanding_what_is_not_compressed(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("expand", model, "-o", tmp_path / "plain.onnx") == 2
    assert_one_line(capsys.readouterr(), "compressed")
    assert not (tmp_path / "plain.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "encoding", "distinct"),
    [(("--scales", "channel"), "+scales", 16), (("--vector", "2", "--components", "32"), "", 32)],
)
def test_scales_and_vectors_from_start_to_finish(
    arguments: tuple[str, ...],
    encoding: str,
    distinct: int,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, plain = tmp_path / "small.onnx", tmp_path / "plain.onnx"
    assert run("compress", model, "-o", output, *arguments, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert run("inspect", output, "--json") == 0
    inspected = {tensor["name"]: tensor for tensor in json.loads(capsys.readouterr().out)["tensors"]}
    for tensor in result["tensors"]:
        assert tensor["encoding"].endswith(encoding)
        assert tensor["distinct_values"] <= distinct
        assert inspected[tensor["name"]]["entropy_bits"] == tensor["entropy_bits"] < 4.01
    assert run("expand", output, "-o", plain) == 0
    assert run("verify", output, plain, "--tolerance", "1e-6") == 0
    assert run("verify", model, output, "--tolerance", "0.5") == 0
    if encoding:
        capsys.readouterr()
        assert run("inspect", output, "--clusters", "--original", model, "--json") == 0
        assert {len(tensor["clusters"]) for tensor in json.loads(capsys.readouterr().out)["tensors"]} == {16}


def test_forms_that_do_not_exist_are_told_in_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    assert run("compress", model, "-o", tmp_path / "small.onnx", "--vector", "3") == 2
    assert_one_line(capsys.readouterr(), "length of vectors must be 2, 4 or 8, got 3")
    with pytest.raises(sws_compress.ArgumentError, match="left out for a torch module"):
        sws_compress.compress(torch.nn.Linear(64, 64), tmp_path / "small.onnx", scales="channel")
