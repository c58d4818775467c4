"""Small models of many kinds to be damaged, plain and compressed, as the files that hold them."""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_io import nested_models as nested
from tests.onnx_io.models import few_values, lenet

NEWEST_OPSET = onnx.defs.onnx_opset_version()
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
ELEMENT_TYPES = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float64": TensorProto.DOUBLE,
    "float8": TensorProto.FLOAT8E4M3FN,
    "float8e5": TensorProto.FLOAT8E5M2,
}


@dataclass(frozen=True)
class Files:
    """A model, and the files beside it by name."""

    model: bytes
    beside: dict[str, bytes] = field(default_factory=dict)


def _gaussian(seed: int, *shape: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) / 4).astype(np.float32)


def _model(nodes, tensors, inputs, outputs, *, opset=17, ir_version=8, functions=(), domains=()) -> onnx.ModelProto:
    arrays = [t if isinstance(t, TensorProto) else numpy_helper.from_array(t[1], t[0]) for t in tensors]
    entries = [[helper.make_tensor_value_info(*entry) for entry in part] for part in (inputs, outputs)]
    if ir_version < 4:
        entries[0] += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in arrays]
    graph = helper.make_graph(nodes, "g", *entries, arrays)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, functions=functions)


def perceptron(*, opset=17, ir_version=8, sizes=(20, 24, 9), few=False) -> onnx.ModelProto:
    nodes, tensors, value = [], [], "x"
    for layer in range(len(sizes) - 1):
        shape = (sizes[layer], sizes[layer + 1])
        weights = few_values(shape, [0, 0.5, -1, 2], [6, 2, 1, 1], layer) if few else _gaussian(layer, *shape)
        tensors += [(f"W{layer}", weights), (f"b{layer}", _gaussian(layer + 9, shape[1]))]
        result = "y" if layer == len(sizes) - 2 else f"h{layer}"
        nodes += [helper.make_node("MatMul", [value, f"W{layer}"], [f"m{layer}"])]
        nodes += [helper.make_node("Add", [f"m{layer}", f"b{layer}"], [f"a{layer}"])]
        nodes += [helper.make_node("Relu", [f"a{layer}"], [result])]
        value = result
    return _model(
        nodes, tensors, [("x", FLOAT, ["n", sizes[0]])], [("y", FLOAT, ["n", sizes[-1]])], opset=opset,
        ir_version=ir_version,
    )  # fmt: skip


def typed(name: str) -> onnx.ModelProto:
    """A product by a weight of another type, which is cast where ONNX Runtime has no product of it."""
    element = ELEMENT_TYPES[name]
    weights = onnx.helper.make_tensor("W", element, [24, 12], _gaussian(3, 24 * 12).tolist())
    direct = name in ("float16", "float64")
    opset = 19 if name.startswith("float8") else 17
    kind = element if direct else FLOAT
    nodes = [] if direct else [helper.make_node("Cast", ["W"], ["F"], to=FLOAT)]
    nodes += [helper.make_node("MatMul", ["x", "W" if direct else "F"], ["y"])]
    return _model(nodes, [weights], [("x", kind, ["n", 24])], [("y", kind, ["n", 12])], opset=opset, ir_version=9)


