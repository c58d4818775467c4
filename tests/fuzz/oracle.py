"""What must hold of files that a command has written, found out by other means than the package's own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from sws_compress.onnx_io.traversal import nodes, tensors

SAME = 1e-3
"""Largest difference of outputs that rounding explains, relative to the largest output."""

ROUNDED = 0.05
"""The same where products in few bits round what they multiply by: half a percent in every layer."""

DRAWING = {"Bernoulli", "Dropout", "Multinomial"}
"""Operators that draw random numbers, and all that begin with Random: their networks answer otherwise every time."""

MOVING = {"Identity", "Transpose", "Gather", "Cast"}
"""Operators that leave numbers as they are: initialisers that only they read are clustered, not what they make."""

RUN_SECONDS = 8
"""Seconds that a model may run here: what takes longer is not compared."""


def check_inspected(values: dict[str, Any]) -> None:
    """Every byte counts once, and numbers are possible ones."""
    for row in values["tensors"]:
        assert row["distinct_values"] <= row["elements"], ("wrong inspection", row)
        assert 0 <= row["zeros"] <= 1, ("wrong inspection", row)
        assert row["entropy_bits"] >= 0, ("wrong inspection", row)
        assert row["file_bytes"] >= 0, ("wrong inspection", row)
    own = sum(row["file_bytes"] for row in values["tensors"])
    assert values["graph_bytes"] >= 0, ("wrong inspection", values)
    assert values["shared_bytes"] >= 0, ("wrong inspection", values)
    assert own + values["shared_bytes"] + values["graph_bytes"] <= values["disk_bytes"] + 100_000_000


def check_expanded(compressed: Path, expanded: Path) -> None:
    """The expanded file passes the checker, holds nothing of ours, and answers as the compressed one does."""
    model = onnx.load(expanded)
    onnx.checker.check_model(model)
    assert not any(entry.key == "sws_compress" for entry in model.metadata_props), "wrong expansion: marked"
    assert not any(function.domain == "sws" for function in model.functions), "wrong expansion: functions"
    rounds = any(node.op_type == "MatMulNBits" for node in nodes(onnx.load(compressed)))
    assert_same_outputs(compressed, expanded, "wrong expansion", ROUNDED if rounds else SAME)


def check_compressed(original: Path, compressed: Path, command: list[str]) -> None:
    """The file is smaller, and computes what the original does with its weights as the reference decodes them."""
    assert compressed.stat().st_size < whole_size(original), "wrong compression: not smaller"
    model = onnx.load(original)
    small = onnx.load(compressed)
    onnx.checker.check_model(small, full_check=True)
    if "--low-bit" in command:
        return
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    names = names_decoded(small)
    if not names or not stored.keys() >= names:
        return  # weights of bodies, computed ones, and those that lost their names are no initialisers of the original
    if any(names.intersection(node.input) for node in constant_nodes(model) if node.op_type not in MOVING):
        return  # what is computed from an initialiser may have its name
    decoded = decoded_by_reference(small, sorted(names))
    if not decoded:
        return
    for name, values in decoded.items():
        first = numpy_helper.to_array(stored[name])
        assert (first.shape, first.dtype) == (values.shape, values.dtype), ("wrong weight", name)
        with np.errstate(all="ignore"):
            error = np.square(np.float64(values) - np.float64(first)).mean()
            spread = np.square(np.float64(first) - np.float64(first).mean()).mean()
        if np.isfinite(spread) and spread > 1e-300:
            assert error <= 1.01 * spread, ("wrong weight", name, error, spread)
        for tensor in tensors(model):  # equal ones become one, in Constant nodes too
            alike = (tensor.data_type, tensor.dims) == (stored[name].data_type, stored[name].dims)
            if alike and numpy_helper.to_array(tensor).tobytes() == first.tobytes():
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    swapped = compressed.with_name("swapped.onnx")
    try:
        onnx.save(model, swapped)
        assert_same_outputs(swapped, compressed, "wrong compression")
    finally:
        swapped.unlink()


def whole_size(path: Path) -> int:
    """Bytes of a model with its external data."""
    return len(onnx.load(path).SerializeToString())


def constant_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that no input leads to; those with bodies are left out."""
    known, chosen = {tensor.name for tensor in model.graph.initializer}, []
    known -= {entry.name for entry in model.graph.input}
    for node in model.graph.node:
        if not any(entry.HasField("g") for entry in node.attribute) and known.issuperset(filter(None, node.input)):
            chosen.append(node)
            known.update(node.output)
    return chosen


