"""Damaged models by the thousand, each with a number of its own. As a program it works through a range of numbers.

    python -m tests.onnx_io.fuzzing FIRST COUNT

prints a line before and after every case, so that who watches can tell which one took the process down.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sws_compress.errors import SwsError
from sws_compress.onnx_io.analyse.weights import find_weights, skipped_weights
from sws_compress.onnx_io.read.model import read_model
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.packing.pack import find_palettes, pack
from tests.onnx_io import nested_models as nested
from tests.onnx_io.models import as_ir, few_values, lenet, matmul_model
from tests.whole import expanded, inspected

CASE_SECONDS = 60
"""A case that takes longer hangs."""

MEMORY_BYTES = 6 << 30
"""Bytes of address space of the process: larger allocations fail."""

NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    16,
    255,
    256,
    1 << 16,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 40,
    (1 << 63) - 1,
    -(1 << 63),
]
WORDS = "W x y value body then_branch ai.onnx mine sws 1:3 sws_compress Constant If Loop Gather MatMul Transpose"
TEXTS = ["", "a\nb", "../w.bin", "é" * 200, *WORDS.split()]


@functools.cache
def bases() -> tuple[bytes, ...]:
    """Small models of all kinds, compressed ones included."""
    random = np.random.default_rng(1)
    models = [lenet(sizes=(20, 15, 10)), matmul_model(few_values((12, 9), [0, 1, 2], [8, 1, 1]))]
    models += [matmul_model(random.standard_normal((12, 9)).astype(dtype), opset=11) for dtype in (np.float32,)]
    models += [make() for make in nested.MODELS if make is not nested.stored_twice]
    models += [recurrent(), onnx.load_from_string(external())]
    dense = as_ir(lenet(sizes=(60, 30, 10)))
    packed = [pack(dense, find_palettes(dense, smallest=2)).data]
    return (*(model.SerializeToString() for model in models), *packed)


def recurrent() -> onnx.ModelProto:
    random = np.random.default_rng(2)
    shapes = {"Wr": (1, 4 * 6, 5), "Rr": (1, 4 * 6, 6), "Wc": (5, 3, 3)}
    tensors = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float16), name)
        for name, shape in shapes.items()
    ]
    nodes = [helper.make_node("Cast", [name], [name + "f"], to=TensorProto.FLOAT) for name in shapes]
    nodes.append(helper.make_node("Conv", ["x", "Wcf"], ["c"], pads=[1, 1]))
    nodes.append(helper.make_node("Transpose", ["c"], ["t"], perm=[2, 0, 1]))
    nodes.append(helper.make_node("LSTM", ["t", "Wrf", "Rrf"], ["y", "", ""], hidden_size=6))
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "n"])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [entry], [result], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def external() -> bytes:
    model = matmul_model(few_values((12, 9), [0, 1, 2], [8, 1, 1]))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", str(12 * 9 * 4))):
        tensor.external_data.add(key=key, value=value)
    return model.SerializeToString()


def damaged(number: int) -> bytes:
    """The model of case ``number``, with one to four changes to its bytes or its fields."""
    random = np.random.default_rng(number)
    data = bases()[random.integers(len(bases()))]
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        data = change_bytes(data, random) if random.random() < 0.3 else change_field(data, random)
    return data


def change_bytes(data: bytes, random: np.random.Generator) -> bytes:
    if not data:
        return b"\0"
    at, length = int(random.integers(len(data))), int(random.integers(1, 9))
    kind = random.integers(5)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << int(random.integers(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + random.bytes(length) + data[at + length :]
    if kind == 2:
        return data[:at] + random.bytes(length) + data[at:]
    if kind == 3:
        return data[:at] + data[at + length :]
    return data[:at]


def change_field(data: bytes, random: np.random.Generator) -> bytes:
    """Change a value, drop an entry or repeat one, somewhere in the tree of messages."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:
        return data
    message = model
    while True:
        fields = [(field, value) for field, value in message.ListFields()]
        if not fields:
            break
        field, value = fields[random.integers(len(fields))]
        entries = list(value) if is_repeated(field) else [value]
        if field.message_type is not None and entries and random.random() < 0.85:
            message = entries[random.integers(len(entries))]
            continue
        change_value(message, field, random)
        break
    return model.SerializeToString()


def is_repeated(field: object) -> bool:
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def change_value(message: object, field: object, random: np.random.Generator) -> None:
    value = getattr(message, field.name)
    if is_repeated(field):
        if len(value) and random.random() < 0.5:
            del value[int(random.integers(len(value)))]
        elif len(value):
            value.append(value[int(random.integers(len(value)))])
        return
    try:
        if random.random() < 0.15 or field.message_type is not None:
            message.ClearField(field.name)
        elif isinstance(value, str):
            setattr(message, field.name, TEXTS[random.integers(len(TEXTS))])
        elif isinstance(value, bytes):
            setattr(message, field.name, change_bytes(value, random))
        elif isinstance(value, float):
            setattr(message, field.name, float(random.choice([0, -1, np.nan, np.inf, 1e38])))
        else:
            setattr(message, field.name, NUMBERS[random.integers(len(NUMBERS))])
    except (ValueError, TypeError):
        pass  # a number that the field does not take


def run(data: bytes) -> str:
    """What became of a file: "ok", or the message of a refusal. Other errors, and files left behind, fail the case."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(data)
        (Path(folder) / "w.bin").write_bytes(few_values((12, 9), [0, 1, 2], [8, 1, 1]).tobytes())
        try:
            outcome = work(path)
        except SwsError as error:
            outcome = str(error)
            assert outcome
            assert "\n" not in outcome
        assert sorted(os.listdir(folder)) == ["net.onnx", "w.bin"]
    return outcome


def work(path: Path) -> str:
    model = read_model(path)
    if "sws_compress" in model.metadata_props:
        inspected(path.read_bytes())
        expanded(path.read_bytes())
        return "ok, expanded"
    skipped_weights(model)
    palettes = find_palettes(model, smallest=2)
    pack(model, palettes)
    inspected(to_bytes(model))
    find_weights(model, smallest=2)
    return "ok"


def main(first: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for number in range(first, first + count):
        tell(start=number)
        signal.alarm(CASE_SECONDS)
        try:
            result = {"outcome": run(damaged(number))}
        except BaseException:
            result = {"failure": traceback.format_exc()}
        signal.alarm(0)
        tell(number=number, **result)


def tell(**entry: object) -> None:
    sys.stdout.write(json.dumps(entry) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
