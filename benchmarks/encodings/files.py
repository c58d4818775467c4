"""Models of one matrix in a given encoding, for the benchmarks of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from sws_compress.codec.candidates import candidates
from sws_compress.codec.encodings.buckets import LONGEST_SEQUENCE_SYMBOLS, Buckets, encode_buckets
from sws_compress.codec.encodings.radix import digits_that_fit
from sws_compress.codec.encodings.strides import Strides
from sws_compress.codec.program import Code
from sws_compress.codec.transforms.dtypes import HalfCodebook
from sws_compress.codec.transforms.even import EvenCodebook, EvenGrid
from sws_compress.codec.transforms.unpack import unpack
from sws_compress.onnx_io.write.insert import insert
from sws_compress.onnx_io.write.onnx_ops import OnnxOps
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.onnx_io.write.strip import value_names

FEW_DEPTHS = 5
BELL = np.exp(-(np.linspace(-3.5, 3.5, 16) ** 2) / 2)
SHARES = {
    "Gaussian, K = 16": BELL,
    "Gaussian, K = 256": np.exp(-(np.linspace(-3.5, 3.5, 256) ** 2) / 2),
    "Gaussian, K = 600": np.exp(-(np.linspace(-3.5, 3.5, 600) ** 2) / 2),
    "Laplace, K = 64": np.exp(-np.abs(np.arange(64) - 32) / 4),
    "equal, K = 3": np.ones(3),
    "skewed, K = 4": np.array([70, 20, 7, 3]),
    "90 % zeros, K = 16": np.append(0.1 * BELL[1:] / BELL[1:].sum(), 0.9),
    "97 % zeros, K = 7": np.array([0.05, 0.15, 0.3, 97 / 3, 0.3, 0.15, 0.05]),
}


def drawn(
    shares: npt.NDArray[np.float64], count: int
) -> tuple[npt.NDArray[np.unsignedinteger], npt.NDArray[np.float32]]:
    """Random symbols, and an even codebook in which the most frequent symbol is 0.0."""
    symbols = np.random.default_rng(0).choice(len(shares), count, p=shares / shares.sum())
    codebook = np.float32(0.0123) * (np.arange(len(shares)) - np.argmax(shares)).astype(np.float32)
    return symbols.astype(np.min_scalar_type(len(shares) - 1)), codebook


def sinusoids(side: int) -> tuple[npt.NDArray[np.unsignedinteger], npt.NDArray[np.float32]]:
    """Symbols of a square table of sinusoids, and one period of the cosine."""
    places = np.arange(side)[:, None] * np.arange(side) % side
    return places.reshape(-1).astype(np.uint16), np.cos(2 * np.pi * np.arange(side) / side).astype(np.float32)


def codes(symbols: npt.NDArray[np.unsignedinteger], codebook: npt.NDArray[np.float32]) -> Iterator[tuple[str, Code]]:
    """Every applicable code, with its name."""
    longer = () if symbols.size <= LONGEST_SEQUENCE_SYMBOLS else _buckets(symbols, codebook)
    for code in (*candidates(symbols, codebook), *longer):
        if not isinstance(code.program, HalfCodebook):
            computed = ", computed" if isinstance(code.program, EvenCodebook) else ""
            inner = getattr(code.program, "values", code.program.program if computed else code.program)
            words = getattr(inner, "words", inner)
            few = ", few depths" if isinstance(words, Strides) and len(words.levels) <= FEW_DEPTHS else ""
            per_word = f" of {words.symbols}{computed}" if isinstance(words, Buckets) else ""
            yield code.encoding + (" of blocks" if hasattr(inner, "words") else "") + few + per_word, code


def _buckets(symbols: npt.NDArray[np.unsignedinteger], codebook: npt.NDArray[np.float32]) -> Iterator[Code]:
    """Codes in buckets of sequences that are so long that others take their place."""
    used, compact = np.unique(symbols, return_inverse=True)
    for per_word in range(1, 1 + digits_that_fit(used.size, 1 << 12)):
        yield encode_buckets(compact.astype(np.min_scalar_type(used.size - 1)), codebook[used], per_word)
    if (grid := EvenGrid.of(codebook[used])) is not None and used.size > 256:
        yield grid.computed(encode_buckets(grid.symbols(compact), grid.codebook, 1, in_order=True))


def dense_model(weights: npt.NDArray[np.float32]) -> onnx.ModelProto:
    """A model that computes y = x W."""
    rows, columns = weights.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", columns])],
        [numpy_helper.from_array(weights, "W")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def packed_model(code: Code, shape: tuple[int, int]) -> bytes:
    """The model of `dense_model`, with W stored in ``code``."""
    model = ir.from_proto(dense_model(np.zeros(shape, np.float32)))
    ops = OnnxOps(18, value_names(model))
    (output,) = unpack(ops, code, (shape,))
    insert(model, ops.finish({"W": output}), ["W"])
    return to_bytes(model)
