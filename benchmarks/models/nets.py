"""The torch networks of the benchmark: three sequence classifiers trained here, and two whose weights are published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS, COLUMNS, CLASSES = 28, 28, 10
WIDTH = 128


class RowRecurrence(nn.Module):
    """An LSTM or a GRU that reads an image row by row: images (n, 28, 28) in 0..1, logits (n, 10)."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.recurrence = kind(COLUMNS, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        states: Tensor = self.recurrence(images)[0]
        logits: Tensor = self.head(states[:, -1])
        return logits


class Block(nn.Module):
    """A pre-norm transformer layer; inputs and outputs have shape (n, length, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.merge(self._attend(self.attention_norm(states)))
        return states + self.narrow(functional.gelu(self.widen(self.feed_norm(states))))

    def _attend(self, states: Tensor) -> Tensor:
        query, key, value = (_by_head(part, self.heads) for part in self.queries_keys_values(states).chunk(3, dim=-1))
        return _attention(query, key, value).transpose(1, 2).flatten(2)


class RowTransformer(nn.Module):
    """A transformer that reads an image as 28 tokens: images (n, 28, 28) in 0..1, logits (n, 10)."""

    def __init__(self, *, layers: int = 3, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(COLUMNS, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(ROWS, WIDTH))
        self.blocks = nn.Sequential(*(Block(WIDTH, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.blocks(self.embed(images) + self.positions)).mean(dim=1))
        return logits


def _by_head(states: Tensor, heads: int) -> Tensor:
    """Split the heads: (n, length, width) to (n, heads, length, width / heads)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return (scores if bias is None else scores + bias).softmax(dim=-1) @ value


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.padding = stride, (outputs - inputs) // 2

    def forward(self, images: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(self.bn1(self.conv1(images)).relu()))
        if self.padding:  # shortcut without weights: option A of He et al. 2016
            images = functional.pad(
                images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding)
            )
        return (branch + images).relu()


class CifarResNet(nn.Module):
    """ResNet-20 (``blocks`` = 3) or ResNet-56 (9) of He et al. 2016: images (n, 3, 32, 32), logits (n, 10)."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(images)).relu())))
        logits: Tensor = self.linear(maps.mean(dim=(2, 3)))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _Residual(inputs, outputs, stride), *(_Residual(outputs, outputs, 1) for _ in range(blocks - 1))
    )


class MiniLM(nn.Module):
    """The sentence encoder all-MiniLM-L6-v2, a BERT of six layers (Devlin et al. 2019; Wang et al. 2020).

    Inputs are token identifiers and mask, (n, length) int64; outputs are sentence vectors (n, 384) of norm 1. ``state``
    is the published state dictionary.
    """

    def __init__(self, state: Mapping[str, Tensor], *, layers: int = 6, heads: int = 12) -> None:
        super().__init__()
        self.layers, self.heads = layers, heads
        self.weights = nn.ParameterDict({name.replace(".", "/"): value for name, value in state.items()})

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states = functional.embedding(tokens, self._of("embeddings.word_embeddings.weight"))
        states = states + self._of("embeddings.position_embeddings.weight")[: tokens.shape[1]]
        states = self._norm(states + self._of("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
        bias = (1.0 - mask[:, None, None].float()) * -1e4
        for layer in range(self.layers):
            name = f"encoder.layer.{layer}"
            query, key, value = (
                _by_head(self._linear(states, f"{name}.attention.self.{part}"), self.heads)
                for part in ("query", "key", "value")
            )
            merged = _attention(query, key, value, bias).transpose(1, 2).flatten(2)
            merged = self._linear(merged, f"{name}.attention.output.dense")
            states = self._norm(states + merged, f"{name}.attention.output.LayerNorm")
            wide = functional.gelu(self._linear(states, f"{name}.intermediate.dense"))
            states = self._norm(states + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        kept = mask[..., None].float()
        return functional.normalize((states * kept).sum(dim=1) / kept.sum(dim=1), dim=-1)

    def _of(self, name: str) -> Tensor:
        return self.weights[name.replace(".", "/")]

    def _linear(self, states: Tensor, name: str) -> Tensor:
        return functional.linear(states, self._of(f"{name}.weight"), self._of(f"{name}.bias"))

    def _norm(self, states: Tensor, name: str) -> Tensor:
        return functional.layer_norm(
            states, states.shape[-1:], self._of(f"{name}.weight"), self._of(f"{name}.bias"), 1e-12
        )


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The float32 tensors of a safetensors file (eight bytes of header length, a JSON header, the data)."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if entry.get("dtype") == "F32":
            first, last = (start + offset for offset in entry["data_offsets"])
            values = np.frombuffer(data[first:last], np.float32).reshape(entry["shape"])
            tensors[name] = torch.from_numpy(values.copy())
    return tensors
