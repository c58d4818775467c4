"""Train the sequence networks of the benchmark on rows of images, from fixed seeds: a few minutes on one core.

    python -m benchmarks.models.train --data FOLDER --folder out/models

FOLDER holds ``fashion_mnist.npz``, in the layout of ``sws_compress/demo/data/mnist.npz``. Test images chose nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.models.nets import RowRecurrence, RowTransformer
from benchmarks.models.places import MNIST, add_arguments

EPOCHS, BATCH_SIZE, LEARNING_RATE = 5, 128, 2e-3


@dataclass(frozen=True)
class Recipe:
    """A network and its training images; ``dataset`` is the stem of the .npz."""

    network: Callable[[], nn.Module]
    dataset: str


RECIPES = {
    "lstm": Recipe(lambda: RowRecurrence(nn.LSTM), "mnist"),
    "gru": Recipe(lambda: RowRecurrence(nn.GRU), "fashion_mnist"),
    "transformer": Recipe(RowTransformer, "fashion_mnist"),
}


def images_and_labels(dataset: str, split: str, data: Path) -> tuple[Tensor, Tensor]:
    """Images (n, 28, 28) float32 in 0..1 and labels (n,) int64; ``split`` is ``train`` or ``test``."""
    path = MNIST if dataset == "mnist" else data / f"{dataset}.npz"
    with np.load(path, allow_pickle=False) as arrays:
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
    return torch.from_numpy(images).float() / 255, torch.from_numpy(labels).long()


def train(recipe: Recipe, data: Path) -> nn.Module:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = recipe.network()
    images, labels = images_and_labels(recipe.dataset, "train", data)
    steps = EPOCHS * -(-len(images) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH_SIZE):
            loss = cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy_percent(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    guesses = torch.cat([network(part).argmax(dim=1) for part in images.split(1000)])
    return 100 * float((guesses == labels).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    arguments = parser.parse_args()
    folder = arguments.folder / "trained"
    folder.mkdir(parents=True, exist_ok=True)
    for name, recipe in RECIPES.items():
        network = train(recipe, arguments.data)
        accuracy = accuracy_percent(network, *images_and_labels(recipe.dataset, "test", arguments.data))
        torch.save(network.state_dict(), folder / f"{name}.pt")
        print(json.dumps({"network": name, "dataset": recipe.dataset, "test_accuracy_percent": accuracy}), flush=True)


if __name__ == "__main__":
    main()
