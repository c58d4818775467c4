"""The demo on real MNIST, in small: what it writes is what it says."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from sws_compress.cli import main as cli
from sws_compress.demo import DATA
from sws_compress.demo.mnist import ShiftedBatches, Split, load_mnist, shift_randomly
from sws_compress.demo.run import error_percent, run_demo

IMAGES = 6000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first training images only, so that an epoch takes seconds; all of the test images."""
    folder = tmp_path_factory.mktemp("data")
    with np.load(DATA / "mnist.npz") as arrays:
        few = {name: arrays[name][:IMAGES] if name.endswith("train") else arrays[name] for name in arrays.files}
    np.savez(folder / "mnist.npz", **few)
    shutil.copy(DATA / "lenet_300_100.npz", folder)
    return folder


def test_result_is_what_lies_on_disk(data: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    output = tmp_path / "out" / "demo"
    result = run_demo(data, output, epochs=1, ratio=30, seed=0, progress=lambda *told: seen.append(told))
    models, pictures = {"lenet.onnx", "dense.onnx"}, {"weights.png", "weights.gif", "clusters.png"}
    assert {path.name for path in output.iterdir()} == models | pictures | {
        "result.json",
        "training.csv",
        "report.html",
    }
    values = json.loads((output / "result.json").read_text())
    assert values == json.loads(json.dumps(result.to_json()))
    assert values["file_bytes"] == os.path.getsize(output / "lenet.onnx")
    assert values["dense_bytes"] == os.path.getsize(output / "dense.onnx")
    assert values["ratio"] == values["dense_bytes"] / values["file_bytes"] > 15
    _, validation, test = load_mnist(data / "mnist.npz")
    assert values["test_error_percent_before"] == error_percent(output / "dense.onnx", test) == pytest.approx(1.10)
    assert values["test_error_percent_after"] == error_percent(output / "lenet.onnx", test) < 8
    assert values["validation_error_percent_after"] == error_percent(output / "lenet.onnx", validation)
    assert values["figures"] == [str(output / name) for name in ("weights.png", "weights.gif", "clusters.png")]
    assert matplotlib.image.imread(output / "weights.png").std() > 0.1
    rows = (output / "training.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == [1, *range(10, 86, 10), 85]
    assert [done for text, done, _ in seen if text.startswith("epoch ")] == list(range(1, 5500 // 64 + 1))
    assert values["weights"] == 266_610  # biases too
    assert sum(tensor["elements"] for tensor in values["tensors"]) == 266_610 - values["pruned_weights"]


def test_splits(data: Path) -> None:
    training, validation, test = load_mnist(data / "mnist.npz")
    assert [len(split.labels) for split in (training, validation, test)] == [5500, 500, 10_000]
    assert training.images.shape == (5500, 28, 28)
    assert (float(training.images.min()), float(training.images.max())) == (0.0, 1.0)
    whole = load_mnist(DATA / "mnist.npz")
    assert [len(split.labels) for split in whole] == [55_000, 5000, 10_000]


def test_shifts_move_whole_images() -> None:
    images = torch.arange(1.0, 26).reshape(1, 5, 5).expand(200, 5, 5)
    shifted = shift_randomly(images, 1, torch.Generator().manual_seed(0))
    middle = {tuple(row) for row in shifted[:, 2, 2:3].tolist()}
    assert middle == {(float(5 * y + x + 1),) for y in (1, 2, 3) for x in (1, 2, 3)}
    for image in shifted:
        kept = image[image > 0]
        assert torch.equal(kept, kept.sort().values)
        assert len(kept) in (16, 20, 25)


def test_batches_pass_over_everything_once() -> None:
    split = Split(torch.rand(50, 28, 28), torch.arange(50))
    batches = ShiftedBatches(split, 8)
    labels = torch.cat([labels for _, labels in batches])
    assert len(batches) == 6
    assert len(labels) == len(set(labels.tolist())) == 48


@pytest.mark.parametrize("kind", ["missing folder", "no weights", "wrong weights", "wrong images", "broken archive"])
def test_wrong_data_is_told_in_one_line(
    kind: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "data", tmp_path / "out"
    if kind != "missing folder":
        folder.mkdir()
        (folder / "mnist.npz").symlink_to(data / "mnist.npz")
    if kind == "wrong weights":
        np.savez(folder / "lenet_300_100.npz", weights=np.zeros(3))
    elif kind in ("wrong images", "broken archive"):
        (folder / "lenet_300_100.npz").symlink_to(data / "lenet_300_100.npz")
        (folder / "mnist.npz").unlink()
        if kind == "wrong images":
            np.savez(folder / "mnist.npz", images=np.zeros(3))
        else:
            (folder / "mnist.npz").write_bytes((data / "mnist.npz").read_bytes()[:5000])
    assert cli.main(["demo", "--data", str(folder), "--output", str(output)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "leave --data out, or name a folder that holds it" in captured.err
    assert not output.exists()


@pytest.mark.parametrize("options", [("--epochs", "0"), ("--ratio", "1"), ("--ratio", "1e9")])
def test_wrong_settings_leave_no_file(
    options: tuple[str, str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["demo", "--data", str(data), "--output", str(tmp_path / "out"), *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_output_under_a_file(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["demo", "--data", str(data), "--output", str(tmp_path / "file" / "out")]) == 2
    assert "must be writable" in capsys.readouterr().err
