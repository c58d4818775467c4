"""Data of the records, from SWS_DATA_DIR or downloaded and checked."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import pickle
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sws_compress.demo import DATA
from sws_compress.demo.mnist import Split
from sws_compress.files import write_atomically

MNIST = DATA / "mnist.npz"
CIFAR_JPEG = "cifar10_jpeg.npz"
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
CACHE = Path("out/data")
VALIDATION_IMAGES = 5_000  # the last ones of the training split


def data_folder() -> Path:
    """SWS_DATA_DIR if it is set, else a folder for downloads."""
    return Path(os.environ.get("SWS_DATA_DIR", CACHE))


def load_cifar(folder: Path) -> tuple[Split, Split, Split]:
    """CIFAR-10: 45,000 training, 5,000 validation and 10,000 test images (n, 3, 32, 32) **uint8**, with labels.

    The source is ``cifar10_jpeg.npz`` in ``folder`` if it exists. Otherwise it is the original archive, which is
    downloaded to ``folder`` and checked.
    """
    path = folder / CIFAR_JPEG
    splits = (jpeg_split(path, name) for name in ("train", "test"))
    images, labels = zip(*(splits if path.exists() else _archive_splits(_archive(folder))), strict=True)
    cut = len(labels[0]) - VALIDATION_IMAGES
    return (
        Split(images[0][:cut], labels[0][:cut]),
        Split(images[0][cut:], labels[0][cut:]),
        Split(images[1], labels[1]),
    )


def jpeg_split(path: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 32, 32) uint8 and labels (n,) int64 of ``cifar10_jpeg.npz``; ``split`` is ``train`` or ``test``."""
    from PIL import Image

    with np.load(path, allow_pickle=False) as arrays:
        packed, offsets, labels = (arrays[f"{split}_{part}"] for part in ("bytes", "offsets", "labels"))
    files = (packed[first:last].tobytes() for first, last in itertools.pairwise(offsets))
    images = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    return _tensors(images.transpose(0, 3, 1, 2), labels)


def _archive(folder: Path) -> bytes:
    path = folder / CIFAR_URL.rpartition("/")[2]
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(CIFAR_URL, timeout=60) as answer:
            write_atomically(path, answer.read())
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != CIFAR_SHA256:
        raise SystemExit(f"{path} must have SHA-256 {CIFAR_SHA256}, got {digest}: delete it and download it again")
    return data


def _archive_splits(data: bytes) -> Iterator[tuple[Tensor, Tensor]]:
    names = {"train": [f"data_batch_{part}" for part in range(1, 6)], "test": ["test_batch"]}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for split in ("train", "test"):
            batches = []
            for name in names[split]:
                member = archive.extractfile(f"cifar-10-batches-py/{name}")
                assert member is not None
                batches.append(pickle.load(member, encoding="bytes"))  # safe: the digest of the archive was checked
            images = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
            yield _tensors(images, np.concatenate([batch[b"labels"] for batch in batches]))


def _tensors(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64))


@dataclass(frozen=True)
class CifarBatches:
    """Batches of one pass over a split: pixels (b, 3, 32, 32) in [0, 1], channels last, and labels (b,).

    ``augment`` mirrors images at random and shifts them by up to four pixels (He et al. 2016). Order and draws come
    from torch's global generator. The last, smaller batch is left out.
    """

    split: Split
    batch_size: int = 128
    augment: bool = True

    def __len__(self) -> int:
        return len(self.split.labels) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.split.labels))[: len(self) * self.batch_size]
        for chosen in torch.split(order, self.batch_size):
            images = self.split.images[chosen]
            if self.augment:
                images = _shifted_and_mirrored(images)
            pixels = (images.float() / 255).contiguous(memory_format=torch.channels_last)
            yield pixels, self.split.labels[chosen]


def _shifted_and_mirrored(images: Tensor, reach: int = 4) -> Tensor:
    count, _, side, _ = images.shape
    padded = torch.nn.functional.pad(images, (reach,) * 4)
    offsets = torch.randint(0, 2 * reach + 1, (2, count, 1))
    rows, columns = offsets + torch.arange(side)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    chosen = padded.permute(0, 2, 3, 1)[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return chosen.permute(0, 3, 1, 2)
