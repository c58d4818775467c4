"""Embeddings that stay packed, all the way: a torch module, an ONNX file, one that is streamed, the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import sws_compress as sws
from sws_compress.cli.main import main
from sws_compress.errors import ArgumentError
from sws_compress.ort.compare import compare_outputs
from sws_compress.ort.decode import decoded_weights
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
from sws_compress.pipelines.weights_only import compress_weights
from sws_compress.quantize.granularity import Granularity, PerChannel, PerTensor, Vectors
from tests.models import gaussian

PER_TENSOR = PerTensor()
PACKED = sws.FileOptions(packed_embeddings=True)
STREAMED = Limits(model_bytes=0, alone_elements=1000)
TWO_FILES = Limits(model_bytes=0, alone_elements=1000, file_bytes=0)
FEEDS = {"ids": np.array([[0, -1, 899], [-900, 7, 7]])}


class Sentences(nn.Module):
    """The mean of words, and a head that may be the table itself."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(900, 80), nn.Linear(80, 900 if tied else 7, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(torch.tanh(self.words(ids).mean(1)))
        return scores


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An ONNX file with an embedding, a tied one and a matrix, in external data."""
    tensors = {"T": gaussian(900, 80, seed=1), "S": gaussian(900, 80, seed=2), "H": gaussian(80, 80, seed=3)}
    nodes = [
        helper.make_node("Gather", ["T", "ids"], ["t"]),
        helper.make_node("Gather", ["S", "ids"], ["s"]),
        helper.make_node("Add", ["t", "s"], ["a"]),
        helper.make_node("MatMul", ["a", "H"], ["h"]),
        helper.make_node("Transpose", ["S"], ["st"]),
        helper.make_node("MatMul", ["h", "st"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "m"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m", 900])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)
    return path


def compressed(
    source: Path, name: str, limits: Limits | None, *, packed: bool, granularity: Granularity = PER_TENSOR
) -> Any:
    options: dict[str, Any] = {} if limits is None else {"limits": limits}
    job = Job(output=source.with_name(name), file=sws.FileOptions(packed_embeddings=packed), **options)
    return compress_weights(open_source(source, job), sws.WeightsOnly(components=16, granularity=granularity), job)


@pytest.mark.parametrize("limits", [None, STREAMED, TWO_FILES], ids=["whole", "streamed", "two files"])
def test_a_file(source: Path, limits: Limits | None) -> None:
    ordinary = compressed(source, "ordinary.onnx", limits, packed=False)
    result = compressed(source, "small.onnx", limits, packed=True)
    assert ordinary.notes == ()
    (note,) = result.notes
    assert note.startswith("S does not stay packed: it is read by Transpose, which needs it decoded")
    rows = {row.name: row for row in result.tensors}
    assert rows["T"].encoding == "rows"
    assert rows["S"].encoding not in ("rows", "dense")
    assert 900 * 40 < rows["T"].file_bytes < 900 * 40 + 600
    (difference,) = compare_outputs(source.with_name("ordinary.onnx"), source.with_name("small.onnx"), FEEDS)
    assert difference.largest_relative < 1e-6
    if limits is not TWO_FILES:
        dense = [decoded_weights(source.with_name(n).read_bytes(), ["T"])["T"] for n in ("ordinary.onnx", "small.onnx")]
        assert dense[0].tobytes() == dense[1].tobytes()


@pytest.mark.parametrize("limits", [None, STREAMED], ids=["whole", "streamed"])
def test_with_vectors_and_with_scales(source: Path, limits: Limits | None) -> None:
    vectors = compressed(source, "small.onnx", limits, packed=True, granularity=Vectors(2))
    assert {row.name: row.encoding for row in vectors.tensors}["T"] == "rows"
    scaled = compressed(source, "scaled.onnx", limits, packed=True, granularity=PerChannel())
    encoding = {row.name: row.encoding for row in scaled.tensors}["T"]
    assert ("rows" in encoding) is ("T does not stay packed: it has scales" not in " ".join(scaled.notes))


def test_the_command_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, plain = str(tmp_path / "small.onnx"), str(tmp_path / "plain.onnx")
    assert main(["compress", str(source), "-o", small, "--packed-embeddings", "--components", "16", "--json"]) == 0
    assert "does not stay packed" in json.loads(capsys.readouterr().out)["notes"][0]
    assert main(["inspect", small, "--json"]) == 0
    encodings = {row["name"]: row["encoding"] for row in json.loads(capsys.readouterr().out)["tensors"]}
    assert encodings["T"] == "rows"
    assert main(["expand", small, "-o", plain]) == 0
    assert main(["verify", plain, small, "--tolerance", "1e-6"]) == 0
    assert main(["inspect", small, "--clusters"]) == 0
    assert "T  900x80, 16 clusters" in capsys.readouterr().out


@pytest.mark.parametrize("tied", [False, True])
def test_a_module(tmp_path: Path, tied: bool) -> None:
    torch.manual_seed(0)
    network = Sentences(tied=tied)
    ids = torch.tensor([[3, 899, 0], [5, 5, 1]])
    result = sws.compress(network, tmp_path / "small.onnx", file=PACKED, example_inputs=ids)
    encodings = {row.encoding for row in result.tensors}
    assert ("rows" in encodings) is not tied
    assert bool(result.notes) is tied


def test_export(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Sentences(tied=False)
    prior = sws.SoftWeightSharing(network, torch.optim.Adam(network.parameters()), components=8)
    ids = torch.tensor([[3, 899, 0], [5, 5, 1]])
    result = sws.export(network, prior.snap(), tmp_path / "small.onnx", example_inputs=ids, file=PACKED)
    assert [row.name for row in result.tensors if row.encoding == "rows"] == ["words.weight"]


def test_arguments_that_contradict(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="packed_embeddings must be left out with LowBit, got True"):
        sws.compress(source, tmp_path / "small.onnx", sws.LowBit(), file=PACKED)
