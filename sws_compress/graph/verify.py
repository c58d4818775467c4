"""Does a written model do what it should? The ONNX checker and ONNX Runtime are asked, not our own decoders."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from sws_compress.errors import ArgumentError, VerificationError
from sws_compress.graph.lookups import all_rows, look_ups
from sws_compress.graph.messages import first_line, shown

if TYPE_CHECKING:
    import onnxruntime

Array = npt.NDArray[Any]
Model = bytes | str | os.PathLike[str]


@dataclass(frozen=True)
class OutputDifference:
    """Largest difference of one output, and the same relative to the largest magnitude of the reference."""

    name: str
    largest_absolute: float
    largest_relative: float


def check_runs(model: Model) -> None:
    """The model passes the full ONNX check and ONNX Runtime loads it on the CPU; else VerificationError."""
    _check(model)
    session(model)


def check_loads(path: Path) -> None:
    """`check_runs` of a file, without computing or optimising anything at load: takes little memory for its size."""
    _check(path)
    session(path, optimize=False)


def _check(model: Model) -> None:
    try:
        onnx.checker.check_model(model if isinstance(model, bytes) else os.fspath(model), full_check=True)
    except Exception as error:  # the checker raises its own errors, type inference those of C++
        raise VerificationError(
            f"written model must pass the ONNX checker, got '{first_line(error)}': report this"
        ) from error


def session(
    model: Model, *, optimized_path: Path | None = None, optimize: bool = True, profile: Path | None = None
) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU, without warnings; VerificationError if the model does not load.

    With ``optimized_path`` the graph is only constant-folded and simplified, and written there. Without ``optimize``
    it stays as it is. ``profile``: how the name of a file begins that says what the runtime has done.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, os.fspath(profile)
    source = model if isinstance(model, bytes) else os.fspath(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises a dozen unrelated classes
        raise VerificationError(
            f"written model must load in ONNX Runtime, got '{first_line(error)}': report this"
        ) from error


@dataclass(frozen=True)
class Decoding:
    """What decoding took: seconds on this machine, and the bytes of all that was computed.

    A runtime that decodes at load keeps all of that until it is done.
    """

    seconds: float
    computed_bytes: int


_FLOATS = ("float16", "bfloat16", "float32", "float64")

NOTHING_DECODED = Decoding(0.0, 0)


def decoded_weights(model: bytes, names: Iterable[str]) -> dict[str, Array]:
    """The values of ``names``, each an initialiser, or computed from initialisers alone, as ONNX Runtime decodes them;
    of a table of packed rows all rows, decoded.

    Raises ArgumentError for a name that is none of these.
    """
    return measured_decoding(model, names)[0]


def measured_decoding(model: bytes, names: Iterable[str]) -> tuple[dict[str, Array], Decoding]:
    """`decoded_weights`, and what decoding took of that which a runtime does at load: rows are not decoded then."""
    proto = onnx.load_from_string(model)
    constants, tables = constant_nodes(proto), look_ups(proto)
    computed = {name for node in constants for name in node.output}
    dense = {tensor.name: tensor for tensor in proto.graph.initializer}
    wanted = list(names)
    for name in wanted:
        if name not in computed and name not in dense:
            raise ArgumentError(f"weight {name} must be constant in the model, got none of that name: check the name")
    packed = {name: tables[name][0] for name in wanted if name in tables}
    asked = [name for name in wanted if name in computed and name not in packed]
    found = {name: numpy_helper.to_array(dense[name]) for name in wanted if name in dense and name not in packed}
    found |= {name: _decoded_rows(_row_part(proto, name, call), name) for name, call in packed.items()}
    decoding = NOTHING_DECODED
    if asked:
        decoded, decoding = _computed(_constant_part(proto, constants, asked), asked)
        found |= decoded
    return {name: found[name] for name in wanted}, decoding


def decoded_apart(
    proto: onnx.ModelProto, names: Sequence[str], load: Callable[[onnx.TensorProto], bytes]
) -> dict[str, Array]:
    """As `decoded_weights`, for names of computed values, or of packed rows, of a model with external tensors, whose
    bytes ``load`` gives: no more of the model is loaded than these values need."""
    tables = look_ups(proto)
    packed = {name: tables[name][0] for name in names if name in tables}
    found = {}
    for name, call in packed.items():
        part = _row_part(proto, name, call)
        _load(part, load)
        found[name] = _decoded_rows(part, name)
    if computed := [name for name in names if name not in packed]:
        part = _constant_part(proto, constant_nodes(proto), computed)
        _load(part, load)
        found |= _computed(part, computed)[0]
    return found


def _load(part: onnx.ModelProto, load: Callable[[onnx.TensorProto], bytes]) -> None:
    for tensor in part.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.raw_data = load(tensor)
            tensor.ClearField("data_location")
            del tensor.external_data[:]


def _row_part(proto: onnx.ModelProto, table: str, call: onnx.NodeProto) -> onnx.ModelProto:
    """A model without inputs that looks up all rows of ``table`` as ``call`` does."""
    part = _constant_part(proto, (), call.input[1:])
    part.graph.node.extend(all_rows(call, f"{table}\0rows"))
    _set_outputs(part, [f"{table}\0rows"])
    return part


def _decoded_rows(part: onnx.ModelProto, table: str) -> Array:
    output = f"{table}\0rows"
    rows = _computed(part, [output])[0][output]
    stored = next(tuple(tensor.dims) for tensor in part.graph.initializer if tensor.name == table)
    if rows.dtype.name not in _FLOATS or rows.ndim < 2 or rows.shape[:1] != stored[:1]:
        raise VerificationError(
            f"packed rows of {shown(table)} must decode to as many rows of floating-point numbers, got "
            f"{rows.dtype} {rows.shape} of {stored}: the file is damaged"
        )
    return rows


def _computed(part: onnx.ModelProto, names: Sequence[str]) -> tuple[dict[str, Array], Decoding]:
    """Outputs of a model without inputs. NumPy gets no bfloat16 from ONNX Runtime: it is widened, and narrowed here."""
    types = {entry.name: entry.type for entry in session(part.SerializeToString(), optimize=False).get_outputs()}
    wide = {name: f"{name}\0float" for name in names if types[name] == "tensor(bfloat16)"}
    if wide:
        for name, widened in wide.items():
            part.graph.node.append(helper.make_node("Cast", [name], [widened], to=onnx.TensorProto.FLOAT))
        for entry in part.graph.output:
            entry.name = wide.get(entry.name, entry.name)
    with tempfile.TemporaryDirectory() as folder:
        runtime = session(part.SerializeToString(), optimize=False, profile=Path(folder) / "decoding")
        try:
            values = runtime.run([wide.get(name, name) for name in names], {})
        except Exception as error:  # as for loading
            raise VerificationError(f"decode nodes must run, got '{first_line(error)}': the file is damaged") from error
        finally:
            events = json.loads(Path(runtime.end_profiling()).read_text())
    bfloat16 = helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
    found = {name: array.astype(bfloat16) if name in wide else array for name, array in zip(names, values, strict=True)}
    return found, _decoding(events)


def _decoding(events: Sequence[Mapping[str, Any]]) -> Decoding:
    """Of the runtime's profile: its kernels are the events with an output, times are in microseconds."""
    kernels = [event for event in events if "output_size" in event.get("args", {})]
    computed_bytes = sum(int(event["args"]["output_size"]) for event in kernels)
    return Decoding(sum(event["dur"] for event in kernels) / 1e6, computed_bytes)


