"""A transformer with random weights, written tensor by tensor: `python -m benchmarks.scale.model 1.1B FILE.onnx`.

The model has the shape of a decoder-only language model: a token embedding, blocks of attention (four matrices) and
feed-forward layers (two), each with biases and preceded by a layer norm, and a head. Weights are Student's t (5 degrees
of freedom), about as heavy-tailed as trained ones, with a different scale per matrix. Half of all tensors have a mean
off zero. The script needs the memory of one chunk, whatever the size.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

CHUNK_WEIGHTS = 1 << 22
OPSET = 17


@dataclass(frozen=True)
class Size:
    vocabulary: int
    width: int
    layers: int

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(shape)) for _, shape in tensors(self))


SIZES = {
    "10M": Size(8_000, 256, 7),
    "25M": Size(9_000, 512, 5),
    "40M": Size(9_000, 1024, 2),
    "100M": Size(20_000, 768, 10),
    "300M": Size(20_000, 2048, 4),
    "1.1B": Size(35_000, 2048, 19),
}


def tensors(size: Size) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all weights, in order of use."""
    width = size.width
    yield "embedding", (size.vocabulary, width)
    for layer in range(size.layers):
        for part in ("q", "k", "v", "o"):
            yield f"{layer}.{part}.weight", (width, width)
            yield f"{layer}.{part}.bias", (width,)
        yield f"{layer}.up.weight", (width, 4 * width)
        yield f"{layer}.up.bias", (4 * width,)
        yield f"{layer}.down.weight", (4 * width, width)
        yield f"{layer}.down.bias", (width,)
        for norm in ("norm1", "norm2"):
            yield f"{layer}.{norm}.scale", (width,)
            yield f"{layer}.{norm}.bias", (width,)
    yield "head", (width, size.vocabulary)


def write_model(path: Path, size: Size, *, seed: int = 0) -> None:
    """Write the graph to ``path`` and the weights to ``path`` + ".data"."""
    data = path.with_name(path.name + ".data")
    initializers = []
    generators = np.random.SeedSequence(seed)
    with data.open("wb") as stream:
        for name, shape in tensors(size):
            tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
            tensor.data_location = TensorProto.EXTERNAL
            count = int(np.prod(shape))
            for key, value in (("location", data.name), ("offset", stream.tell()), ("length", 4 * count)):
                tensor.external_data.add(key=key, value=str(value))
            for chunk in weights(count, np.random.default_rng(generators.spawn(1)[0])):
                chunk.tofile(stream)
            initializers.append(tensor)
    onnx.save(_graph(size, initializers), path)


def weights(count: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    scale = np.float32(random.uniform(0.01, 0.05))
    offset = np.float32(random.choice([0.0, 0.003]))
    for start in range(0, count, CHUNK_WEIGHTS):
        length = min(CHUNK_WEIGHTS, count - start)
        tails = np.sqrt(random.standard_gamma(2.5, length, dtype=np.float32) * np.float32(0.4))
        yield random.standard_normal(length, dtype=np.float32) * scale / tails + offset


def _graph(size: Size, initializers: list[TensorProto]) -> onnx.ModelProto:
    nodes, value = [helper.make_node("Gather", ["embedding", "tokens"], ["x"])], "x"
    names = (f"t{i}" for i in range(100_000))

    def emit(operator: str, *inputs: str, **attributes: Any) -> str:
        output = next(names)
        nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def linear(layer: int, part: str, x: str) -> str:
        return emit("Add", emit("MatMul", x, f"{layer}.{part}.weight"), f"{layer}.{part}.bias")

    for layer in range(size.layers):
        normed = emit("LayerNormalization", value, f"{layer}.norm1.scale", f"{layer}.norm1.bias")
        q, k, v = (linear(layer, part, normed) for part in ("q", "k", "v"))
        scores = emit("Softmax", emit("MatMul", q, emit("Transpose", k, perm=[0, 2, 1])))
        value = emit("Add", value, linear(layer, "o", emit("MatMul", scores, v)))
        normed = emit("LayerNormalization", value, f"{layer}.norm2.scale", f"{layer}.norm2.bias")
        value = emit("Add", value, linear(layer, "down", emit("Tanh", linear(layer, "up", normed))))
    nodes.append(helper.make_node("MatMul", [value, "head"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "transformer",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", size.vocabulary])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("path", type=Path)
    options = parser.parse_args()
    print(f"{SIZES[options.size].parameters:,} parameters")
    write_model(options.path, SIZES[options.size])


if __name__ == "__main__":
    main()
