"""The command line beyond the smallest file: weights that stay in few bits, and the way back to a plain model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.models import write_mlp
from tests.test_cli import assert_one_line, run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_mlp(tmp_path / "model.onnx")


def weights(path: Path) -> dict[str, bytes]:
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize(("bits", "tolerance"), [("8", "0.02"), ("4", "0.2")])
def test_matrices_that_stay_in_few_bits(
    bits: str, tolerance: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "low.onnx"
    assert run("compress", model, "-o", output, "--low-bit", bits, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["file_bytes"] == os.path.getsize(output) < result["dense_bytes"]
    assert {tensor["encoding"] for tensor in result["tensors"]} <= {"int4", "int8"}
    assert "MatMulNBits" in {node.op_type for node in onnx.load(output).graph.node}
    assert run("verify", model, output, "--tolerance", tolerance) == 0
    assert run("verify", model, output, "--tolerance", "1e-6") == 1


@pytest.mark.parametrize(
    "option", [("--components", "8"), ("--granularity", "auto"), ("--load-budget", "1s"), ("--drop-names",)]
)
def test_options_of_decoded_weights_are_refused_with_low_bits(
    option: tuple[str, ...], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compress", model, "-o", tmp_path / "low.onnx", "--low-bit", "8", *option) == 2
    assert_one_line(capsys.readouterr(), f"{option[0]} must be left out with --low-bit")
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
    [
        (("--granularity", "channel"), "+scales", 16),
        (("--granularity", "vectors:2", "--components", "32"), "", 32),
    ],
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


def test_granularities_that_do_not_exist(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compress", model, "-o", tmp_path / "small.onnx", "--granularity", "vectors:3") == 2
    assert_one_line(capsys.readouterr(), "--granularity: invalid choice: 'vectors:3'")
