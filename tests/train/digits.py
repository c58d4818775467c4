"""A small real problem for the tests of training: 8 x 8 digits, and a network trained on them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

TRAINING = 1300


@cache
def data() -> tuple[Tensor, Tensor]:
    """Pixels (1797, 64) in 0..1 and labels (1797,), shuffled; the first ``TRAINING`` are for training."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    return torch.tensor(digits.data / 16, dtype=torch.float32)[order], torch.tensor(digits.target)[order]


class Batches:
    """Batches in an order drawn from torch's global generator, as a DataLoader with shuffle=True does."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count // self.size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        pixels, labels = data()
        for chosen in torch.randperm(self.count)[: len(self) * self.size].split(self.size):
            yield pixels[chosen], labels[chosen]


@cache
def _trained() -> nn.Sequential:
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
        for _ in range(25):
            for pixels, labels in Batches(TRAINING, 50):
                optimizer.zero_grad()
                functional.cross_entropy(network(pixels), labels).backward()
                optimizer.step()
        return network


def trained() -> nn.Sequential:
    """A copy of a trained 64-32-10 network with about 97 % accuracy on the rest of the digits."""
    return copy.deepcopy(_trained())


@torch.no_grad()
def accuracy(network: nn.Module) -> float:
    """Accuracy on the digits that are not for training, in percent."""
    pixels, labels = data()
    right = network(pixels[TRAINING:]).argmax(1) == labels[TRAINING:]
    return 100 * float(right.float().mean())
