"""What is trained and measured: a network, its data, its loss, and one number in points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from benchmarks.training import data, nets
from benchmarks.training.data import Rows, Splits

Metric = Callable[[Tensor, Rows], float]


def accuracy(outputs: Tensor, rows: Rows) -> float:
    """Share of right answers, over all places where there are several; 0..1."""
    return float((outputs.argmax(1) == rows.targets).float().mean())


def overlap(outputs: Tensor, rows: Rows) -> float:
    """Intersection over union of the mask, over all pictures; 0..1."""
    found, wanted = outputs.argmax(1) == 1, rows.targets == 1
    return float((found & wanted).sum() / (found | wanted).sum())


def unexplained(outputs: Tensor, rows: Rows) -> float:
    """Share of the variance of the pixels that is lost; less is better."""
    deviations = rows.targets - rows.targets.mean(0)
    return float((outputs - rows.targets).square().sum() / deviations.square().sum())


def most_frequent(rows: Rows) -> float:
    """Share of the most frequent class: what a constant answer gets."""
    return float(torch.bincount(rows.targets.flatten()).max() / rows.targets.numel())


def all_foreground(rows: Rows) -> float:
    """Overlap of a mask that covers everything: the best constant answer."""
    return float((rows.targets == 1).float().mean())


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One network with its task.

    Parameters
    ----------
    task : str
        What it does, for the table.
    build : callable
        Makes the network, with weights drawn by torch's global generator.
    splits : callable
        Loads the data from a folder, which is None if none was given.
    file : str, optional
        The file that must be in that folder.
    metric : callable
        The number that is reported, as a share, of outputs and rows.
    chance : callable
        The same of the best constant answer.
    mode : str
        "max" if more is better, "min" if less is.
    epochs, learning_rate, batch_size, shift
        How the float network is trained: AdamW with one cycle; batches also serve the compression.
    """

    task: str
    build: Callable[[], nn.Module]
    splits: Callable[[Path | None], Splits]
    file: str | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    metric: Metric = accuracy
    chance: Callable[[Rows], float] = most_frequent
    mode: str = "max"
    epochs: int = 15
    learning_rate: float = 3e-3
    batch_size: int = 50
    shift: int = 0

    def better_by(self, metric: float, other: float) -> float:
        """How much better one value of the metric is than another; negative if it is worse."""
        return other - metric if self.mode == "min" else metric - other

    @property
    def distils(self) -> bool:
        """Whether outputs are logits of classes, which a teacher can give."""
        return self.loss is cross_entropy


FASHION, CIFAR = data.FASHION, data.CIFAR_JPEG

PROBLEMS = {
    "residual_cnn": Problem(
        task="digits", build=nets.residual_cnn, splits=data.digits, epochs=25, batch_size=25, shift=1
    ),
    "plain_cnn": Problem(task="Fashion-MNIST", build=nets.plain_cnn, splits=data.fashion, file=FASHION),
    "depthwise_cnn": Problem(
        task="CIFAR-10", build=nets.depthwise_cnn, splits=data.cifar, file=CIFAR, epochs=20, shift=2
    ),
    "transformer": Problem(
        task="Fashion-MNIST", build=nets.Transformer, splits=data.fashion, file=FASHION, learning_rate=2e-3
    ),
    "gru": Problem(task="Fashion-MNIST, by rows", build=nets.RowReader, splits=data.fashion, file=FASHION),
    "lstm": Problem(task="next characters", build=nets.NextCharacter, splits=data.text, epochs=20, learning_rate=5e-3),
    "mixer": Problem(task="Fashion-MNIST", build=nets.Mixer, splits=data.fashion, file=FASHION, learning_rate=2e-3),
    "autoencoder": Problem(
        task="Fashion-MNIST, 14 x 14",
        build=nets.autoencoder,
        splits=data.small_fashion,
        file=FASHION,
        loss=mse_loss,
        metric=unexplained,
        chance=lambda rows: 1.0,
        mode="min",
        epochs=30,
    ),
    "unet": Problem(
        task="masks of digits in noise",
        build=nets.UNet,
        splits=data.noisy_digits,
        metric=overlap,
        chance=all_foreground,
        batch_size=25,
    ),
    "tutorial_mlp": Problem(
        task="directions from sensors", build=nets.tutorial_mlp, splits=data.sensors, epochs=5, learning_rate=1e-3
    ),
}
