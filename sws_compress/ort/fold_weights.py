"""Weights that a model computes from constants, computed once.

Scales, masks, weight norms and the quantise-dequantise pairs of quantisation-aware training stand between an
initialiser and the product that reads it. ONNX Runtime computes such a constant part at load. Here it does so before
compression, and the result takes the place of the initialiser.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TypeGuard

import numpy as np
import onnx
import onnx_ir as ir

from sws_compress.child_process.client import CallError
from sws_compress.entropy import entropy_bits
from sws_compress.errors import VerificationError
from sws_compress.onnx_io.analyse.computed_tables import table_kind
from sws_compress.onnx_io.analyse.constant_parts import Part, constant_parts
from sws_compress.onnx_io.analyse.weights import MOVES, is_read_as_weight, mark_as_weight
from sws_compress.onnx_io.element_types import FLOAT_TYPES
from sws_compress.onnx_io.external_data import forget
from sws_compress.onnx_io.format.mark import mark_of
from sws_compress.onnx_io.native import inferred
from sws_compress.onnx_io.read.lift import write_out_functions
from sws_compress.ort.session import Array, SessionError, out_of_bounds, session
from sws_compress.thresholds import SMALLEST_WEIGHT

MOST_EXACT_VALUES = 256
"""Different values of a tensor that packs without loss, at most."""

LARGEST_GROWTH = 4
"""Elements of an intermediate result, relative to those of all constants it is computed from: more is not computed."""


Keep = Callable[[Array, str], ir.TensorProtocol]
"""Makes a tensor of an array and a name."""


def _in_memory(values: Array, name: str) -> ir.TensorProtocol:
    return ir.tensor(values, name=name)


def fold_weights(model: ir.Model, keep: Keep = _in_memory) -> tuple[str, ...]:
    """Compute the weights that constants are arithmetic of, in place; the model computes the same.

    A constant part whose result is a weight, and whose largest initialiser is floating-point, goes one of three ways:

    - It is replaced by its result, if that takes no more bytes than the initialisers that go with it.
    - It stays, and its largest initialiser is marked as a weight (`mark_as_weight`), if the result is larger, or if
      other parts need the initialiser, too.
    - It stays if the initialiser has few values and the result many: then it packs without loss.

    Arithmetic on a tensor leaves the number of its values. At equal error both then take about the same bits a value,
    so the number of values decides, or their entropy if there are few different ones.

    Parts that only move values stay, and so do those whose initialisers are found as weights anyway, such as the two
    factors of a matrix of low rank. Functions are written out where they are called, if a weight is behind constants
    in one of them.

    One part is computed after the other, in some copies of its constants and results. External constants are unmapped
    before the next one.

    Parameters
    ----------
    model : ir.Model
        Its constants are initialisers of the main graph, in memory or external.
    keep : callable
        Makes the tensor of a new initialiser. By default it stays in memory.

    Returns
    -------
    tuple of str
        Names of the new initialisers. Each has the name of the largest that it replaces, if it has its shape.
    """
    if mark_of(model.metadata_props) is not None:
        return ()
    _write_out_functions(model)
    names = {value.name for graph in (model.graph, *model.graph.subgraphs()) for value in _values(graph)}
    folded = []
    for part in constant_parts(model):
        if not _hides_a_weight(part, model):
            continue
        try:
            name = _fold(part, model, names, keep)
        except (VerificationError, SessionError, CallError):  # it took too much, and so may the next
            break
        if name is not None:
            folded.append(name)
    return tuple(folded)


def _fold(part: Part, model: ir.Model, names: set[str | None], keep: Keep) -> str | None:
    """Compute a part, and replace it or mark its largest initialiser; the name of what replaces it, if anything."""
    try:
        values = _computed(part, model)
        if values is None or not _is_weight(values):
            return None
        if _is_better(values, part):
            return _replace(part, values, model.graph, names, keep)
        if _largest(part).size >= SMALLEST_WEIGHT and len(_largest(part).shape) > 1:
            mark_as_weight(max(part.constants, key=_bytes))
        return None
    finally:
        for constant in part.constants:
            forget(constant)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))


def _write_out_functions(model: ir.Model) -> None:
    """Inline all functions, in place, if that brings a weight behind constants to light."""
    if not model.functions:
        return
    before = sum(_hides_a_weight(part, model) for part in constant_parts(model))
    copy = model.clone()
    try:
        write_out_functions(copy)
    except Exception:  # a function that cannot be inlined stays a function
        return
    if sum(_hides_a_weight(part, copy) for part in constant_parts(copy)) > before:
        write_out_functions(model)


def _hides_a_weight(part: Part, model: ir.Model) -> bool:
    """Whether a part has arithmetic, and its largest initialiser is a float that is not found as a weight itself."""
    if all(node.op_type in MOVES or node.op_type == "Constant" for node in part.nodes) or not part.constants:
        return False
    largest = max(part.constants, key=_bytes)
    assert largest.const_value is not None
    found = largest.const_value.dtype in FLOAT_TYPES and largest.const_value.size >= SMALLEST_WEIGHT
    return found and not is_read_as_weight(largest, model)


def _is_weight(values: Array) -> bool:
    large = values.size >= SMALLEST_WEIGHT
    return large and bool(np.isfinite(values).all()) and table_kind(values) is None


def _is_better(values: Array, part: Part) -> bool:
    """Whether the result of a part makes a smaller file than its largest initialiser, at equal error."""
    if values.nbytes > sum(map(_bytes, part.own_constants)):
        return False
    under = _largest(part).numpy()
    bits, bits_under = _exact_bits(values), _exact_bits(under)
    if bits is not None and bits_under is not None:
        return bits <= bits_under
    if bits is None and bits_under is None:
        return values.size <= under.size
    return bits is not None


def _exact_bits(values: Array) -> float | None:
    """Bits that a tensor takes as it is, by its order-0 entropy; None if it has more values than a codebook."""
    patterns = values.reshape(-1).view(f"u{values.dtype.itemsize}")
    for some in (patterns[:: max(1, patterns.size >> 12)], patterns):  # most tensors are told by a sample
        counts = np.unique(some, return_counts=True)[1]
        if counts.size > MOST_EXACT_VALUES:
            return None
    return entropy_bits(counts)


def _largest(part: Part) -> ir.TensorProtocol:
    """The largest tensor that a part reads."""
    tensor = max(part.constants, key=_bytes).const_value
    assert tensor is not None
    return tensor


def _bytes(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes


def _computed(part: Part, model: ir.Model) -> Array | None:
    """The result of a part; None if ONNX Runtime does not compute it, or if a result is of unknown or large size."""
    fed = {str(value.name): value.const_value.numpy() for value in part.constants if _is_fed(value.const_value)}
    proto = _as_model(part, model, fed)
    largest = LARGEST_GROWTH * sum(value.const_value.size for value in part.constants if value.const_value is not None)
    try:
        proto = inferred(proto, data_prop=True)
        entries = (*proto.graph.value_info, *proto.graph.output)
        shapes = {entry.name: entry.type.tensor_type.shape.dim for entry in entries}
        for name in (value.name for node in part.nodes for value in node.outputs if value.name):
            dims = shapes.get(str(name))
            if dims is None or not all(dim.HasField("dim_value") for dim in dims):
                return None
            if math.prod(dim.dim_value for dim in dims) > largest:
                return None
        with session(proto.SerializeToString(), optimize=not fed) as runtime:
            values = runtime.run(fed, given=bool(fed))[0]
    except Exception as error:  # a part that fails is left for the runtime that loads the model
        if out_of_bounds(error):
            raise
        return None
    return values if ir.DataType.from_numpy(values.dtype) in FLOAT_TYPES else None


def _is_fed(tensor: ir.TensorProtocol | None) -> TypeGuard[ir.ExternalTensor]:
    """Whether a constant is an input of the part's model: those of a few gigabytes fit in no model."""
    return isinstance(tensor, ir.ExternalTensor) and tensor.dtype in FLOAT_TYPES and tensor.size >= SMALLEST_WEIGHT


