"""Weights of a compressed model as ONNX Runtime decodes them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from sws_compress.child_process.client import CallError
from sws_compress.errors import ArgumentError, OutputError, VerificationError
from sws_compress.messages import shown
from sws_compress.onnx_io.external_data import StoredModel, in_memory
from sws_compress.onnx_io.format.look_ups import all_rows, look_ups
from sws_compress.onnx_io.native import inferred
from sws_compress.onnx_io.traversal import ancestors, constant_nodes, reads
from sws_compress.ort.session import Array, Session, SessionError, reason_of, session


@dataclass(frozen=True)
class Decoding:
    """What decoding took.

    Parameters
    ----------
    seconds : float
        Time on this machine.
    computed_bytes : int
        Bytes of all that was computed. A runtime that decodes at load keeps all of it until it is done.
    """

    seconds: float
    computed_bytes: int

    def __add__(self, other: Decoding) -> Decoding:
        return Decoding(self.seconds + other.seconds, self.computed_bytes + other.computed_bytes)


_SHAPE_BYTES = 1024
"""Larger tensors hold no sizes, so shape inference does without their elements."""


_FLOAT_DTYPES = ("float16", "bfloat16", "float32", "float64")
"""NumPy types that decoded rows may have."""


_WIDER = {
    "tensor(bfloat16)": (onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT),
    "tensor(int4)": (onnx.TensorProto.INT4, onnx.TensorProto.INT8),
    "tensor(uint4)": (onnx.TensorProto.UINT4, onnx.TensorProto.UINT8),
}
"""Types that ONNX Runtime does not hand to NumPy, each with a wider one that it does."""


_WRITTEN = frozenset(
    f"tensor({name})"
    for name in (
        *("float16", "bfloat16", "float", "double", "bool", "int4", "uint4", "int8", "uint8", "int16", "uint16"),
        *("int32", "uint32", "int64", "uint64"),
    )
)
"""Types that weights of our files have, by the runtime's names. NumPy gets float8 as the bytes that encode it."""


NOTHING_DECODED = Decoding(0.0, 0)
"""What a model takes that decodes nothing at load."""


def decoded_weights(model: bytes, names: Iterable[str], *, trusted: bool = False) -> dict[str, Array]:
    """`decoded` weights of a model in the bytes of a file."""
    return decoded(in_memory(model), names, trusted=trusted)


def decoded(model: StoredModel, names: Iterable[str], *, trusted: bool = False) -> dict[str, Array]:
    """Weights of a model as ONNX Runtime decodes them, all at once; no more is loaded than they need.

    Parameters
    ----------
    model : StoredModel
        The model.
    names : iterable of str
        Initialisers, values that are computed from initialisers alone, or tables of packed rows.
    trusted : bool
        Whether this package wrote the model just now: it may take the memory of the machine.

    Returns
    -------
    dict of str to ndarray
        Values in the order of ``names``; all rows of a table, decoded. External initialisers are mapped.

    Raises
    ------
    ArgumentError
        If a name is none of these.
    ModelError, VerificationError
        If the file is damaged: look-ups are none of ours, or decode nodes do not run.
    """
    return _decoded(model, names, trusted=trusted)[0]


def measured_decoding(model: StoredModel, names: Iterable[str]) -> tuple[dict[str, Array], Decoding]:
    """`decoded`, and what decoding takes at load; packed rows are not decoded then, and do not count.

    Raises OutputError if the temporary folder cannot be written: the runtime measures in a file there.
    """
    with _temporary_folder() as folder:
        return _decoded(model, names, profile=folder / "decoding")


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        except OSError as error:
            raise _unwritable(str(error.strerror or error)) from error
        yield Path(folder)


def _unwritable(found: str) -> OutputError:
    return OutputError(
        f"temporary folder must be writable to measure the decoding, got '{found}': make room, or set TMPDIR to another"
    )


def _decoded(
    model: StoredModel, names: Iterable[str], *, trusted: bool = False, profile: Path | None = None
) -> tuple[dict[str, Array], Decoding]:
    proto = model.proto
    constants, tables = constant_nodes(proto), look_ups(proto)
    computed = {name for node in constants for name in node.output}
    dense = {tensor.name: tensor for tensor in proto.graph.initializer}
    wanted = list(names)
    for name in wanted:
        if name not in computed and name not in dense:
            raise ArgumentError(
                f"weight {shown(name)} must be constant in the model, got none of that name: check the name"
            )
    packed = {name: tables[name][0] for name in wanted if name in tables}
    asked = [name for name in wanted if name in computed and name not in packed]
    found = {name: model.values(dense[name]) for name in wanted if name in dense and name not in packed}
    for name, call in packed.items():
        part = _row_part(proto, name, call)
        model.take_in(part.graph.initializer)
        found[name] = _decoded_rows(part, name, trusted=trusted)
    decoding = NOTHING_DECODED
    if asked:
        part = _constant_part(proto, constants, asked)
        model.take_in(part.graph.initializer)
        computed_values, decoding = _computed(part, asked, trusted=trusted, profile=profile)
        found |= computed_values
    return {name: found[name] for name in wanted}, decoding