def convolutional() -> onnx.ModelProto:
    tensors = [("K", _gaussian(1, 16, 3, 3, 3)), ("c", _gaussian(2, 16))]
    tensors += [("G", _gaussian(4, 16, 20)), ("s", np.ones(16, np.float32)), ("v", np.ones(16, np.float32))]
    tensors += [("shape", np.array([0, -1], np.int64)), ("B", _gaussian(5, 16))]
    nodes = [
        helper.make_node("Conv", ["x", "K", "c"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "s", "B", "c", "v"], ["b"]),
        helper.make_node("Relu", ["b"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["q"]),
        helper.make_node("Reshape", ["q", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "G"], ["y"]),
    ]
    return _model(nodes, tensors, [("x", FLOAT, ["n", 3, 8, 8])], [("y", FLOAT, ["n", 20])])


def recurrent(kind: str, gates: int) -> onnx.ModelProto:
    tensors = [("W", _gaussian(1, 1, gates * 8, 6)), ("R", _gaussian(2, 1, gates * 8, 8))]
    tensors += [("b", _gaussian(3, 1, 2 * gates * 8))]
    nodes = [helper.make_node(kind, ["x", "W", "R", "b"], ["y", "h"], hidden_size=8)]
    outputs = [("y", FLOAT, [3, 1, "n", 8]), ("h", FLOAT, [1, "n", 8])]
    return _model(nodes, tensors, [("x", FLOAT, [3, "n", 6])], outputs)


def embedded() -> onnx.ModelProto:
    tensors = [("table", _gaussian(1, 300, 12)), ("V", _gaussian(2, 12, 30))]
    nodes = [helper.make_node("Gather", ["table", "i"], ["e"]), helper.make_node("MatMul", ["e", "V"], ["y"])]
    return _model(nodes, tensors, [("i", INT64, ["n", 4])], [("y", FLOAT, ["n", 4, 30])])


def quantised() -> onnx.ModelProto:
    """A weight behind DequantizeLinear, and one behind a quantise-dequantise pair."""
    stored = np.random.default_rng(1).integers(-127, 128, (20, 24)).astype(np.int8)
    scale, zero = np.float32(0.01), np.int8(0)
    tensors = [("Q", stored), ("s", scale), ("z", zero), ("V", _gaussian(2, 24, 12))]
    nodes = [
        helper.make_node("DequantizeLinear", ["Q", "s", "z"], ["W"]),
        helper.make_node("MatMul", ["x", "W"], ["h"]),
        helper.make_node("QuantizeLinear", ["V", "s", "z"], ["U"]),
        helper.make_node("DequantizeLinear", ["U", "s", "z"], ["T"]),
        helper.make_node("MatMul", ["h", "T"], ["y"]),
    ]
    tensors = [(name, np.asarray(array)) for name, array in tensors]
    return _model(nodes, tensors, [("x", FLOAT, ["n", 20])], [("y", FLOAT, ["n", 12])])


def computed() -> onnx.ModelProto:
    """Weights that reach products through operators of constants."""
    tensors = [("V", _gaussian(1, 24, 20)), ("g", np.abs(_gaussian(2, 24, 1))), ("A", _gaussian(3, 24, 4))]
    tensors += [("B", _gaussian(4, 4, 16))]
    nodes = [
        helper.make_node("Tanh", ["V"], ["t"]),
        helper.make_node("Mul", ["t", "g"], ["u"]),
        helper.make_node("Transpose", ["u"], ["W"]),
        helper.make_node("MatMul", ["x", "W"], ["h"]),
        helper.make_node("MatMul", ["A", "B"], ["C"]),
        helper.make_node("MatMul", ["h", "C"], ["y"]),
    ]
    return _model(nodes, tensors, [("x", FLOAT, ["n", 20])], [("y", FLOAT, ["n", 16])])


def attention() -> onnx.ModelProto:
    tensors = [(name, _gaussian(i, 16, 16)) for i, name in enumerate("QKVO")]
    tensors += [("g", np.ones(16, np.float32)), ("d", np.float32(4).reshape(1))]
    nodes = [helper.make_node("LayerNormalization", ["x", "g"], ["n0"])]
    nodes += [helper.make_node("MatMul", ["n0", name], [name.lower()]) for name in "QKV"]
    nodes += [
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s0"]),
        helper.make_node("Div", ["s0", "d"], ["s1"]),
        helper.make_node("Softmax", ["s1"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["o"]),
        helper.make_node("MatMul", ["o", "O"], ["y"]),
    ]
    return _model(nodes, tensors, [("x", FLOAT, ["n", 5, 16])], [("y", FLOAT, ["n", 5, 16])])


def sparse() -> onnx.ModelProto:
    model = perceptron()
    positions = np.arange(0, 20 * 24, 5)
    values = numpy_helper.from_array(_gaussian(1, len(positions)), "W0")
    indices = numpy_helper.from_array(positions, "W0_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [20, 24]))
    del model.graph.initializer[0]
    return model


def texts() -> onnx.ModelProto:
    """A model with strings, a sequence and an optional in it."""
    nodes = [
        helper.make_node("Constant", [], ["words"], value_strings=["a", "b"]),
        helper.make_node("Shape", ["words"], ["count"]),
        helper.make_node("SequenceConstruct", ["W0", "W0"], ["list"]),
        helper.make_node("ConcatFromSequence", ["list"], ["W"], axis=1),
        helper.make_node("MatMul", ["x", "W"], ["y"]),
    ]
    outputs = [("y", FLOAT, ["n", 48]), ("count", INT64, [1])]
    return _model(nodes, [("W0", _gaussian(1, 20, 24))], [("x", FLOAT, ["n", 20])], outputs)


def beside(model: onnx.ModelProto) -> Files:
    """The model with every tensor of more than 64 bytes in ``w.bin``."""
    data = b""
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > 64:
            for key, value in (("location", "w.bin"), ("offset", len(data)), ("length", len(tensor.raw_data))):
                tensor.external_data.add(key=key, value=str(value))
            data += tensor.raw_data
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
    return Files(model.SerializeToString(), {"w.bin": data})


PLAIN: dict[str, Callable[[], onnx.ModelProto | Files]] = {
    "perceptron": perceptron,
    "few values": lambda: perceptron(few=True),
    "lenet": lambda: lenet(sizes=(40, 20, 10)),
    "convolutional": convolutional,
    "attention": attention,
    "lstm": lambda: recurrent("LSTM", 4),
    "gru": lambda: recurrent("GRU", 3),
    "rnn": lambda: recurrent("RNN", 1),
    "embedded": embedded,
    "quantised": quantised,
    "computed": computed,
    "sparse": sparse,
    "texts": texts,
    "external": lambda: beside(perceptron()),
    **{f"opset {opset}": functools.partial(perceptron, opset=opset) for opset in (7, 9, 11, 12, 13, 21, NEWEST_OPSET)},
    "ir version 3": lambda: perceptron(opset=8, ir_version=3),
    f"ir version {onnx.IR_VERSION}": lambda: perceptron(ir_version=onnx.IR_VERSION),
    **{name: functools.partial(typed, name) for name in ELEMENT_TYPES},
    **{make.__name__: make for make in nested.MODELS},
}
"""Makers of plain models by kind."""

_FEW = ("--components", "16")
"""The smallest models are only smaller with few components."""

OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "packed": ("perceptron", _FEW),
    "packed quality": ("large", ()),
    "packed few": ("few values", (*_FEW, "--load-budget", "none")),
    "packed small": ("lenet", ("--components", "2", "--drop-names", "--load-budget", "none")),
    "packed channels": ("attention", ("--granularity", "channel", "--components", "4")),
    "packed best": ("convolutional", ("--granularity", "auto", "--components", "8")),
    "packed vectors": ("perceptron", ("--granularity", "vectors:2", "--components", "16")),
    "packed fast": ("perceptron", (*_FEW, "--load-budget", "0s")),
    "packed rows": ("wide table", (*_FEW, "--packed-embeddings")),
    "packed integers": ("large", (*_FEW, "--memory", "packed")),
    "packed lstm": ("lstm", ("--components", "4")),
    "packed bodies": ("in_branches", _FEW),
    "packed functions": ("in_functions", _FEW),
    "packed float16": ("float16", _FEW),
    "packed float64": ("float64", _FEW),
    "eight bits": ("large", ("--low-bit", "8")),
    "four bits": ("large", ("--low-bit", "4")),
}
"""Compressed models by kind: the plain model, and the options of its compression."""


def large() -> onnx.ModelProto:
    return perceptron(sizes=(64, 64, 32))


def wide_table() -> onnx.ModelProto:
    model = embedded()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(_gaussian(1, 5500, 12), "table"))
    return model


KINDS = (*PLAIN, *OPTIONS)


@functools.cache
def base(kind: str) -> Files:
    """The files of one kind of model."""
    if kind in OPTIONS:
        return _compressed(kind)
    made = {"large": large, "wide table": wide_table, **PLAIN}[kind]()
    return made if isinstance(made, Files) else Files(made.SerializeToString())


def _compressed(kind: str) -> Files:
    from sws_compress.cli.main import main

    plain, options = OPTIONS[kind]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "net.onnx", Path(folder) / "small.onnx"
        source.write_bytes(base(plain).model)
        with contextlib.redirect_stdout(io.StringIO()):
            code = main(["compress", "--json", str(source), "-o", str(target), *options])
        if code:
            raise AssertionError(f"{kind} must compress, got {code}")
        return Files(target.read_bytes())
