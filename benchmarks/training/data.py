"""Data of the training benchmark: small splits for training, validation and test, the same in every run."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.records.data import CIFAR_JPEG

FASHION = "fashion_mnist.npz"
VALIDATION, TEST = 1000, 2000
"""Rows for validation and for test, where there are enough."""

TEXT_LENGTH = 32
"""Characters of a sequence of text."""

CANVAS = 16
"""Side of the noisy pictures that hold a digit."""


@dataclass(frozen=True)
class Rows:
    """Inputs (n, ...) and targets (n, ...) of one split."""

    inputs: Tensor
    targets: Tensor

    def part(self, first: int, last: int) -> Rows:
        """Rows ``first`` to ``last``."""
        return Rows(self.inputs[first:last].contiguous(), self.targets[first:last].contiguous())


@dataclass(frozen=True)
class Splits:
    """Training rows, rows on which settings are chosen, and rows that are only reported."""

    training: Rows
    validation: Rows
    test: Rows

    def digest(self) -> str:
        """SHA-256 of all rows, so that results tell which data they are of; texts depend on the interpreter."""
        found = hashlib.sha256()
        for rows in (self.training, self.validation, self.test):
            for tensor in (rows.inputs, rows.targets):
                found.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
                found.update(tensor.numpy().tobytes())
        return found.hexdigest()[:16]


@dataclass(frozen=True)
class Batches:
    """Batches of one pass over rows, in an order that torch's global generator draws; a smaller last one is left out.

    ``shift`` moves pictures by up to so many pixels.
    """

    rows: Rows
    batch_size: int
    shift: int = 0

    def __len__(self) -> int:
        return len(self.rows.inputs) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.rows.inputs))[: len(self) * self.batch_size]
        for chosen in torch.split(order, self.batch_size):
            inputs = self.rows.inputs[chosen]
            yield (_shifted(inputs, self.shift) if self.shift else inputs), self.rows.targets[chosen]


def _shifted(pictures: Tensor, reach: int) -> Tensor:
    side = pictures.shape[-1]
    down, right = torch.randint(0, 2 * reach + 1, (2,)).tolist()
    return functional.pad(pictures, (reach,) * 4)[..., down : down + side, right : right + side]


def _split(rows: Rows, training: int, validation: int, test: int) -> Splits:
    """Consecutive rows."""
    last = training + validation
    return Splits(rows.part(0, training), rows.part(training, last), rows.part(last, last + test))


def digits(_: Path | None) -> Splits:
    """scikit-learn's digits (n, 1, 8, 8): 1,000 to train on, and later writers for validation (398) and test (399)."""
    return _split(_digits(), 1000, 398, 399)


def _digits() -> Rows:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    inputs = torch.from_numpy(pixels.astype(np.float32) / 16).view(-1, 1, 8, 8)
    return Rows(inputs, torch.from_numpy(labels.astype(np.int64)))


def fashion(folder: Path | None, training: int = 3000) -> Splits:
    """Fashion-MNIST (n, 1, 28, 28): the first training images, the 1,000 last ones for validation, and test images."""
    assert folder is not None
    with np.load(folder / FASHION, allow_pickle=False) as arrays:
        train, test = (
            Rows(
                torch.from_numpy(arrays[f"x_{part}"].astype(np.float32) / 255).view(-1, 1, 28, 28),
                torch.from_numpy(arrays[f"y_{part}"].astype(np.int64)),
            )
            for part in ("train", "test")
        )
    count = len(train.targets)
    every = len(test.targets) // TEST  # classes follow each other in this file
    return Splits(
        train.part(0, training),
        train.part(count - VALIDATION, count),
        Rows(test.inputs[::every].contiguous(), test.targets[::every].contiguous()),
    )


def small_fashion(folder: Path | None) -> Splits:
    """Fashion-MNIST at half of its side, as inputs and targets (n, 196)."""

    def pooled(rows: Rows) -> Rows:
        pixels = functional.avg_pool2d(rows.inputs, 2).flatten(1)
        return Rows(pixels, pixels)

    whole = fashion(folder)
    return Splits(pooled(whole.training), pooled(whole.validation), pooled(whole.test))


def cifar(folder: Path | None) -> Splits:
    """CIFAR-10 as JPEG (n, 3, 32, 32): 3,000 to train on, the 1,000 last training images for validation."""
    assert folder is not None
    path = folder / CIFAR_JPEG
    return Splits(
        _decoded(path, "train", slice(3000)),
        _decoded(path, "train", slice(-VALIDATION, None)),
        _decoded(path, "test", slice(TEST)),
    )


def _decoded(path: Path, split: str, chosen: slice) -> Rows:
    """Some pictures of a file that holds each as JPEG."""
    from PIL import Image

    with np.load(path, allow_pickle=False) as arrays:
        packed, offsets, labels = (arrays[f"{split}_{part}"] for part in ("bytes", "offsets", "labels"))
    places = list(itertools.pairwise(offsets))[chosen]
    files = (packed[first:last].tobytes() for first, last in places)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    inputs = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    return Rows(inputs, torch.from_numpy(labels[chosen].astype(np.int64)))


def text(_: Path | None) -> Splits:
    """Characters (n, 32) of the interpreter's own documentation, and the characters that come next.

    Small letters, spaces and full stops remain; anything else is a space.
    """
    from pydoc_data.topics import topics

    words = " ".join(
        "".join(c if c.isascii() and (c.isalpha() or c == ".") else " " for c in page.lower())
        for _, page in sorted(topics.items())
    )
    codes = torch.tensor([" .abcdefghijklmnopqrstuvwxyz".index(c) for c in " ".join(words.split())])
    windows = codes[: (len(codes) - 1) // TEXT_LENGTH * TEXT_LENGTH + 1]
    inputs, targets = windows[:-1].view(-1, TEXT_LENGTH), windows[1:].view(-1, TEXT_LENGTH)
    return _split(Rows(inputs, targets), 3000, 500, 1000)


def noisy_digits(_: Path | None) -> Splits:
    """Pictures (n, 1, 16, 16) of a digit somewhere on a noisy ground with a slope, and its mask (n, 16, 16)."""
    rows = _digits()
    generator = torch.Generator().manual_seed(0)
    count, side = len(rows.targets), rows.inputs.shape[-1]
    places = torch.randint(0, CANVAS - side + 1, (count, 2), generator=generator)
    clean = torch.zeros(count, 1, CANVAS, CANVAS)
    for picture, digit, (down, right) in zip(clean, rows.inputs, places.tolist(), strict=True):
        picture[:, down : down + side, right : right + side] = digit
    slope = torch.linspace(-0.5, 0.5, CANVAS).view(1, 1, 1, -1) * torch.randn(count, 1, 1, 1, generator=generator)
    noise = 0.25 * torch.randn(clean.shape, generator=generator)
    return _split(Rows(clean + slope + noise, (clean[:, 0] > 0.3).long()), 1000, 398, 399)


def sensors(_: Path | None) -> Splits:
    """The tutorial's first example: which of four directions a point is nearest to, from 32 noisy sensors."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2, 32, generator=generator)
    points = torch.randn(4000 + VALIDATION + TEST, 2, generator=generator)
    inputs = points @ directions + 0.1 * torch.randn(len(points), 32, generator=generator)
    labels = 2 * (points[:, 0] > points[:, 1]) + 1 * (points[:, 0] > -points[:, 1])
    return _split(Rows(inputs, labels.long()), 4000, VALIDATION, TEST)