def _as_model(part: Part, model: ir.Model, fed: Mapping[str, Array]) -> onnx.ModelProto:
    """A model of the part alone; those of its constants that are ``fed`` are its inputs."""
    tensors = []
    for value in part.constants:
        assert value.const_value is not None
        if value.name in fed:
            continue
        tensor = ir.to_proto(_loaded(value.const_value))
        tensor.name = str(value.name)
        tensors.append(tensor)
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in fed.items()
    ]
    output = onnx.ValueInfoProto(name=str(part.result.name))  # inference finds its type
    graph = onnx.helper.make_graph([ir.to_proto(node) for node in part.nodes], "part", inputs, [output], tensors)
    opset = onnx.helper.make_opsetid("", model.opset_imports[""])
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=model.ir_version)


def _loaded(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """A tensor in memory."""
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype) if isinstance(tensor, ir.ExternalTensor) else tensor


def _replace(part: Part, values: Array, graph: ir.Graph, names: set[str | None], keep: Keep) -> str:
    """Put the result of a part in its place; returns the name of the new initialiser, which is added to ``names``."""
    largest = max(part.own_constants, key=_bytes)
    same = largest.const_value is not None and tuple(largest.const_value.shape.numpy()) == values.shape
    name = str(largest.name if same else part.result.name)
    if part.result.producer() not in graph and not (same and name in graph.initializers):
        name = next(free for free in itertools.chain([name], _numbered(name)) if free not in names)  # of a body
    names.add(name)
    tensor = keep(values, name)
    value = ir.Value(name=name, shape=ir.Shape(values.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    part.result.replace_all_uses_with(value)
    for node in reversed(part.own_nodes):
        assert node.graph is not None  # it is in the model
        node.graph.remove(node, safe=True)
    for constant in part.own_constants:
        home = constant.graph
        assert isinstance(home, ir.Graph)
        home.initializers.pop(str(constant.name))
    graph.register_initializer(value)
    return name


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}_{number}" for number in itertools.count(1))
