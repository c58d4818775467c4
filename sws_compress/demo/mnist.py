"""MNIST as tensors: the splits, and batches of randomly shifted digits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sws_compress.errors import DataError

VALIDATION_PART = 12
"""One in so many training images is held out for validation: the last 5,000 of 60,000."""


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Parameters
    ----------
    images : Tensor, shape (n, 28, 28), float32
        Pixels in [0, 1].
    labels : Tensor, shape (n,), int64
        The digits.
    """

    images: Tensor
    labels: Tensor


def load_mnist(path: Path) -> tuple[Split, Split, Split]:
    """Load MNIST.

    Parameters
    ----------
    path : Path
        An .npz file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

    Returns
    -------
    training, validation, test : Split
        The first 55,000 and the last 5,000 training images, and the 10,000 test images. A smaller file is split in the
        same proportion.

    Raises
    ------
    DataError
        If there is no such file.
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
            "leave --data out, or name a folder that holds it"
        ) from error
    cut = len(train.labels) - len(train.labels) // VALIDATION_PART
    return Split(train.images[:cut], train.labels[:cut]), Split(train.images[cut:], train.labels[cut:]), test


def shift_randomly(images: Tensor, max_shift: int, generator: torch.Generator | None = None) -> Tensor:
    """Move each image by its own random offset; zeros come in at the edges.

    Parameters
    ----------
    images : Tensor, shape (n, side, side)
        The images.
    max_shift : int
        Largest offset in each direction, in pixels.
    generator : torch.Generator, optional
        Draws the offsets; by default torch's global one.
    """
    count, side, _ = images.shape
    padded = torch.nn.functional.pad(images, (max_shift,) * 4)
    offsets = torch.randint(0, 2 * max_shift + 1, (2, count, 1), generator=generator)
    rows, columns = offsets + torch.arange(side)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True)
class ShiftedBatches:
    """Batches of randomly shifted digits in random order: pixels (b, 784) and labels (b,).

    Order and shifts come from torch's global generator. The last, smaller batch is left out.

    Parameters
    ----------
    split : Split
        The digits.
    batch_size : int
        Digits per batch.
    max_shift : int
        Largest shift in each direction, in pixels.
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
