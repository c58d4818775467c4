"""Which weights of a file share a cluster: from the file to the table and the picture."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.image
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import sws_compress as sws
from sws_compress.cli import main as cli
from sws_compress.ort.decode import decoded_weights
from tests.models import write_mlp

CLUSTERS = 8


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and its compressed file."""
    folder = tmp_path_factory.mktemp("files")
    model = write_mlp(folder / "model.onnx")
    sws.compress(model, folder / "small.onnx", sws.WeightsOnly(components=CLUSTERS))
    return model, folder / "small.onnx"


def run(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_clusters_are_those_of_the_decoded_weights(files: tuple[Path, Path]) -> None:
    model, small = files
    report = sws.clusters(small, original=model)
    decoded = decoded_weights(small.read_bytes(), ["w1", "w2"])
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer}
    assert [tensor.name for tensor in report.tensors] == ["w1", "w2"]
    for tensor in report.tensors:
        assert len(tensor.clusters) == CLUSTERS
        assert sum(cluster.share for cluster in tensor.clusters) == pytest.approx(1)
        for cluster in tensor.clusters:
            members = decoded[tensor.name] == np.float32(cluster.mean)
            assert cluster.members == members.sum()
            assert cluster.spread == pytest.approx(before[tensor.name][members].std(), rel=1e-4)
            rows, columns = cluster.where
            assert rows.most[0][1] == members.sum(1).max()
            assert columns.holding == members.any(0).sum()


def test_table_and_json(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    model, small = files
    assert run("inspect", small, "--clusters") == 0
    table = capsys.readouterr().out
    assert f"w1  40x60, {CLUSTERS} clusters" in table
    assert table.count(" %") == 2 * CLUSTERS
    assert "spread" not in table
    assert run("inspect", small, "--clusters", "--original", model) == 0
    assert "spread before" in capsys.readouterr().out
    assert run("inspect", small, "--clusters", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert sum(cluster["members"] for cluster in values["tensors"][0]["clusters"]) == 40 * 60


def test_many_clusters_are_cut_short_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sws.compress(write_mlp(tmp_path / "model.onnx"), tmp_path / "small.onnx", sws.WeightsOnly(components=64))
    assert run("inspect", tmp_path / "small.onnx", "--clusters") == 0
    table = capsys.readouterr().out
    assert table.count("and 48 smaller ones: see --json") == 2
    assert table.count(" %") == 2 * 16


def test_picture(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("picture", files[1], "-o", tmp_path / "all.png", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["drawn"], result["left_out"]) == (["w1", "w2"], [])
    assert run("picture", files[1], "-o", tmp_path / "one.png", "--tensor", "w2") == 0
    assert "left out" in capsys.readouterr().out
    both, one = (matplotlib.image.imread(tmp_path / name).shape for name in ("all.png", "one.png"))
    assert both[0] > 1.7 * one[0]
    assert both[1] == one[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("picture", "SMALL", "-o", "OUT/x.png", "--tensor", "w3"), "tensor must be one of w1, w2, got w3"),
        (("picture", "SMALL", "-o", "OUT/x.gif"), "must end in .png"),
        (("picture", "SMALL", "-o", "OUT/none/x.png"), "must exist"),
        (("picture", "MODEL", "-o", "OUT/x.png"), "must have weights of at most 256 distinct values"),
        (("inspect", "MODEL", "--clusters"), "must have weights of at most 256 distinct values"),
        (("inspect", "SMALL", "--original", "MODEL"), "--original must come with --clusters"),
        (("inspect", "SMALL", "--clusters", "--original", "OTHER"), "must have the weights of"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: tuple[str, ...],
    message: str,
    files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = write_mlp(tmp_path / "other.onnx", names=("v1", "v2"))
    places = {"MODEL": files[0], "SMALL": files[1], "OTHER": other}
    named = [places.get(argument, Path(argument.replace("OUT", str(tmp_path)))) for argument in arguments]
    assert run(*named) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["other.onnx"]
