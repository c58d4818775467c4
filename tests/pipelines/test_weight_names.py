"""Names of weights in trained files: kept where they cost next to nothing, left out and told where they do not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import sws_compress as sws
from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.pipelines.weight_names import name_bytes, with_names_settled


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(30, 80), nn.ReLU(), nn.Linear(80, 70), nn.ReLU(), nn.Linear(70, 4))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    x = torch.randn(90, 30, generator=torch.Generator().manual_seed(1))
    return list(zip(x.split(30), x[:, :4].argmax(1).split(30), strict=True))


def compressed(output: Path, **options: object) -> sws.CompressionResult:
    request = sws.FineTuned(train=batches(), loss=cross_entropy, epochs=2, components=4)
    return sws.compress(network(), output, request, **options)


def names_in(path: Path) -> set[str]:
    graph = onnx.load(path).graph
    return {name for node in graph.node for name in (*node.input, *node.output)} | {
        each.name for each in graph.initializer
    }


def test_names_are_left_out_of_small_files_with_a_note_and_kept_where_asked(tmp_path: Path) -> None:
    bare = compressed(tmp_path / "bare.onnx", ratio=12)
    named = compressed(tmp_path / "named.onnx", ratio=12, file=sws.FileOptions(weight_names=True))
    weights = set(network().state_dict())
    assert names_in(named.output) >= {"0.weight", "2.weight"}
    assert not names_in(bare.output) & weights
    assert {row.name for row in bare.tensors} <= weights
    (note,) = (note for note in bare.notes if "short names" in note)
    assert "FileOptions(weight_names=True)" in note
    assert not any("short names" in note for note in named.notes)


@pytest.mark.parametrize(("file_bytes", "kept"), [(1_000_000, True), (100, False)])
def test_the_size_asked_for_decides(file_bytes: int, kept: bool) -> None:
    model = from_torch(network(), (torch.zeros(2, 30),))
    assert with_names_settled(sws.FileOptions(), model, file_bytes).weight_names is kept
    assert with_names_settled(sws.FileOptions(weight_names=not kept), model, file_bytes).weight_names is not kept
    # six names, each made once and read once
    assert name_bytes(model) == 2 * sum(len(name) - 1 for name in network().state_dict())
