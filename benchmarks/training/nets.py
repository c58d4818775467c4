"""The networks of the training benchmark: ten kinds, with 10 to 80 thousand weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHARACTERS = 28


class Residual(nn.Module):
    """Two convolutions with batch norm beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(x + self.norm2(self.conv2(inner)))


def residual_cnn() -> nn.Module:
    """Batch norms and residuals, on digits."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        Residual(24),
        nn.MaxPool2d(2),
        Residual(24),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 10),
    )


def plain_cnn() -> nn.Module:
    """Convolutions without norms, and a large linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 49, 40),
        nn.ReLU(),
        nn.Linear(40, 10),
    )


def _separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def depthwise_cnn() -> nn.Module:
    """Depthwise and pointwise convolutions with batch norms, as in MobileNet."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        _separable(16, 32, 2),
        _separable(32, 64, 1),
        _separable(64, 96, 2),
        _separable(96, 96, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


class Transformer(nn.Module):
    """Patches with learned positions, two encoder layers, mean over the patches."""

    def __init__(self, patch: int = 7, width: int = 48, layers: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, (28 // patch) ** 2, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.encoder(tokens).mean(1))


class RowReader(nn.Module):
    """A GRU that reads a picture row by row."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.recurrent = nn.GRU(28, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x.squeeze(1))[0][:, -1])


class NextCharacter(nn.Module):
    """An embedding and an LSTM; logits (b, characters, length) of the next character at every place."""

    def __init__(self, hidden: int = 80) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, 24)
        self.recurrent = nn.LSTM(24, hidden, batch_first=True)
        self.head = nn.Linear(hidden, CHARACTERS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embedding(x))[0]).transpose(1, 2)


class MixerLayer(nn.Module):
    """A perceptron over the places of each channel, then one over the channels of each place."""

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.over_places = nn.Sequential(nn.Linear(places, 32), nn.GELU(), nn.Linear(32, places))
        self.over_channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_places(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(self.norm2(x))


class Mixer(nn.Module):
    """An MLP-mixer of two layers."""

    def __init__(self, patch: int = 7, width: int = 48) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.layers = nn.Sequential(*(MixerLayer((28 // patch) ** 2, width) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.patches(x).flatten(2).transpose(1, 2))).mean(1))


def autoencoder() -> nn.Module:
    """Linear layers down to 16 numbers and up again, for pictures of 196 pixels."""
    return nn.Sequential(
        nn.Linear(196, 96),
        nn.ReLU(),
        nn.Linear(96, 16),
        nn.Linear(16, 96),
        nn.ReLU(),
        nn.Linear(96, 196),
        nn.Sigmoid(),
    )


class UNet(nn.Module):
    """Two scales below the picture, with skips; logits (b, 2, 16, 16) of ground and digit."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.enter = self._block(1, width)
        self.down1, self.down2 = self._block(width, 2 * width), self._block(2 * width, 4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.merge1 = self._block(4 * width, 2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge2 = self._block(2 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        fine = self.enter(x)
        middle = self.down1(functional.max_pool2d(fine, 2))
        coarse = self.down2(functional.max_pool2d(middle, 2))
        middle = self.merge1(torch.cat([self.up1(coarse), middle], 1))
        return self.head(self.merge2(torch.cat([self.up2(middle), fine], 1)))


def tutorial_mlp() -> nn.Module:
    """The network of the tutorial's first example."""
    return nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 4))
