"""Make the float networks that the records start from: LeNet-5 on MNIST, and ResNets adapted to their CIFAR-10.

    SWS_DATA_DIR=FOLDER python -m benchmarks.records.float_nets lenet_5 | cifar_resnet20 | cifar_resnet56

The ResNets start from published weights, ``models/cifar_resnet20.pt`` and ``cifar_resnet56.pt`` in FOLDER
(akamaster/pytorch_resnet_cifar10, BSD-2). They are trained for a few more epochs on the images of FOLDER, which may be
recompressed. The script uses one thread and one seed, and the test images once, at the end. It writes
``out/records/NET.pt`` (a state dict) and ``NET_float.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.environment import environment
from benchmarks.records.data import MNIST, CifarBatches, data_folder, load_cifar
from benchmarks.records.nets import CifarNet, LeNet5, error_percent
from sws_compress.demo.mnist import ShiftedBatches, Split, load_mnist

FOLDER = Path("out/records")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of Adam under half a cosine; ``bfloat16`` runs the passes under ``autocast``."""

    epochs: int
    learning_rate: float
    batch_size: int
    bfloat16: bool
    seed: int = 0


RECIPES = {
    "lenet_5": Recipe(epochs=25, learning_rate=1e-3, batch_size=128, bfloat16=False),
    "cifar_resnet20": Recipe(epochs=8, learning_rate=1e-3, batch_size=128, bfloat16=True),
    "cifar_resnet56": Recipe(epochs=3, learning_rate=1e-3, batch_size=128, bfloat16=True),
}
BLOCKS = {"cifar_resnet20": 3, "cifar_resnet56": 9}


@dataclass(frozen=True)
class ImageBatches:
    """`ShiftedBatches` of MNIST, as images (b, 1, 28, 28)."""

    batches: ShiftedBatches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        for pixels, labels in self.batches:
            yield pixels.view(-1, 1, 28, 28), labels


def as_images(split: Split) -> Split:
    """The split with a channel dimension: images (n, 1, 28, 28)."""
    return Split(split.images.unsqueeze(1), split.labels)


def start(net: str, folder: Path) -> tuple[nn.Module, tuple[Split, Split, Split]]:
    """The untrained or published network, and its data."""
    torch.manual_seed(RECIPES[net].seed)
    if net == "lenet_5":
        training, validation, test = load_mnist(MNIST)
        return LeNet5(), (training, as_images(validation), as_images(test))
    model = CifarNet(BLOCKS[net])
    state = torch.load(folder / "models" / f"{net}.pt", weights_only=True)
    model.net.load_state_dict(state)
    return model.to(memory_format=torch.channels_last), load_cifar(folder)


def batches(net: str, training: Split, batch_size: int) -> Iterable[Any]:
    if net == "lenet_5":
        return ImageBatches(ShiftedBatches(training, batch_size))
    return CifarBatches(training, batch_size)


def load(net: str, folder: Path) -> nn.Module:
    """The float network that this script made."""
    path = folder / f"{net}.pt"
    if not path.exists():
        raise SystemExit(f"{path} must exist, got none: run python -m benchmarks.records.float_nets {net} first")
    model: nn.Module = LeNet5() if net == "lenet_5" else CifarNet(BLOCKS[net]).to(memory_format=torch.channels_last)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model


def train(model: nn.Module, data: Iterable[Any], recipe: Recipe, report: Callable[[int], None]) -> None:
    assert isinstance(data, Sized)
    torch.manual_seed(recipe.seed)
    optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rate, fused=True)
    steps, step = recipe.epochs * len(data), 0
    model.train()
    for epoch in range(recipe.epochs):
        for inputs, labels in data:
            optimizer.param_groups[0]["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                outputs = model(inputs)
            loss = cross_entropy(outputs.float(), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
        report(epoch + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", choices=RECIPES)
    net = parser.parse_args().net
    recipe = RECIPES[net]
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    model, (training, validation, test) = start(net, data_folder())
    published = None if net == "lenet_5" else error_percent(model, test)
    began = time.perf_counter()

    def report(epoch: int) -> None:
        print(f"epoch {epoch}: validation error {error_percent(model, validation):.2f} %", flush=True)

    train(model, batches(net, training, recipe.batch_size), recipe, report)
    figures = {
        "net": net,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "validation_error_percent": error_percent(model, validation),
        "test_error_percent": error_percent(model, test),
        "published_weights_test_error_percent": published,
        "seconds": time.perf_counter() - began,
        "recipe": asdict(recipe),
        "environment": environment(),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), FOLDER / f"{net}.pt")
    (FOLDER / f"{net}_float.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