def constant_nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of the main graph that depend on no input of the model, in order."""
    known = {tensor.name for tensor in proto.graph.initializer} - {value.name for value in proto.graph.input} | {""}
    found = []
    for node in proto.graph.node:
        subgraphs = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if not subgraphs and known.issuperset(node.input):
            known.update(node.output)
            found.append(node)
    return found


def ancestors(nodes: Sequence[onnx.NodeProto], names: Collection[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The ``nodes`` (in order) that lead to the values ``names``, and all values on the way."""
    needed, kept = set(names), []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1], needed


def _constant_part(
    proto: onnx.ModelProto, constants: Sequence[onnx.NodeProto], names: Collection[str]
) -> onnx.ModelProto:
    """A model without inputs whose outputs are the constant values ``names``."""
    nodes, needed = ancestors(constants, names)
    part = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    part.graph.name = "weights"
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in needed)
    part.graph.value_info.extend(value for value in proto.graph.value_info if value.name in needed - set(names))
    _set_outputs(part, names)
    return part


def _set_outputs(part: onnx.ModelProto, names: Collection[str]) -> None:
    """In place; the runtime infers the types."""
    del part.graph.output[:]
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)


def unfolded_nodes(model: bytes) -> tuple[str, ...]:
    """Operators of decode nodes that ONNX Runtime would run at every inference, () if it folds them all at load."""
    weights = _weights_computed(onnx.load_from_string(model))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        session(model, optimized_path=path)
        folded = onnx.load(path)
    left, _ = ancestors(constant_nodes(folded), weights)
    return tuple(node.op_type for node in left)


