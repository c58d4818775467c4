"""Compressed files of every encoding there is, each with its plain twin and inputs: what every runtime is given."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from sws_compress import packing
from sws_compress.codec.choose import candidates
from sws_compress.codec.tensors import unpack
from sws_compress.graph import rewrite
from sws_compress.graph.ops import OnnxOps
from sws_compress.mixture.snap import palette_of
from tests.graph.models import few_values, lenet

Feeds = dict[str, npt.NDArray[np.generic]]

OPSETS = (13, 18, 20, 21)
"""21 is the newest that the oldest supported ONNX Runtime takes."""

BELL = np.exp(-(np.linspace(-3, 3, 16) ** 2))
STREAMS = {
    "one value": few_values((40, 30), [0.1], [1]),
    "even": few_values((41, 31), np.linspace(-1, 2, 7), np.ones(7)),
    "whole bytes": few_values((40, 30), np.linspace(-1, 1, 200), np.ones(200)),
    "exact in half": few_values((70, 40), np.arange(200) / 4, np.ones(200)),
    "bell": few_values((211, 99), np.linspace(-1, 2, 16), BELL),
    "sloped": few_values((211, 199), np.linspace(-1, 2, 256), np.linspace(1, 9, 256)),
    "mostly zero": few_values((211, 99), [-3.1, 0, 1, 2.5], [1, 50, 3, 1]),
    "one value and zero": few_values((211, 99), [0, 1.7], [50, 1]),
    "negative zero": few_values((211, 99), [-0.0, 0, 1.2], [1, 50, 1]),
    "half zero": few_values((211, 99), np.linspace(-3, 4, 8), [1, 1, 1, 90, 2, 8, 3, 1]),
}


@dataclass(frozen=True, eq=False)
class ModelFile:
    """``data`` as written, ``dense`` the model with plain weights; ``exact`` names the outputs that are weights."""

    name: str
    encodings: frozenset[str]
    data: bytes
    dense: bytes
    feeds: Feeds
    exact: tuple[str, ...] = ()


def encodings_of(weights: npt.NDArray[np.float32]) -> tuple[str, ...]:
    palette = palette_of(weights)
    assert palette is not None
    return tuple(dict.fromkeys(code.encoding for code in candidates(palette.indices, palette.codebook)))


NETWORK = "lenet-300-100"
SOURCES = (*STREAMS, NETWORK)


@functools.cache
def files_of(source: str) -> tuple[ModelFile, ...]:
    """The files of a stream, in every encoding that takes it and every opset, or of the demo's network."""
    return (network_file(),) if source == NETWORK else tuple(_table_files(source, STREAMS[source]))


def _table_files(stream: str, weights: npt.NDArray[np.float32]) -> Iterator[ModelFile]:
    for encoding in encodings_of(weights):
        for opset in OPSETS:
            yield table_file(f"{stream}, {encoding}, opset {opset}", weights, encoding, opset)
        yield table_file(f"two of {stream}, {encoding}", np.stack([weights, weights[::-1]]), encoding)


def table_file(name: str, tables: npt.NDArray[np.float32], encoding: str, opset: int = 18) -> ModelFile:
    """A file in which matrices, in the given encoding, are looked up row by row and multiplied with.

    ``tables`` (rows, columns), or (count, rows, columns): more than one share a function.
    """
    tables = tables if tables.ndim == 3 else tables[None]
    random = np.random.default_rng(4)
    rows = tables.shape[1]
    feeds: Feeds = {
        "rows": random.permutation(rows).astype(np.int64),
        "x": random.standard_normal((2, rows)).astype(np.float32),
    }
    dense = table_model(tables, opset)
    looked_up = tuple(f"looked_up_{i}" for i in range(len(tables)))
    data = packed({f"W{i}": table for i, table in enumerate(tables)}, dense, encoding)
    return ModelFile(name, frozenset({encoding}), data, dense.SerializeToString(), feeds, looked_up)


def packed(weights: dict[str, npt.NDArray[np.float32]], dense: onnx.ModelProto, encoding: str) -> bytes:
    """``dense`` with ``weights`` decoded from the smallest code of ``encoding``."""
    model = ir.from_proto(dense)
    rewrite.strip(model)
    ops = OnnxOps(model.opset_imports[""], rewrite.value_names(model))
    outputs = {}
    for name, values in weights.items():
        palette = palette_of(values)
        assert palette is not None
        codes = (code for code in candidates(palette.indices, palette.codebook) if code.encoding == encoding)
        best = min(codes, key=lambda code: code.payload_bytes + code.codebook.nbytes)
        (outputs[name],) = unpack(ops, best, (palette.shape,))
    rewrite.insert(model, ops.finish(outputs), list(weights))
    return rewrite.write(model)


def table_model(tables: npt.NDArray[np.float32], opset: int) -> onnx.ModelProto:
    count, rows, columns = tables.shape
    nodes, outputs = [], []
    for i in range(count):
        nodes.append(helper.make_node("Gather", [f"W{i}", "rows"], [f"looked_up_{i}"]))
        nodes.append(helper.make_node("MatMul", ["x", f"W{i}"], [f"y_{i}"]))
        outputs.append(helper.make_tensor_value_info(f"looked_up_{i}", TensorProto.FLOAT, ["n", columns]))
        outputs.append(helper.make_tensor_value_info(f"y_{i}", TensorProto.FLOAT, ["batch", columns]))
    graph = helper.make_graph(
        nodes,
        "tables",
        [
            helper.make_tensor_value_info("rows", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", rows]),
        ],
        outputs,
        [numpy_helper.from_array(table, f"W{i}") for i, table in enumerate(tables)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def network_file() -> ModelFile:
    """LeNet-300-100 as the demo leaves it, packed as a whole."""
    dense = lenet()
    model = ir.from_proto(dense)
    whole = packing.pack(model, packing.find_palettes(model))
    feeds: Feeds = {"input": np.random.default_rng(3).standard_normal((3, 784)).astype(np.float32)}
    encodings = frozenset(tensor.encoding for tensor in whole.tensors)
    return ModelFile("lenet-300-100", encodings, whole.data, dense.SerializeToString(), feeds)


@functools.cache
def large_files() -> tuple[ModelFile, ...]:
    """A million weights in every encoding: decoding them at inference would be seen in the milliseconds."""
    bell = few_values((1000, 1001), np.linspace(-1, 2, 16), BELL)
    sparse = few_values((1000, 1001), np.linspace(-3, 4, 8), [1, 1, 1, 190, 2, 8, 3, 1])
    chosen: dict[str, npt.NDArray[np.float32]] = {}
    for weights in (bell, sparse):
        for encoding in encodings_of(weights):
            chosen.setdefault(encoding, weights)
    return tuple(table_file(f"a million, {name}", weights, name) for name, weights in chosen.items())