def names_decoded(model: onnx.ModelProto) -> set[str]:
    """The values that nodes of constants make and others read, in bodies too."""
    made = {name for node in constant_nodes(model) for name in node.output}
    read = {name for node in nodes(model) if not made.issuperset(node.output) for name in node.input}
    return made & read


def decoded_by_reference(model: onnx.ModelProto, names: list[str]) -> dict[str, np.ndarray]:
    """The values of those names that nodes of constants compute, in onnx's evaluator in Python."""
    from onnx.reference import ReferenceEvaluator

    part = onnx.ModelProto()
    part.CopyFrom(model)
    chosen, needed = [], set(names)
    for node in reversed(constant_nodes(model)):
        if needed & set(node.output):
            needed.update(node.input)
            chosen.insert(0, node)
    ours = [function for function in model.functions if function.domain == "sws"]
    for field in (part.functions, part.graph.node, part.graph.input, part.graph.output):
        del field[:]
    part.functions.extend(ours)
    part.graph.node.extend(chosen)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        evaluator = ReferenceEvaluator(part)
    except RuntimeError:  # it does not know every version of every operator
        return {}
    return dict(zip(names, evaluator.run(names, {}), strict=True))


def assert_same_outputs(first: Path, second: Path, what: str, tolerance: float = SAME) -> None:
    """Two files answer the same to the same inputs, or neither runs, or they draw random numbers."""
    operators = {node.op_type for node in nodes(onnx.load(first))}
    if operators & DRAWING or any(operator.startswith("Random") for operator in operators):
        return
    left, right = outputs(first), outputs(second)
    if left is None:
        return
    assert right is not None, (what, "does not run")
    assert len(left) == len(right), (what, "other outputs")
    for one, other in zip(left, right, strict=True):
        if not isinstance(one, np.ndarray) or one.dtype.kind not in "fiub":
            continue
        assert one.shape == other.shape, (what, one.shape, other.shape)
        if not one.size:
            continue
        one, other = np.float64(one), np.float64(other)
        finite = np.isfinite(one)
        with np.errstate(all="ignore"):
            assert np.array_equal(one[~finite], other[~finite], equal_nan=True), (what, "NaN or infinite")
            largest = np.abs(one[finite]).max(initial=0)
            apart = np.abs(one[finite] - other[finite]).max(initial=0)
        assert apart <= tolerance * largest or not apart, (what, apart, largest)


def outputs(path: Path) -> list[np.ndarray] | None:
    """What a model answers to inputs of our own; None if it does not run on them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    random = np.random.default_rng(5)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feeds = {}
        for entry in session.get_inputs():
            shape = [size if isinstance(size, int) and size >= 0 else 2 for size in entry.shape]
            if np.prod(shape, dtype=float) > 1e6:
                return None
            kind = {"float": "f4", "double": "f8", "float16": "f2", "int64": "i8", "bool": "?"}[entry.type[7:-1]]
            drawn = random.standard_normal(shape) if kind[0] == "f" else random.integers(0, 2, shape)
            feeds[entry.name] = np.asarray(drawn).astype(kind)
        limits = onnxruntime.RunOptions()
        timer = threading.Timer(RUN_SECONDS, setattr, (limits, "terminate", True))
        timer.start()
        try:
            return list(session.run(None, feeds, limits))
        finally:
            timer.cancel()
    except Exception:  # whatever the runtime makes of it
        return None
