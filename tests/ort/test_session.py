"""A model that crashes, hangs or takes all memory in ONNX Runtime is one line, and the process lives on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import sws_compress as sws
from sws_compress.child_process.client import CallError, child_lives, in_child
from sws_compress.child_process.limits import own
from sws_compress.cli.main import main
from sws_compress.errors import SwsError, VerificationError
from sws_compress.ort.session import Session, SessionError, reason_of, session
from sws_compress.ort.user_models import open_model, run_model
from tests.child_process import calls
from tests.models import gaussian, write_mlp

HEADER = '<ir_version: 8, opset_import: ["": 17]> '


def with_weight(text: str, **more: np.ndarray) -> onnx.ModelProto:
    """A model that a weight w (64, 64) makes worth compressing."""
    model = parser.parse_model(HEADER + text)
    for name, values in {"w": gaussian(64, 64), **more}.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def split_without_first_output() -> onnx.ModelProto:
    """A Split whose first output has no name ends ONNX Runtime."""
    model = with_weight("g (float[2, 64] x) => (float[2, 32] y) {h = MatMul(x, w) a, y = Split<axis=1>(h)}")
    model.graph.node[1].output[0] = ""
    return model


def lstm_of_no_batch() -> onnx.ModelProto:
    """An LSTM with a declared batch of 0."""
    size = 16
    model = with_weight(
        f"""g (float[4, 0, 64] x) => (float[4, 1, 0, {size}] y) {{
            h = MatMul(x, w)
            y = LSTM<hidden_size={size}>(h, a, b)
        }}""",
        a=gaussian(4 * size, 64).reshape(1, 4 * size, 64),
        b=gaussian(4 * size, size).reshape(1, 4 * size, size),
    )
    return model


def loop(trips: int) -> onnx.ModelProto:
    return with_weight(
        """g (float[2, 64] x) => (float[2, 64] y) {
            h = MatMul(x, w)
            y = Loop(trips, yes, h) <body = b (int64 i, bool c, float[2, 64] s) => (bool d, float[2, 64] t) {
                d = Identity(c)
                t = Tanh(s)
            }>
        }""",
        trips=np.array(trips),
        yes=np.array(True),
    )


def expanding(elements: int) -> onnx.ModelProto:
    """A few bytes that ask for ``elements`` zeros when the model is loaded."""
    model = parser.parse_model(HEADER + "g () => (float[n] y) {z = ConstantOfShape(s) y = Neg(z)}")
    model.graph.initializer.append(numpy_helper.from_array(np.array([elements]), "s"))
    return model


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """x (n, 40) -> y (n, 30)."""
    return write_mlp(tmp_path / "net.onnx")


X = gaussian(5, 40, seed=3)


def test_entries_and_outputs_are_those_of_the_runtime(net: Path) -> None:
    with session(net) as runtime, session(net.read_bytes()) as other:
        assert [(e.name, e.type, e.shape) for e in runtime.inputs] == [("x", "tensor(float)", ("n", 40))]
        assert runtime.outputs == other.outputs
        (first,), (second,) = runtime.run({"x": X}), other.run({"x": X})
        assert first.tobytes() == second.tobytes()


def test_outputs_that_are_no_arrays_of_numbers() -> None:
    text = "g (float[2] x) => (seq(float[2]) s, string[2] t) {s = SequenceConstruct(x, x) t = Cast<to=8>(x)}"
    with session(parser.parse_model(HEADER + text).SerializeToString()) as runtime:
        sequence, words = runtime.run({"x": np.float32([1, 2])})
    assert [part.tolist() for part in sequence] == [[1, 2], [1, 2]]
    assert words.tolist() == ["1", "2"]
    text = "g (seq(float[n]) s) => (float[m] y) {y = ConcatFromSequence<axis=0>(s)}"
    with session(parser.parse_model(HEADER + text).SerializeToString()) as runtime:
        assert runtime.run({"s": [np.float32([1]), np.float32([2, 3])]})[0].tolist() == [1, 2, 3]


def test_a_session_outlives_its_child(net: Path) -> None:
    first, second = session(net), session(net.read_bytes())
    (expected,) = first.run({"x": X})
    with pytest.raises(CallError):
        in_child(calls.die, signal.SIGKILL, limits=own())
    assert np.array_equal(second.run({"x": X})[0], expected)
    assert np.array_equal(first.run({"x": X})[0], expected)


def test_paths_are_those_of_the_caller(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child may have been started in another folder."""
    with session(net):
        monkeypatch.chdir(tmp_path)
        assert run_model("net.onnx", {"x": X})["y"].shape == (5, 30)


