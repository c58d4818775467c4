"""Record files match their JSON, and the scripts that made them read data correctly."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from benchmarks.records import data as records_data
from benchmarks.records.data import MNIST, CifarBatches, load_cifar
from benchmarks.records.nets import CifarNet, LeNet5, error_percent
from sws_compress.demo.mnist import Split, load_mnist

RECORDS = sorted((Path(__file__).resolve().parents[2] / "benchmarks" / "records").glob("*.onnx"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_record_matches_its_json(path: Path) -> None:
    """All records are checked for size; those on MNIST, whose images are in the repository, also for their error."""
    told = json.loads(path.with_suffix(".json").read_text())
    assert path.stat().st_size == told["file_bytes"]
    assert told["file_ratio"] == pytest.approx(4 * told["parameters"] / told["file_bytes"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    if told["net"].startswith("cifar"):
        (logits,) = session.run(None, {entry.name: np.zeros((3, 3, 32, 32), np.float32)})
        assert logits.shape == (3, 10)
        return
    images = load_mnist(MNIST)[2]
    shape = (-1, 784) if told["net"] == "lenet_300_100" else (-1, 1, 28, 28)
    (logits,) = session.run(None, {entry.name: images.images.reshape(shape).numpy()})
    wrong = int((logits.argmax(1) != images.labels.numpy()).sum())
    assert 100 * wrong / 10_000 == pytest.approx(
        told["test_error_percent"], abs=0.011
    )  # ties may be decided either way


def test_parameters_of_the_networks() -> None:
    def count(net: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in net.parameters())

    assert (count(LeNet5()), count(CifarNet(3)), count(CifarNet(9))) == (431_080, 269_722, 853_018)


def jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def pictures(count: int) -> np.ndarray:
    """Images of one colour each, which JPEG keeps."""
    colours = np.random.default_rng(count).integers(0, 256, (count, 1, 1, 3), np.uint8)
    return np.broadcast_to(colours, (count, 32, 32, 3))


def test_jpegs_are_split_and_have_the_layout_of_torch(tmp_path: Path) -> None:
    arrays = {}
    for split, count in (("train", 5007), ("test", 9)):
        files = [jpeg(image) for image in pictures(count)]
        arrays[f"{split}_bytes"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"{split}_labels"] = np.arange(count) % 10
    np.savez(tmp_path / records_data.CIFAR_JPEG, **arrays)
    training, validation, test = load_cifar(tmp_path)
    assert [split.images.shape for split in (training, validation, test)] == [(n, 3, 32, 32) for n in (7, 5000, 9)]
    whole = torch.cat([training.images, validation.images]).permute(0, 2, 3, 1).numpy()
    assert np.abs(whole.astype(int) - pictures(5007)).max() <= 3
    assert validation.labels[:3].tolist() == [7, 8, 9]


def test_the_original_archive_is_read_after_its_digest_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    images = pictures(6000).transpose(0, 3, 1, 2).reshape(6000, -1)
    with tarfile.open(path, "w:gz") as archive:
        for part, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
            batch = {b"data": images[1000 * part :][:1000], b"labels": [part] * 1000}
            packed = pickle.dumps(batch)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(packed)
            archive.addfile(member, io.BytesIO(packed))
    with pytest.raises(SystemExit, match="must have SHA-256"):
        load_cifar(tmp_path)
    monkeypatch.setattr(records_data, "CIFAR_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(records_data, "VALIDATION_IMAGES", 500)
    training, validation, test = load_cifar(tmp_path)
    assert [len(split.labels) for split in (training, validation, test)] == [4500, 500, 1000]
    np.testing.assert_array_equal(test.images.reshape(1000, -1), images[5000:])
    assert validation.labels.unique().tolist() == [4]


def test_batches_are_shifted_mirrored_and_scaled() -> None:
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    images[:, :, 16, 10] = 255
    split = Split(images, torch.arange(4))
    torch.manual_seed(0)
    columns = []
    for _ in range(100):
        ((pixels, labels),) = CifarBatches(split, 4)
        assert sorted(labels.tolist()) == [0, 1, 2, 3]
        assert pixels.sum().item() == 12.0  # one white pixel per channel and image
        columns += torch.nonzero(pixels[:, 0])[:, 2].tolist()
    assert set(columns) == {*range(6, 15), *range(17, 26)}
    ((pixels, _),) = CifarBatches(split, 4, augment=False)
    assert torch.nonzero(pixels[:, 0])[:, 1:].unique(dim=0).tolist() == [[16, 10]]


def test_byte_images_are_scaled_to_pixels() -> None:
    class First(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            assert not self.training
            assert float(pixels.max()) <= 1
            return pixels.flatten(1)[:, :10]

    images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
    images[torch.arange(8), 0, 0, torch.arange(8)] = 255
    labels = torch.tensor([0, 1, 2, 3, 0, 0, 0, 0])
    assert error_percent(First(), Split(images, labels)) == 50.0
