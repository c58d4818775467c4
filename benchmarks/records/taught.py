"""Common parts of the compared methods: batches with the teacher's logits, the loss, and the ONNX file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from sws_compress.api import export
from sws_compress.demo.lenet import LeNet300100
from sws_compress.demo.mnist import Split

SHIFT_PIXELS = 1  # greatest shift of a digit
TEACHER_SHARE, TEMPERATURE = 0.7, 3.0  # the defaults of Distillation


@dataclass(frozen=True, eq=False)
class TaughtBatches:
    """`ShiftedBatches` with the teacher's logits, which are computed once for every shift of every image.

    Yields pixels (b, 784) and targets (b, 11) float32: the label, then the teacher's ten logits for these pixels.
    `taught_batches` makes it. Order and shifts come from torch's global generator.
    """

    padded: Tensor  # (n, 900) float32
    windows: Tensor  # (9, 784) int64: the pixels of every shift in a padded image
    targets: Tensor  # (n, 9, 11) float32
    batch_size: int

    def __len__(self) -> int:
        return len(self.padded) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.padded))[: len(self) * self.batch_size]
        for chosen in order.split(self.batch_size):
            shifts = torch.randint(0, len(self.windows), chosen.shape)
            yield self.padded[chosen].gather(1, self.windows[shifts]), self.targets[chosen, shifts]


@torch.no_grad()
def taught_batches(split: Split, teacher: nn.Module, batch_size: int) -> TaughtBatches:
    """Batches of images (n, s, s), shifted by up to ``SHIFT_PIXELS`` pixels."""
    count, side, _ = split.images.shape
    width = side + 2 * SHIFT_PIXELS
    padded = functional.pad(split.images, (SHIFT_PIXELS,) * 4).flatten(1)
    grid = torch.arange(width * width).view(width, width)
    offsets = range(2 * SHIFT_PIXELS + 1)
    windows = torch.stack([grid[r : r + side, c : c + side].flatten() for r in offsets for c in offsets])
    targets = torch.empty(count, len(windows), 11)
    targets[:, :, 0] = split.labels[:, None]
    for rows in torch.arange(count).split(1000):
        for shift, window in enumerate(windows):
            targets[rows, shift, 1:] = teacher(padded[rows][:, window])
    return TaughtBatches(padded, windows, targets, batch_size)


def taught_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of the alternating loop with a teacher: 0.3 cross-entropy + 0.7 T KL(teacher || student), T = 3."""
    labelled = functional.cross_entropy(outputs, targets[:, 0].long())
    student, wanted = (functional.log_softmax(logits / TEMPERATURE, 1) for logits in (outputs, targets[:, 1:]))
    divergence = functional.kl_div(student, wanted, reduction="batchmean", log_target=True)
    return (1 - TEACHER_SHARE) * labelled + TEACHER_SHARE * TEMPERATURE * divergence


def cosine(progress: float) -> float:
    """Half a cosine, from 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


@torch.no_grad()
def write_file(network: LeNet300100, output: Path, example: Tensor) -> None:
    """Write a network of few distinct values as ONNX, rounded to float16 as in the alternating loop."""
    for parameter in network.parameters():
        parameter.copy_(parameter.half().float() + 0.0)  # -0.0 + 0.0 = 0.0
    export(network, {}, output, example_inputs=example)
