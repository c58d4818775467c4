"""Data and network of the demo match their README and JSON."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sws_compress.demo import DATA


@pytest.fixture
def data() -> Path:
    return DATA


@pytest.fixture
def train(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module ``benchmarks/lenet/train.py``, imported from its own folder."""
    monkeypatch.syspath_prepend(str(repository / "benchmarks" / "lenet"))
    return importlib.import_module("train")


def test_files_have_the_documented_digests(data: Path) -> None:
    sums = {name: hashlib.sha256((data / name).read_bytes()).hexdigest() for name in ("mnist.npz", "lenet_300_100.npz")}
    assert sums["mnist.npz"] in (data / "README.md").read_text(encoding="utf-8")
    assert sums["lenet_300_100.npz"] == json.loads((data / "lenet_300_100.json").read_text())["sha256"]


def test_network_has_its_documented_error(data: Path, train: ModuleType) -> None:
    import torch

    with np.load(data / "lenet_300_100.npz", allow_pickle=False) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    model = train.LeNet300100()
    model.load_state_dict(state)
    *_, validation, test = train.load_mnist(data / "mnist.npz")
    claimed = json.loads((data / "lenet_300_100.json").read_text())
    # Rounding on another machine may change the answer for an image or two.
    assert train.error_and_loss(model, test)[0] == pytest.approx(claimed["test_error_percent"], abs=0.025)
    assert train.error_and_loss(model, validation)[0] == pytest.approx(claimed["validation_error_percent"], abs=0.05)
    assert claimed["test_error_percent"] <= 1.3


def test_split_keeps_the_last_5000_training_images_apart(data: Path, train: ModuleType) -> None:
    training, validation, test = train.load_mnist(data / "mnist.npz")
    with np.load(data / "mnist.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(validation.labels, arrays["y_train"][-5000:])
        np.testing.assert_array_equal(validation.images[-1] * 255, arrays["x_train"][-1])
    assert [len(split.labels) for split in (training, validation, test)] == [55_000, 5_000, 10_000]


def test_shift_moves_each_image_as_a_whole(train: ModuleType) -> None:
    import torch

    images = torch.zeros(200, 7, 7)
    images[:, 2, 4], images[:, 3, 4] = 0.25, 1.0
    shifted = train.shift_randomly(images, 2, torch.Generator().manual_seed(3))
    peaks = {tuple(position) for position in (shifted == 1).nonzero()[:, 1:].tolist()}
    assert peaks == {(row, column) for row in range(1, 6) for column in range(2, 7)}
    one = (shifted == 1).nonzero()
    assert len(one) == len(images)
    assert torch.all(shifted[one[:, 0], one[:, 1] - 1, one[:, 2]] == 0.25)
    assert torch.all(shifted.sum((1, 2)) == 1.25)
