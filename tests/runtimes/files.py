"""Compressed files of every encoding, each with its plain twin and inputs: what every runtime is given.

A new runtime to verify in is one more test file here, which runs all of these files.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from sws_compress.codec.program import Code
from sws_compress.codec.transforms.unpack import tensor_candidates, unpack
from sws_compress.onnx_io.analyse.embeddings import find_embeddings
from sws_compress.onnx_io.write.insert import insert
from sws_compress.onnx_io.write.onnx_ops import OnnxOps
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.onnx_io.write.strip import strip, value_names
from sws_compress.packing import pack as packing
from sws_compress.quantize.palette import Palette, index_type, palette_of
from sws_compress.quantize.sinusoids import sinusoid_palette
from tests.onnx_io.models import few_values, fourier_basis, lenet

Values = npt.NDArray[np.generic]
Feeds = dict[str, Values]

OPSETS = (13, 18, 20, 21)
"""Opsets of the files; 21 is the newest that the oldest supported ONNX Runtime takes."""

BELL = np.exp(-(np.linspace(-3, 3, 16) ** 2))
BELL_OF_600 = np.exp(-(np.linspace(-3, 3, 600) ** 2))
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
    "dead rows and columns": np.pad(few_values((60, 50), [-1.3, 0, 1], [1, 3, 1]), ((40, 9), (3, 70))),
    "long": few_values((257, 256), np.linspace(-1, 2, 16), BELL),
    "long, of 256": few_values((259, 257), np.linspace(-1, 2, 256), np.exp(-(np.linspace(-3.5, 3.5, 256) ** 2) / 2)),
    "long, skewed": few_values((259, 257), np.arange(4) + 0.5, [70, 20, 7, 3]),
    "long, of 10": few_values((259, 257), np.arange(10) + 0.5, np.ones(10)),
    "float16": few_values((211, 99), [-3.1, 0, 1, 2.5], [1, 50, 3, 1]).astype(np.float16),
    "bfloat16": few_values((211, 99), np.linspace(-1, 2, 16), BELL).astype(ml_dtypes.bfloat16),
    "float64": few_values((211, 99), np.linspace(-1, 2, 16), BELL).astype(np.float64) / 3,
    "int8": few_values((211, 99), np.arange(-8, 8), BELL).astype(np.int8),
    "uint8": few_values((211, 199), np.arange(256), np.linspace(1, 9, 256)).astype(np.uint8),
    "large integers": (few_values((211, 99), np.arange(-8, 8), BELL) * 2.0**40).astype(np.int64),
    "bool": few_values((211, 99), [0, 1], [9, 1]).astype(bool),
    "sinusoids": sinusoid_palette(fourier_basis(64)).expand(),
    "columns of sinusoids": sinusoid_palette(fourier_basis(64).T).expand(),
    "of 600, even": few_values((211, 199), np.float32(0.0123) * (np.arange(600) - 300), BELL_OF_600),
    "long, of 600": few_values((259, 257), np.cumsum(np.linspace(0.1, 0.2, 600)), BELL_OF_600),
    "float64 of 600": few_values((211, 99), np.arange(600), BELL_OF_600).astype(np.float64) / 3,
    "float64 exact in float32": few_values((211, 99), np.linspace(-1, 2, 16), BELL).astype(np.float64),
}


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A compressed file (``data``), its plain twin (``dense``), and inputs for both.

    ``exact`` names the outputs that are weights. Tables of packed rows have more than 1,000 values each; no runtime may
    make one of them dense.
    """

    name: str
    encodings: frozenset[str]
    data: bytes
    dense: bytes
    feeds: Feeds
    exact: tuple[str, ...] = ()


def codes_of(weights: Values) -> dict[str, Code]:
    """The smallest code of every encoding that takes these weights, with and without masks."""
    palette = palette_of_any(weights)
    found: dict[str, Code] = {}
    for code in tensor_candidates([palette.indices.reshape(weights.shape)], palette.codebook):
        name = code.encoding + (", masked" if code.masks else "") + (", coarse" if _coarse(code) else "")
        name += ", computed" if "EvenCodebook" in repr(code.program) else ""
        name += ", multiples" if "Multiples" in repr(code.program) else ""
        if name not in found or _stored_bytes(code) < _stored_bytes(found[name]):
            found[name] = code
    return found


