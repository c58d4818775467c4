"""MNIST as tensors: the splits, and batches of randomly shifted digits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sws_compress.errors import DataError

VALIDATION_PART = 12  # of the training images one in twelve is held out: the last 5,000 of 60,000


@dataclass(frozen=True)
class Split:
    """Images (n, 28, 28) float32 in [0, 1] and labels (n,) int64."""

    images: Tensor
    labels: Tensor


def load_mnist(path: Path) -> tuple[Split, Split, Split]:
    """Training (the first 55,000), validation (the last 5,000) and test (10,000) images; DataError without the file.

    A smaller file of the same form is split in the same proportion.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            train, test = (
                Split(
                    torch.from_numpy(arrays[f"x_{part}"]).float() / 255,
                    torch.from_numpy(arrays[f"y_{part}"].astype(np.int64)),
                )
                for part in ("train", "test")
            )
    except Exception as error:  # whatever a file of another kind makes of NumPy and zipfile
        raise DataError(
            f"{path} must be MNIST as an .npz file (x_train, y_train, x_test, y_test), got {type(error).__name__}: "
            "run from a clone of the repository, or name the folder that holds it"
        ) from error
    cut = len(train.labels) - len(train.labels) // VALIDATION_PART
    return Split(train.images[:cut], train.labels[:cut]), Split(train.images[cut:], train.labels[cut:]), test


def shift_randomly(images: Tensor, max_shift: int, generator: torch.Generator | None = None) -> Tensor:
    """Each image moved by its own whole-pixel offset in [-max_shift, max_shift]^2, zeros moved in; shape kept.

    Offsets come from ``generator``, by default torch's global one.
    """
    count, side, _ = images.shape
    padded = torch.nn.functional.pad(images, (max_shift,) * 4)
    offsets = torch.randint(0, 2 * max_shift + 1, (2, count, 1), generator=generator)
    rows, columns = offsets + torch.arange(side)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True)
class ShiftedBatches:
    """One pass over a split per iteration: (pixels (b, 784), labels (b,)) in random order, randomly shifted.

    Order and shifts come from torch's global generator; the last, smaller batch is left out.
    """

    split: Split
    batch_size: int
    max_shift: int = 1

    def __len__(self) -> int:
        return len(self.split.labels) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.split.labels))[: len(self) * self.batch_size]
        for chosen in torch.split(order, self.batch_size):
            pixels = shift_randomly(self.split.images[chosen], self.max_shift).flatten(1)
            yield pixels, self.split.labels[chosen]
