"""Large models, with "large" set to nothing: the streamed output is the ordinary one, whatever happens on the way."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sws_compress.errors import ArgumentError, ModelError, OutputError, VerificationError
from sws_compress.file_options import FileOptions
from sws_compress.files import Draft
from sws_compress.onnx_io.write import external, output
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.session import session
from sws_compress.pipelines import coded_weights
from sws_compress.pipelines import streamed as streaming
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
from sws_compress.pipelines.weights_only import compress_weights
from sws_compress.quantize.granularity import PerChannel, Vectors
from sws_compress.report.result import CompressionResult
from sws_compress.requests import WeightsOnly

ALWAYS = Limits(model_bytes=0, alone_elements=1000)
WHOLE = Limits()
PER_TENSOR = WeightsOnly(components=16)
TWO_FILES = Limits(model_bytes=0, alone_elements=1000, file_bytes=0)
ROOT = Path(__file__).resolve().parent.parent


def write_net(path: Path, *, dtype: type = np.float32, layers: int = 3, width: int = 260) -> Path:
    """x (n, 260) -> MatMul, Add, Tanh, ... with weights in ``path`` + ".data"; a table of ones
    is shared by two layers, so that something is tied and something has one value."""
    random = np.random.default_rng(7)
    tensors, nodes, value = [numpy_helper.from_array(np.ones(width, dtype), "ones")], [], "x"
    for layer in range(layers):
        weight = (random.standard_t(4, (width, width)) * 0.1 + 0.01 * layer).astype(dtype)
        weight[:, ::5] = 0
        bias = random.standard_normal(width).astype(dtype)
        tensors += [numpy_helper.from_array(weight, f"w{layer}"), numpy_helper.from_array(bias, f"b{layer}")]
        nodes += [
            helper.make_node("MatMul", [value, f"w{layer}"], [f"m{layer}"]),
            helper.make_node("Add", [f"m{layer}", f"b{layer}"], [f"a{layer}"]),
            helper.make_node("Mul", [f"a{layer}", "ones"], [f"c{layer}"]),
            helper.make_node("Tanh", [f"c{layer}"], [f"t{layer}"]),
        ]
        value = f"t{layer}"
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    entry = helper.make_tensor_value_info("x", kind, ["n", width])
    result = helper.make_tensor_value_info(value, kind, ["n", width])
    graph = helper.make_graph(nodes, "net", [entry], [result], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location=path.name + ".data", size_threshold=0)
    return path


def stream(
    source: Path, target: Path, limits: Limits = ALWAYS, request: WeightsOnly = PER_TENSOR, **options: Any
) -> CompressionResult:
    job = Job(output=target, limits=limits, **options)
    return compress_weights(open_source(source, job), request, job)


def outputs(path: Path) -> np.ndarray:
    runtime = session(path)
    entry = runtime.inputs[0]
    x = np.random.default_rng(1).standard_normal((3, 260))
    return runtime.run({"x": x.astype({"tensor(float)": "f4", "tensor(float16)": "f2"}[entry.type])})[0]


def external_names(path: Path) -> set[str]:
    proto = onnx.load(path, load_external_data=False)
    return {e.value for t in proto.graph.initializer for e in t.external_data if e.key == "location"}


@pytest.mark.parametrize("limits", [ALWAYS, TWO_FILES], ids=["one file", "two files"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_streamed_weights_are_the_ordinary_ones(tmp_path: Path, limits: Limits, dtype: type) -> None:
    source = write_net(tmp_path / "net.onnx", dtype=dtype)
    ordinary = stream(source, tmp_path / "ordinary.onnx", WHOLE)
    result = stream(source, tmp_path / "small.onnx", limits)
    assert outputs(tmp_path / "small.onnx").tobytes() == outputs(tmp_path / "ordinary.onnx").tobytes()
    rows = {row.name: row for row in result.tensors}
    for row in ordinary.tensors:
        if row.encoding != "dense":
            streamed = rows[row.name]
            assert (streamed.shape, streamed.distinct_values) == (row.shape, row.distinct_values)
            assert (streamed.zeros, streamed.entropy_bits) == pytest.approx((row.zeros, row.entropy_bits), abs=1e-9)
    assert {name for name, row in rows.items() if row.encoding == "radix"} >= {"w0", "w1", "w2"}
    assert result.mixtures.keys() == ordinary.mixtures.keys()
    assert np.isnan(result.decoded_difference)
    assert result.outputs == ()
    assert result.notes == ()
    files = list(tmp_path.glob("small*"))
    assert result.file_bytes == sum(file.stat().st_size for file in files)
    assert len(files) == (1 if limits is ALWAYS else 2)
    payload = 3 * 260 * 260 // 2
    assert payload < sum(rows[f"w{layer}"].file_bytes for layer in range(3)) < payload + 3 * 250
    onnx.checker.check_model(str(tmp_path / "small.onnx"), full_check=True)


@pytest.mark.parametrize(
    "asked",
    [
        WeightsOnly(components=16, granularity=PerChannel()),
        WeightsOnly(components=32, granularity=Vectors(4)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_scales_and_vectors_are_streamed(
    tmp_path: Path, asked: WeightsOnly, dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coded_weights, "PIECE_VALUES", 1 << 10)  # several pieces a weight
    source = write_net(tmp_path / "net.onnx", dtype=dtype)
    ordinary = stream(source, tmp_path / "ordinary.onnx", WHOLE, asked)
    result = stream(source, tmp_path / "small.onnx", ALWAYS, asked)
    first, second = ((tmp_path / name).read_bytes() for name in ("ordinary.onnx", "small.onnx"))
    names = ["w0", "w1", "w2"]
    decoded = decoded_weights(second, names)
    assert {name: values.tobytes() for name, values in decoded_weights(first, names).items()} == {
        name: values.tobytes() for name, values in decoded.items()
    }
    rows = {row.name: row for row in ordinary.tensors}
    for row in result.tensors:
        assert row.distinct_values == rows[row.name].distinct_values
        assert ("+scales" in row.encoding) == ("+scales" in rows[row.name].encoding)
        assert row.entropy_bits == pytest.approx(rows[row.name].entropy_bits)


def test_streamed_weights_have_as_many_values_as_a_quality_needs(tmp_path: Path) -> None:
    source = write_net(tmp_path / "net.onnx")
    result = stream(source, tmp_path / "small.onnx", ALWAYS, WeightsOnly(quality=50))
    rows = {row.name: row for row in result.tensors}
    plain = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(source).graph.initializer}
    decoded = decoded_weights((tmp_path / "small.onnx").read_bytes(), ["w0", "w1", "w2"])
    for name, values in decoded.items():
        assert rows[name].distinct_values > 256
        assert rows[name].file_bytes < 0.55 * plain[name].nbytes
        assert np.linalg.norm(values - plain[name]) < 10 ** (-50 / 20) * np.linalg.norm(plain[name])


def test_payloads_are_in_the_file_once(tmp_path: Path) -> None:
    source = write_net(tmp_path / "net.onnx")
    result = stream(source, tmp_path / "small.onnx", TWO_FILES)
    data = (tmp_path / "small.onnx.data").stat().st_size
    assert data <= 3 * (4096 + 260 * 260 // 2)
    assert result.file_bytes == data + (tmp_path / "small.onnx").stat().st_size


def test_data_files_take_turns_and_the_old_one_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_net(tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    target = Path("small.onnx")  # relative, as on the command line
    expected = None
    for name in ("small.onnx.data", "small.onnx.2.data", "small.onnx.data"):
        stream(Path("net.onnx"), target, TWO_FILES)
        assert external_names(target) == {name}
        assert sorted(os.listdir()) == sorted(["net.onnx", "net.onnx.data", "small.onnx", name])
        assert expected is None or outputs(target).tobytes() == expected
        expected = outputs(target).tobytes()
    stream(Path("net.onnx"), target)
    assert sorted(os.listdir()) == ["net.onnx", "net.onnx.data", "small.onnx"]


def test_progress_never_goes_back_and_ends_at_the_total(tmp_path: Path) -> None:
    source = write_net(tmp_path / "net.onnx")
    seen = []
    stream(source, tmp_path / "small.onnx", on_progress=lambda *entry: seen.append(entry))
    seen = [entry for entry in seen if entry[2]]  # the total is not known before the file is read
    done, totals = [entry[1] for entry in seen], {entry[2] for entry in seen}
    assert len(totals) == 1
    assert done == sorted(done)
    assert done[0] == 0
    assert max(done) <= totals.pop()
    assert [entry[0] for entry in seen][:4] == ["rounding w0", "rounding w1", "rounding w2", "packing"]
    assert {"checking w0", "checking w1", "checking w2"} <= {entry[0] for entry in seen}


def test_inputs_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    source = write_net(tmp_path / "net.onnx")
    with pytest.raises(ArgumentError, match="must be left out for a model that is streamed"):
        stream(source, tmp_path / "small.onnx", inputs={"x": np.zeros((1, 260))})
    with pytest.raises(ArgumentError, match="weight_names must be left out for a model that is streamed"):
        stream(source, tmp_path / "small.onnx", file=FileOptions(weight_names=False))
    with pytest.raises(OutputError, match="must not be the input"):
        stream(source, tmp_path / "net.onnx")
    (tmp_path / "net.onnx").rename(tmp_path / "other.onnx")
    with pytest.raises(OutputError, match="must not be the input"):
        stream(tmp_path / "other.onnx", tmp_path / "net.onnx")  # net.onnx.data would be overwritten
    weights = onnx.load(tmp_path / "other.onnx")
    array = numpy_helper.to_array(weights.graph.initializer[1]).copy()
    array[5, 5] = np.nan
    weights.graph.initializer[1].CopyFrom(numpy_helper.from_array(array, "w0"))
    onnx.save(weights, tmp_path / "nan.onnx")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ModelError, match="weights of 'w0' must be finite, got 1 NaN"):
        stream(tmp_path / "nan.onnx", tmp_path / "small.onnx")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("limits", [ALWAYS, TWO_FILES], ids=["one file", "two files"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_a_full_disk_leaves_the_old_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits, share: float
) -> None:
    """The disk is full at the first write, the last, and some in between."""
    source = write_net(tmp_path / "net.onnx")
    write, count, fails_at = Draft.write, itertools.count(), 10**9

    class Full:
        def write(self, data: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __getattr__(self, name: str) -> object:
            return lambda *arguments: None

    def failing(file: Draft, data: object) -> None:
        if next(count) == fails_at:
            file._stream = Full()  # type: ignore[assignment]
        write(file, data)

    monkeypatch.setattr(Draft, "write", failing)
    stream(source, tmp_path / "small.onnx", limits)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    last = next(count) - 1
    count, fails_at = itertools.count(), int(share * last)
    with pytest.raises(OutputError, match="No space left"):
        stream(source, tmp_path / "small.onnx", limits)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("limits", "fails_at"), [(ALWAYS, 0), (TWO_FILES, 0), (TWO_FILES, 1)])
def test_a_disk_that_fails_at_the_very_end_leaves_the_old_output(
    tmp_path: Path, disk_fails_at: Callable[[int], None], limits: Limits, fails_at: int
) -> None:
    source = write_net(tmp_path / "net.onnx")
    stream(source, tmp_path / "small.onnx", limits)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    disk_fails_at(fails_at)
    with pytest.raises(OutputError, match="Input/output error"):
        stream(source, tmp_path / "small.onnx", limits)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_that_decodes_to_something_else_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_net(tmp_path / "net.onnx")
    target = tmp_path / "small.onnx"
    target.write_bytes(b"old")
    real = external.write_inline

    def corrupting(proto: onnx.ModelProto, data: object, file: Draft) -> dict[str, int]:
        offsets = real(proto, data, file)
        file.flush()
        with file.path.open("r+b") as raw:
            raw.seek(max(offsets.values()) + 77)
            byte = raw.read(1)[0]
            raw.seek(-1, os.SEEK_CUR)
            raw.write(bytes([byte ^ 1]))
        return offsets

    monkeypatch.setattr(output, "write_inline", corrupting)
    with pytest.raises(VerificationError, match="must decode to the snapped weights"):
        stream(source, target)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data", "small.onnx"]


def test_weights_too_large_to_be_decoded_at_load_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_net(tmp_path / "net.onnx")
    monkeypatch.setattr(streaming, "FOLDED_BYTES", 4 * 260 * 260 - 1)
    result = stream(source, tmp_path / "small.onnx")
    assert [note.split()[0] for note in result.notes] == ["w0", "w1", "w2"]
    assert result.to_json()["notes"] == list(result.notes)


CHILD = """
import sys, time
from pathlib import Path
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
from sws_compress.pipelines.weights_only import compress_weights
from sws_compress.requests import WeightsOnly
def show(description, done, total):
    print(description, flush=True)
    time.sleep(0.02)
limits = Limits(model_bytes=0, alone_elements=1000, file_bytes=int(sys.argv[3]))
job = Job(output=Path(sys.argv[2]), limits=limits, on_progress=show)
compress_weights(open_source(sys.argv[1], job), WeightsOnly(), job)
"""


@pytest.mark.parametrize(("after", "file_bytes"), [("rounding w4", 1 << 30), ("packing", 0), ("checking w2", 1 << 30)])
def test_killed_runs_leave_the_old_output_and_the_next_one_starts_clean(
    tmp_path: Path, after: str, file_bytes: int
) -> None:
    source = write_net(tmp_path / "net.onnx", layers=6)
    target = tmp_path / "small.onnx"
    target.write_bytes(b"old")
    command = [sys.executable, "-c", CHILD, str(source), str(target), str(file_bytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == after:
                time.sleep(0.01)
                child.kill()
    assert child.returncode == -9
    assert target.read_bytes() == b"old"
    left = {path.name for path in tmp_path.iterdir()} - {"net.onnx", "net.onnx.data", "small.onnx"}
    assert left
    stream(source, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data", "small.onnx"]
    assert np.isfinite(outputs(target)).all()
    assert helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT) == outputs(target).dtype