def palette_of_any(values: Values) -> Palette:
    """The palette of a tensor, whatever the number of its values; that of its sinusoids needs no window."""
    if values.dtype == np.float32 and (palette := sinusoid_palette(values)) is not None:
        return palette
    if (palette := palette_of(values)) is not None:
        return palette
    codebook, indices = np.unique(values, return_inverse=True)
    return Palette(codebook, indices.reshape(-1).astype(index_type(len(codebook))), values.shape)


def _coarse(code: Code) -> bool:
    """Whether a code of strides has few depths."""
    program = getattr(code.program, "program", code.program)
    levels = getattr(getattr(program, "words", program), "levels", ())
    return code.encoding == "strides" and len(levels) <= 5


def _stored_bytes(code: Code) -> int:
    return code.payload_bytes + code.codebook.nbytes


NETWORK = "lenet-300-100"
EMBEDDINGS = "embeddings"
SOURCES = (*STREAMS, EMBEDDINGS, NETWORK)


@functools.cache
def files_of(source: str) -> tuple[ModelFile, ...]:
    """The files of a stream in every encoding that takes it, in opsets by turns; or of embeddings, or a network."""
    if source == EMBEDDINGS:
        return tuple(_embedding_files())
    return (network_file(),) if source == NETWORK else tuple(_table_files(source, STREAMS[source]))


def _table_files(stream: str, weights: Values) -> Iterator[ModelFile]:
    for index, encoding in enumerate(codes_of(weights), start=list(STREAMS).index(stream)):
        opset = OPSETS[index % len(OPSETS)]
        yield table_file(f"{stream}, {encoding}, opset {opset}", weights, encoding, opset)
        yield table_file(f"two of {stream}, {encoding}", np.stack([weights, weights[::-1]]), encoding)


def table_file(name: str, tables: Values, encoding: str, opset: int = 18) -> ModelFile:
    """A file whose matrices, in the given encoding, are looked up row by row and multiplied.

    ``tables`` has shape (rows, columns), or (count, rows, columns) for several, which share a function.
    """
    tables = tables if tables.ndim == 3 else tables[None]
    random = np.random.default_rng(4)
    rows = tables.shape[1]
    feeds: Feeds = {
        "rows": random.permutation(rows).astype(np.int64),
        "x": random.standard_normal((2, rows)).astype(_widened(tables)),
    }
    dense = table_model(tables, opset)
    looked_up = tuple(f"looked_up_{i}" for i in range(len(tables)))
    data = packed({f"W{i}": table for i, table in enumerate(tables)}, dense, encoding)
    return ModelFile(name, frozenset({encoding}), data, dense.SerializeToString(), feeds, looked_up)


def packed(weights: dict[str, Values], dense: onnx.ModelProto, encoding: str) -> bytes:
    """``dense`` with ``weights`` decoded from their codes of ``encoding``."""
    model = ir.from_proto(dense)
    strip(model)
    ops = OnnxOps(model.opset_imports[""], value_names(model))
    outputs = {}
    for name, values in weights.items():
        (outputs[name],) = unpack(ops, codes_of(values)[encoding], (values.shape,))
    insert(model, ops.finish(outputs), list(weights))
    return to_bytes(model)


def _widened(tables: Values) -> np.dtype[np.generic]:
    """The type in which a table is read: every runtime takes it and nothing is lost."""
    return tables.dtype if tables.dtype in (np.float32, np.float64) else np.dtype(np.float32)


