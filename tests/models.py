"""Small networks to compress: ONNX files written by hand, and torch modules of every kind that has weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import sws_compress as sws
from sws_compress.ort.user_models import run_model


def gaussian(*shape: int, seed: int = 0, offset: float = 0.02) -> np.ndarray:
    """Float32 weights that are not centred on zero."""
    return (offset + 0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def write_mlp(
    path: Path,
    first: np.ndarray | None = None,
    second: np.ndarray | None = None,
    *,
    opset: int = 17,
    names: tuple[str, str] = ("w1", "w2"),
    classes: bool = False,
) -> Path:
    """x (n, 40) -> MatMul, Relu, MatMul -> y (n, 30), or with ``classes`` -> ArgMax -> int64 z (n,)."""
    first = gaussian(40, 60, seed=1) if first is None else first
    second = gaussian(first.shape[1], 30, seed=2) if second is None else second
    nodes = [
        helper.make_node("MatMul", ["x", names[0]], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", names[1]], ["y"]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", second.shape[1]])
    if classes:
        nodes.append(helper.make_node("ArgMax", ["y"], ["z"], axis=1, keepdims=0))
        output = helper.make_tensor_value_info("z", TensorProto.INT64, ["n"])
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", first.shape[0]])],
        [output],
        [numpy_helper.from_array(first, names[0]), numpy_helper.from_array(second, names[1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


class Mlp(nn.Module):
    def __init__(self, inputs: int = 20, hidden: int = 50, outputs: int = 7) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(torch.relu(self.fc1(x)))
        return y


class Cnn(nn.Module):
    """A network whose batch norms have statistics unlike fresh ones, so that merging them would show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 24, 3, groups=2), nn.BatchNorm2d(24)
        self.head = nn.Linear(24, 11)
        with torch.no_grad():
            for norm in (self.norm1, self.norm2):
                norm.running_mean.normal_(0.1, 0.3)
                norm.running_var.uniform_(0.5, 2.5)
                norm.weight.uniform_(0.3, 1.9)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(images)))
        y: Tensor = self.head(torch.relu(self.norm2(self.conv2(x))).mean((2, 3)))
        return y


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell, self.head = kind(12, 20, batch_first=True), nn.Linear(20, 13)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.cell(x)[0][:, -1])
        return y


class TiedEmbedding(nn.Module):
    """The two ends of a language model: the table of the embedding is the weight of the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.body = nn.Embedding(100, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 100, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.body(self.embedding(tokens))))
        return logits


class TwoByTwo(nn.Module):
    """A network with two inputs and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(20, 40), nn.Linear(30, 40), nn.Linear(40, 9)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.left(x) + self.right(y))
        return self.head(hidden), hidden.sum(1)


def make(kind: str) -> tuple[nn.Module, Any]:
    """A seeded network in training mode, and a function that makes its inputs for a batch size."""
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    makers: dict[str, tuple[Any, Any]] = {
        "mlp": (Mlp, lambda n: (normal(n, 20),)),
        "cnn": (Cnn, lambda n: (normal(n, 3, 9, 9),)),
        "lstm": (lambda: Recurrent(nn.LSTM), lambda n: (normal(n, 5, 12),)),
        "gru": (lambda: Recurrent(nn.GRU), lambda n: (normal(n, 5, 12),)),
        "tied": (TiedEmbedding, lambda n: (torch.randint(0, 100, (n, 6), generator=generator),)),
        "two": (TwoByTwo, lambda n: (normal(n, 20), normal(n, 30))),
    }
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return makers[kind][0](), makers[kind][1]


def answers(path: Path, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    names = [value.name for value in onnx.load(path).graph.input]
    return list(run_model(path, {name: x.numpy() for name, x in zip(names, inputs, strict=True)}).values())


def torch_answers(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    model.eval()
    with torch.no_grad():
        outputs = model(*inputs)
    return [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def tuned(model: nn.Module, output: Path, **options: Any) -> sws.CompressionResult:
    """``compress`` with a FineTuned request; options of both in one."""
    fields = {field.name for field in dataclasses.fields(sws.FineTuned)}
    asked = {name: value for name, value in options.items() if name in fields}
    rest = {name: value for name, value in options.items() if name not in fields}
    return sws.compress(model, output, sws.FineTuned(**asked), **rest)


def fail_if_it_trains(description: str, done: int, total: int) -> None:
    """Progress of a call that must be refused before the run."""
    assert "epoch" not in description


def batches(count: int = 6, rows: int = 16) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(11)
    pairs = []
    for _ in range(count):
        x = torch.randn(rows, 20, generator=generator)
        pairs.append((x, (x[:, :7]).argmax(1)))
    return pairs