def decoded_shapes(model: StoredModel, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of weights as shape inference knows them, before anything is decoded.

    ``names`` are as in `measured_decoding`. Shapes that inference does not know are left out, and so are those of
    tables of packed rows.
    """
    proto = model.proto
    constants, tables = constant_nodes(proto), look_ups(proto)
    wanted = [name for name in names if name not in tables]
    dense = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    found = {name: dense[name] for name in wanted if name in dense}
    part = _constant_part(proto, constants, [name for name in wanted if name not in dense], largest_bytes=_SHAPE_BYTES)
    try:
        shaped = inferred(part)  # not from values: those of a large Range would take gigabytes
    except CallError:  # these shapes are not known
        return found
    for entry in shaped.graph.output:
        sizes = entry.type.tensor_type.shape.dim
        if entry.type.tensor_type.HasField("shape") and all(size.HasField("dim_value") for size in sizes):
            found[entry.name] = tuple(size.dim_value for size in sizes)
    return found


def _row_part(proto: onnx.ModelProto, table: str, call: onnx.NodeProto) -> onnx.ModelProto:
    """A model without inputs that looks up all rows of ``table`` as ``call`` does."""
    part = _constant_part(proto, (), call.input[1:])
    part.graph.node.extend(all_rows(call, f"{table}\0rows"))
    _set_outputs(part, [f"{table}\0rows"])
    return part


def _decoded_rows(part: onnx.ModelProto, table: str, *, trusted: bool) -> Array:
    """The output of `_row_part`, checked: a function of a damaged file may compute anything."""
    output = f"{table}\0rows"
    rows = _computed(part, [output], trusted=trusted)[0][output]
    stored = next(tuple(tensor.dims) for tensor in part.graph.initializer if tensor.name == table)
    if rows.dtype.name not in _FLOAT_DTYPES or rows.ndim < 2 or rows.shape[:1] != stored[:1]:
        raise VerificationError(
            f"packed rows of {shown(table)} must decode to as many rows of floating-point numbers, got "
            f"{rows.dtype} {rows.shape} of {stored}: the file is damaged"
        )
    return rows


def _computed(
    part: onnx.ModelProto, names: Sequence[str], *, trusted: bool, profile: Path | None = None
) -> tuple[dict[str, Array], Decoding]:
    """The outputs of a model without inputs, and what computing them took if it is profiled.

    Outputs of `_WIDER` types are widened in the graph, and narrowed here.
    """
    with session(part.SerializeToString(), optimize=False, trusted=trusted) as runtime:
        types = {entry.name: entry.type for entry in runtime.outputs}
    for name in names:
        if types[name] not in _WRITTEN:
            raise VerificationError(
                f"{shown(name)} must decode to a type of tensor that is ever compressed, got {types[name]}: "
                "the file is damaged"
            )
    wide = {name: f"{name}\0wide" for name in names if types[name] in _WIDER}
    for name, widened in wide.items():
        part.graph.node.append(helper.make_node("Cast", [name], [widened], to=_WIDER[types[name]][1]))
    for entry in part.graph.output:
        entry.name = wide.get(entry.name, entry.name)
    with session(part.SerializeToString(), optimize=False, profile=profile, trusted=trusted) as runtime:
        try:
            values = runtime.run({})
        except SessionError as error:
            raise VerificationError(f"decode nodes must run, got '{reason_of(error)}': the file is damaged") from error
        decoding = NOTHING_DECODED if profile is None else _decoding(runtime)
        outputs = dict(zip((entry.name for entry in runtime.outputs), values, strict=True))
    found = {name: outputs[wide.get(name, name)] for name in names}
    for name, array in found.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise VerificationError(
                f"{shown(name)} must decode to a tensor of numbers, got {kind}: the file is damaged"
            )
    for name in wide:
        found[name] = found[name].astype(helper.tensor_dtype_to_np_dtype(_WIDER[types[name]][0]))
    return found, decoding


def _decoding(runtime: Session) -> Decoding:
    """What a profiled session took."""
    try:
        profile = runtime.profile()
    except SessionError as error:  # no file of it, or half of one
        raise _unwritable(reason_of(error)) from error
    return Decoding(profile.seconds, profile.output_bytes)


def _constant_part(
    proto: onnx.ModelProto,
    constants: Sequence[onnx.NodeProto],
    names: Collection[str],
    *,
    largest_bytes: float = math.inf,
) -> onnx.ModelProto:
    """A model without inputs whose outputs are ``names``, computed by the ``constants`` that lead to them.

    Initialisers of more than ``largest_bytes`` lack their elements: they have a type and a shape alone.
    """
    nodes, needed = ancestors(constants, names)
    part = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    part.graph.name = "weights"
    part.graph.node.extend(nodes)
    for tensor in proto.graph.initializer:
        if tensor.name in needed and tensor.ByteSize() <= largest_bytes:
            part.graph.initializer.add().CopyFrom(tensor)
        elif tensor.name in needed:
            part.graph.initializer.add(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    part.graph.value_info.extend(value for value in proto.graph.value_info if value.name in needed - set(names))
    _set_outputs(part, names)
    return part


def _set_outputs(part: onnx.ModelProto, names: Collection[str]) -> None:
    """Replace the outputs of a model, in place; the runtime infers their types."""
    del part.graph.output[:]
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)


def unfolded_nodes(model: bytes) -> tuple[str, ...]:
    """Operators of decode nodes that ONNX Runtime runs at every inference; () if it folds them all at load."""
    weights = weights_computed(onnx.load_from_string(model))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        session(model, optimized_path=path).close()
        folded = onnx.load(path)
    left, _ = ancestors(constant_nodes(folded), weights)
    return tuple(node.op_type for node in left)


def weights_computed(proto: onnx.ModelProto) -> set[str]:
    """The values that constant nodes make and other nodes read."""
    constants = constant_nodes(proto)
    made = {name for node in constants for name in node.output}
    return made & {name for node in proto.graph.node if not made.issuperset(node.output) for name in reads(node)}