def table_model(tables: Values, opset: int) -> onnx.ModelProto:
    count, rows, columns = tables.shape
    kind = helper.np_dtype_to_tensor_dtype(_widened(tables))
    nodes, outputs = [], []
    for i in range(count):
        nodes.append(helper.make_node("Gather", [f"W{i}", "rows"], [f"found_{i}"]))
        nodes.append(helper.make_node("Cast", [f"found_{i}"], [f"looked_up_{i}"], to=kind))
        nodes.append(helper.make_node("Cast", [f"W{i}"], [f"wide_{i}"], to=kind))
        nodes.append(helper.make_node("MatMul", ["x", f"wide_{i}"], [f"y_{i}"]))
        outputs.append(helper.make_tensor_value_info(f"looked_up_{i}", kind, ["n", columns]))
        outputs.append(helper.make_tensor_value_info(f"y_{i}", kind, ["batch", columns]))
    graph = helper.make_graph(
        nodes,
        "tables",
        [
            helper.make_tensor_value_info("rows", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("x", kind, ["batch", rows]),
        ],
        outputs,
        [numpy_helper.from_array(table, f"W{i}") for i, table in enumerate(tables)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _embedding_files() -> Iterator[ModelFile]:
    """Files with packed rows: words of one and several parts, with and without padding, all types, two tables."""
    for index, (values, shape, dtype) in enumerate(
        [
            (3, (41, 37), np.float32),
            (7, (60, 5, 7), np.float32),
            (16, (211, 64), np.float32),
            (32, (99, 40), np.float32),
            (100, (99, 37), np.float32),
            (200, (70, 40), np.float16),
            (600, (99, 37), np.float32),
            (16, (99, 33), ml_dtypes.bfloat16),
            (16, (99, 33), np.float64),
        ]
    ):
        table = (few_values(shape, np.linspace(-1, 2, values), np.ones(values)).astype(np.float64) / 3).astype(dtype)
        opset = OPSETS[index % len(OPSETS)]
        yield embedding_file(f"rows of {values} values, {np.dtype(dtype)}, opset {opset}", table[None], opset)
    yield embedding_file("two tables", np.stack([table, table[::-1]]), 18)


def embedding_file(name: str, tables: Values, opset: int) -> ModelFile:
    """A file in which each of ``tables`` (count, rows, ...) is read by a matrix of positions and by a single one."""
    dense = embedding_model(tables, opset)
    model = ir.from_proto(dense)
    codes = {}
    for embedding in find_embeddings(model, smallest=1):
        code = packing.row_code(embedding, palette_of_any(tables[int(embedding.name[1:])]))
        assert code is not None
        codes[embedding.name] = code
    data = to_bytes(packing.packed_model(model, {}, codes)[0])
    rows = tables.shape[1]
    several = np.random.default_rng(4).integers(-rows, rows, (3, 5))
    feeds: Feeds = {"several": several.astype(np.int64), "single": np.array(-2, np.int32)}
    outputs = tuple(value.name for value in dense.graph.output)
    return ModelFile(name, frozenset({"rows"}), data, dense.SerializeToString(), feeds, outputs)


def embedding_model(tables: Values, opset: int) -> onnx.ModelProto:
    kind = helper.np_dtype_to_tensor_dtype(_widened(tables))
    nodes, outputs = [], []
    for i in range(len(tables)):
        for positions in ("several", "single"):
            found, wide = f"found_{positions}_{i}", f"wide_{positions}_{i}"
            nodes.append(helper.make_node("Gather", [f"W{i}", positions], [found], axis=0))
            nodes.append(helper.make_node("Cast", [found], [wide], to=kind))
            lead = ["a", "b"] if positions == "several" else []
            outputs.append(helper.make_tensor_value_info(wide, kind, [*lead, *tables.shape[2:]]))
    graph = helper.make_graph(
        nodes,
        "embeddings",
        [
            helper.make_tensor_value_info("several", TensorProto.INT64, ["a", "b"]),
            helper.make_tensor_value_info("single", TensorProto.INT32, []),
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
    """A million weights in every encoding: decoding them at inference would show in the milliseconds."""
    bell = few_values((1000, 1001), np.linspace(-1, 2, 16), BELL)
    sparse = few_values((1000, 1001), np.linspace(-3, 4, 8), [1, 1, 1, 190, 2, 8, 3, 1])
    chosen: dict[str, Values] = {}
    for weights in (bell, sparse):
        for encoding in codes_of(weights):
            chosen.setdefault(encoding, weights)
    return tuple(table_file(f"a million, {name}", weights, name) for name, weights in chosen.items())