def _weights_computed(proto: onnx.ModelProto) -> set[str]:
    """Values made by constant nodes and read by others."""
    constants = constant_nodes(proto)
    made = {name for node in constants for name in node.output}
    return made & {name for node in proto.graph.node if not made.issuperset(node.output) for name in reads(node)}


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Values a node reads, those of its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for inner in graph.node:
                yield from reads(inner)


def compare_outputs(
    original: Model, compressed: Model, feeds: Mapping[str, Array] | None = None, *, seed: int = 0, batch: int = 2
) -> tuple[OutputDifference, ...]:
    """Run both models on the same inputs; differences per output, the first model being the reference.

    Without ``feeds`` the inputs are standard normal (integers: 0 or 1) from ``seed``, and unknown dimensions are
    ``batch``. Raises VerificationError where the models do not run on these inputs or differ in inputs or outputs.
    """
    reference, candidate = session(original), session(compressed)
    names = [output.name for output in reference.get_outputs()]
    if names != [output.name for output in candidate.get_outputs()]:
        raise VerificationError(
            f"outputs must be {names}, got others in the compressed model: compare the right models"
        )
    if feeds is None:
        feeds = sample_inputs(reference, seed=seed, batch=batch)
    try:
        expected, actual = reference.run(names, dict(feeds)), candidate.run(names, dict(feeds))
    except Exception as error:  # as for loading
        raise VerificationError(
            f"models must run on sample inputs, got '{first_line(error)}': pass inputs that fit"
        ) from error
    return tuple(difference(name, left, right) for name, left, right in zip(names, expected, actual, strict=True))


def sample_inputs(model: onnxruntime.InferenceSession, *, seed: int, batch: int) -> dict[str, Array]:
    """Random inputs of the types and shapes the model states."""
    random = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for entry in model.get_inputs():
        shape = [size if isinstance(size, int) and size >= 0 else batch for size in entry.shape]
        dtype = _DTYPES.get(entry.type)
        if dtype is None:
            raise VerificationError(
                f"input {entry.name} must be a numeric tensor, got {entry.type}: pass sample inputs"
            )
        drawn = random.standard_normal(shape) if dtype.kind == "f" else random.integers(0, 2, shape)
        feeds[entry.name] = np.asarray(drawn).astype(dtype)
    return feeds


_DTYPES = {
    f"tensor({name})": np.dtype(dtype)
    for name, dtype in {
        "float": "f4", "double": "f8", "float16": "f2", "bool": "?", "int8": "i1", "int16": "i2", "int32": "i4",
        "int64": "i8", "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8",
    }.items()
}  # fmt: skip


def difference(name: str, expected: Array, actual: Array) -> OutputDifference:
    if expected.shape != actual.shape:
        raise VerificationError(
            f"output {name} must have shape {expected.shape}, got {actual.shape}: compare the right models"
        )
    if expected.size == 0:
        return OutputDifference(name, 0.0, 0.0)
    left, right = expected.astype(np.float64), actual.astype(np.float64)
    equal = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        distances = np.where(equal, 0.0, np.abs(left - right))
    largest = float(np.max(np.where(np.isnan(distances), np.inf, distances)))
    scale = float(np.max(np.abs(left[np.isfinite(left)]), initial=0.0))
    return OutputDifference(name, largest, largest / scale if scale else (0.0 if largest == 0 else np.inf))
