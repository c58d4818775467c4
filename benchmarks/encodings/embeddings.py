"""Cost of an embedding that is dense, decoded at load, or packed at run time, each in its own process.

    python -m benchmarks.encodings.embeddings [MODEL.onnx ..]

The tables have 30,000 x 384 and 128,000 x 1,024 Gaussian values, 16 or 256 of them distinct, in a model of one look-up.
Models named on the command line are compressed with 16 components. Measured are

- bytes of the file;
- processor seconds of loading on one thread;
- memory at the peak of loading and after it, above a process that only imported ONNX Runtime;
- median milliseconds of a run: 1 row and 128 rows of a table, one row of 64 tokens for a model.

Outputs must equal those of the decoded file bit for bit. For models they must agree within 1e-5, because runtimes fuse
other nodes. Prints a table and writes JSON to out/encodings/embeddings.json.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from benchmarks.environment import environment
from sws_compress.api import compress
from sws_compress.codec.candidates import radix_candidate
from sws_compress.file_options import FileOptions
from sws_compress.onnx_io.analyse.embeddings import find_embeddings
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.packing.pack import pack, packed_model, row_code
from sws_compress.quantize.palette import Palette

SHAPES = ((30_000, 384), (128_000, 1024))
COMPONENTS = (16, 256)
UNSTREAMED_WEIGHTS = 1 << 24
"""Weights up to which all encodings are candidates. A larger file is streamed and has radix words."""
TOKENS = 64
RUNS = 2
LOAD = """
import json, statistics, sys, time
import numpy as np, onnxruntime
from benchmarks.memory import held_bytes

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
before, resident = held_bytes("VmHWM"), held_bytes("VmRSS")
start = time.process_time()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
found = {"load_seconds": time.process_time() - start, "peak": held_bytes("VmHWM") - before}
found["resident"] = held_bytes("VmRSS") - resident
with np.load(sys.argv[2]) as arrays:
    kinds = {name.rpartition("@")[2] for name in arrays.files}
    feeds = {kind: {n.rpartition("@")[0]: arrays[n] for n in arrays.files if n.endswith("@" + kind)} for kind in kinds}
for kind, feed in feeds.items():
    session.run(None, feed)
    times = []
    for _ in range(int(sys.argv[3])):
        start = time.perf_counter()
        outputs = session.run(None, feed)
        times.append(time.perf_counter() - start)
    found["ms " + kind] = 1000 * statistics.median(times)
    np.savez(sys.argv[2] + "." + kind + ".npz", *outputs)
print(json.dumps(found))
"""
Row = dict[str, Any]
Feeds = dict[str, dict[str, npt.NDArray[np.int64]]]


def measure(path: Path, feeds: Feeds, runs: int) -> tuple[dict[str, float], list[npt.NDArray[np.float32]]]:
    """Best times of a few loads and runs, the largest peak and the smallest memory after it; and the outputs."""
    arrays = path.with_suffix(".npz")
    named: dict[str, Any] = {f"{name}@{kind}": array for kind, feed in feeds.items() for name, array in feed.items()}
    np.savez(arrays, **named)
    found = []
    for _ in range(RUNS):
        command = [sys.executable, "-c", LOAD, str(path), str(arrays), str(runs)]
        found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    best = {key: (max if key == "peak" else min)(one[key] for one in found) for key in found[0]}
    outputs = []
    for kind in feeds:
        with np.load(f"{arrays}.{kind}.npz") as stored:
            outputs += [stored[name] for name in stored.files]
    return {"file_bytes": path.stat().st_size, **best}, outputs


def table_files(shape: tuple[int, int], components: int, path: Path) -> Iterator[str]:
    """Write a model of one look-up in each form to ``path``; yield the name of the form after each."""
    random = np.random.default_rng(0)
    codebook = np.linspace(-1.1, 1, components).astype(np.float32)
    shares = np.exp(-(np.linspace(-3.5, 3.5, components) ** 2) / 2)
    bounds = np.cumsum(shares / shares.sum())[:-1].astype(np.float32)
    symbols = np.empty(shape, np.uint8)
    for row in range(0, shape[0], 1000):
        symbols[row : row + 1000] = np.searchsorted(bounds, random.random((1000, shape[1]), np.float32))
    palette = Palette(codebook, symbols.reshape(-1), shape)
    path.write_bytes(look_up_model(palette).SerializeToString())
    yield "dense"
    model = ir.from_proto(look_up_model(palette))
    (embedding,) = find_embeddings(model)
    rows = row_code(embedding, palette)
    assert rows is not None
    if symbols.size <= UNSTREAMED_WEIGHTS:
        path.write_bytes(pack(model, {"T": palette}).data)
    else:
        words = radix_candidate(palette.indices, codebook)
        assert words is not None
        path.write_bytes(to_bytes(packed_model(model, {}, {"T": words})[0]))
    yield "decoded"
    path.write_bytes(to_bytes(packed_model(model, {}, {"T": rows})[0]))
    yield "packed"


def look_up_model(palette: Palette) -> onnx.ModelProto:
    """A model that computes y = T[ids]."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["T", "ids"], ["y"])],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", palette.shape[1]])],
        [numpy_helper.from_array(palette.expand(), "T")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def of_tables(path: Path) -> Iterator[Row]:
    for shape in SHAPES:
        ids = np.random.default_rng(1).integers(0, shape[0], 128)
        feeds = {"1 row": {"ids": ids[:1]}, "128 rows": {"ids": ids}}
        for components in COMPONENTS:
            outputs = []
            for name in table_files(shape, components, path):
                found, answers = measure(path, feeds, 1001)
                outputs.append(np.concatenate(answers))
                yield {"table": f"{shape[0]:,} x {shape[1]:,}, K = {components}", "file": name, **found}
            assert all(other.tobytes() == outputs[0].tobytes() for other in outputs)


def of_model(source: Path, path: Path) -> Iterator[Row]:
    inputs = onnx.load(source, load_external_data=False).graph.input
    feed = {entry.name: np.ones((1, TOKENS), np.int64) for entry in inputs}
    feed[inputs[0].name][0] = np.random.default_rng(1).integers(0, 1000, TOKENS)
    outputs = []
    for name in ("dense", "decoded", "packed"):
        if name == "dense":
            path.write_bytes(source.read_bytes())
        else:
            compress(source, path, file=FileOptions(packed_embeddings=name == "packed"), example_inputs=feed)
        found, answers = measure(path, {f"{TOKENS} tokens": feed}, 31)
        outputs.append(answers)
        yield {"table": source.stem, "file": name, **found}
    for decoded, packed in zip(*outputs[1:], strict=True):
        assert np.abs(decoded - packed).max() <= 1e-5 * np.abs(decoded).max()


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        models = (of_model(Path(name), path) for name in sys.argv[1:])
        for row in itertools.chain(of_tables(path), *models):
            rows.append(row)
            _show(**row)
    out = Path("out/encodings")
    out.mkdir(parents=True, exist_ok=True)
    (out / "embeddings.json").write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1))


def _show(*, table: str, file: str, file_bytes: int, load_seconds: float, **rest: float) -> None:
    memory = [f"{kind} {rest.pop(kind) / 1e6:7.1f} MB" for kind in ("peak", "resident")]
    times = (f"{name} {milliseconds:.4f}" for name, milliseconds in rest.items())
    print(f"{table:25} {file:8} {file_bytes:11,} {load_seconds:6.2f} s", *memory, *times, sep="  ", flush=True)


if __name__ == "__main__":
    main()
