"""Networks of the records and their errors. All take pixels in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.models.nets import CifarResNet
from sws_compress.demo.mnist import Split

CIFAR_MEAN, CIFAR_SPREAD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # as in the training of the published networks


class LeNet5(nn.Module):
    """LeNet-5 of Caffe: 20 and 50 kernels of 5 x 5, 500 hidden units, 431,080 parameters; images (n, 1, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = nn.functional.max_pool2d(self.conv1(pixels), 2)
        maps = nn.functional.max_pool2d(self.conv2(maps), 2)
        logits: Tensor = self.fc2(self.fc1(maps.flatten(1)).relu())
        return logits


class CifarNet(nn.Module):
    """`CifarResNet` with the normalisation of its inputs; images (n, 3, 32, 32)."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.net = CifarResNet(blocks)
        self.register_buffer("mean", torch.tensor(CIFAR_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(CIFAR_SPREAD).view(3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.net((pixels - self.mean) / self.spread)
        return logits


@torch.no_grad()
def error_percent(model: nn.Module, split: Split) -> float:
    """Error in percent, in evaluation mode; images may be uint8."""
    training = model.training
    model.eval()
    wrong = 0
    for images, labels in zip(split.images.split(500), split.labels.split(500), strict=True):
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        wrong += int((model(pixels).argmax(1) != labels).sum())
    model.train(training)
    return 100 * wrong / len(split.labels)