def test_our_process_does_not_import_the_runtime(net: Path, tmp_path: Path) -> None:
    script = f"""
import sys, sws_compress as sws
sws.compress({str(net)!r}, {str(tmp_path / "small.onnx")!r})
print([name for name in sys.modules if name.startswith("onnxruntime")])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("make", [split_without_first_output, lstm_of_no_batch])
def test_a_model_that_crashes_the_runtime(make: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(make().SerializeToString())
    assert main(["compress", str(path), "-o", str(tmp_path / "small.onnx")]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "outputs were not compared, only weights" in " ".join(out.split())
    assert "a crash of its process" in " ".join(out.split())


def test_the_crash_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(split_without_first_output().SerializeToString())
    with pytest.raises(SwsError, match=r"net.onnx must .*a crash of its process \(SIG\w+, .*\)"):
        run_model(path, {"x": gaussian(2, 64)})
    assert run_model(write_mlp(path), {"x": X})["y"].shape == (5, 30)


def test_a_model_that_never_ends_is_compressed_and_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(loop(1 << 40), path)
    began = time.monotonic()
    result = sws.compress(path, tmp_path / "small.onnx")
    assert time.monotonic() - began < 20
    assert any(
        "outputs were not compared, only weights" in note and "no end within 5 s" in note for note in result.notes
    )
    assert any("--inputs" in note for note in result.notes)
    onnx.save(loop(3), path)
    assert sws.compress(path, tmp_path / "small.onnx").decoded_difference < 1e-5


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")
@pytest.mark.parametrize("elements", [1 << 33, 1 << 45, (1 << 62) - 1])
def test_a_few_bytes_that_ask_for_gigabytes(elements: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(expanding(elements).SerializeToString())
    assert path.stat().st_size < 200
    with pytest.raises(SwsError) as caught:
        run_model(path, {})
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_errors_of_loading_and_running_have_their_reason(net: Path) -> None:
    with pytest.raises(VerificationError, match="must load in ONNX Runtime") as caught:
        session(b"nothing")
    assert isinstance(caught.value.__cause__, SessionError)
    assert not caught.value.__cause__.out_of_bounds
    with session(net) as runtime, pytest.raises(SessionError) as wrong:
        runtime.run({"x": np.ones((2, 41), np.float32)})
    assert not wrong.value.out_of_bounds
    assert "[ONNXRuntimeError]" not in reason_of(wrong.value)
    with session(net) as runtime, pytest.raises(SessionError, match="must be an array"):
        runtime.run({"x": object()})


def test_closed_models_are_freed(net: Path) -> None:
    runtime: Session = open_model(net)
    assert child_lives()
    with runtime:
        runtime.run({"x": X})
    assert runtime.run({"x": X})[0].shape == (5, 30)  # loaded again


def test_no_temporary_folder(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the measurement of ``inspect`` needs one."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    result = sws.compress(net, tmp_path / "small.onnx")
    assert result.decoded_difference < 1e-5
    sws.expand(tmp_path / "small.onnx", tmp_path / "dense.onnx")
    with pytest.raises(sws.OutputError, match=r"temporary folder must be writable .*: make room, or set TMPDIR"):
        sws.inspect(tmp_path / "small.onnx")


def test_measured_decoding_is_that_of_the_profile(net: Path, tmp_path: Path) -> None:
    sws.compress(net, tmp_path / "small.onnx")
    decoding = sws.inspect(tmp_path / "small.onnx").parts.decoding
    assert decoding.seconds > 0
    assert decoding.computed_bytes > 4 * (40 * 30)
    assert json.dumps(sws.inspect(tmp_path / "small.onnx").to_json()["decoding"])


def test_runs_are_timed_where_the_model_is(tmp_path: Path) -> None:
    path = write_mlp(tmp_path / "net.onnx")
    feeds = {"x": gaussian(3, 40)}
    with session(path) as model:
        assert model.load_seconds > 0
        seconds = model.timed(feeds, most_runs=5, most_seconds=30)
        assert len(seconds) == 5
        assert all(0 < each < 1 for each in seconds)
        assert len(model.timed(feeds, most_runs=5, most_seconds=0)) == 1
        with pytest.raises(SessionError):
            model.timed({"x": gaussian(3, 41)}, most_runs=5, most_seconds=1)
