"""Streaming with inputs: as close as in memory, a run that was killed goes on, and the same request makes one file."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

import sws_compress as sws
from benchmarks.scale.model import Size, write_model
from sws_compress.errors import ArgumentError, OutputError, SwsError
from sws_compress.files import locked_file
from sws_compress.ort.user_models import run_model
from sws_compress.pipelines.calibrated import compress_calibrated
from sws_compress.pipelines.calibration_inputs import first_rows
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
from sws_compress.report.result import CompressionResult

ALWAYS = Limits(calibrated_bytes=0)
IN_WORDS = Limits(calibrated_bytes=0, alone_elements=1 << 12)
SIZE = Size(vocabulary=300, width=64, layers=2)
ROOT = Path(__file__).resolve().parent.parent.parent


def tokens(count: int, seed: int) -> dict[str, Any]:
    return {"tokens": np.random.default_rng(seed).integers(0, SIZE.vocabulary, (count, 24))}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    write_model(path, SIZE)
    return path


def compress(
    source: Path, target: Path, quality: float = 25.0, limits: Limits = ALWAYS, **options: Any
) -> CompressionResult:
    job = Job(output=target, limits=limits, **options)
    request = sws.Calibrated(inputs=tokens(40, 0), quality=quality)
    return compress_calibrated(open_source(source, job), request, job)


def decibels(source: Path, target: Path) -> float:
    """Quality of the outputs on inputs that calibration has not seen."""
    first, second = (run_model(path, tokens(40, 1))["logits"].astype(np.float64) for path in (source, target))
    return float(20 * np.log10(np.linalg.norm(first) / np.linalg.norm(second - first)))


def bits(result: CompressionResult) -> float:
    """Entropy of the indices of the weights, per weight."""
    sizes = [int(np.prod(row.shape)) for row in result.tensors]
    return float(np.dot([row.entropy_bits for row in result.tensors], sizes) / sum(sizes))


@pytest.mark.slow
def test_streamed_networks_are_as_close_for_their_bits_as_those_in_memory(net: Path, tmp_path: Path) -> None:
    streamed = compress(net, tmp_path / "small.onnx")
    whole = compress(net, tmp_path / "whole.onnx", limits=Limits())
    found, other = (decibels(net, tmp_path / name) for name in ("small.onnx", "whole.onnx"))
    assert found == pytest.approx(25, abs=2)
    assert bits(streamed) < bits(whole) + (found - other) / 6.02 + 0.15  # a bit halves the error: 6.02 dB
    how = {decision.name: decision.how for decision in streamed.decisions}
    assert how["0.down.weight"] == "inputs of its layer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.onnx", "whole.onnx"]


def test_weights_that_are_coded_alone_have_codebooks_for_it(net: Path, tmp_path: Path) -> None:
    result = compress(net, tmp_path / "small.onnx", limits=IN_WORDS)
    rows = {row.name: row for row in result.tensors}
    assert rows["0.up.weight"].encoding == "radix+scales"
    stored, entropy = (8 * rows["0.up.weight"].file_bytes / (4 * SIZE.width**2), rows["0.up.weight"].entropy_bits)
    assert stored < entropy + 0.8
    assert decibels(net, tmp_path / "small.onnx") > 21
    assert result.ratio > 7


@pytest.mark.parametrize("quality", [15.0, 35.0])
def test_quality_is_met_about(net: Path, tmp_path: Path, quality: float) -> None:
    result = compress(net, tmp_path / "small.onnx", quality)
    found = decibels(net, tmp_path / "small.onnx")
    assert found == pytest.approx(quality, abs=2)
    assert -20 * np.log10(result.score_error) == pytest.approx(found, abs=1)
    assert not [note for note in result.notes if "asked for" in note]


@pytest.mark.parametrize("limits", [ALWAYS, IN_WORDS])
def test_sizes_are_met(net: Path, tmp_path: Path, limits: Limits) -> None:
    goal = sws.requests.Goal(target_bytes=net.with_name("net.onnx.data").stat().st_size // 8)
    result = compress(net, tmp_path / "small.onnx", limits=limits, goal=goal)
    assert result.file_bytes == pytest.approx(goal.target_bytes, rel=0.07)  # tables of small layers are estimated


def test_sizes_that_cannot_be_met_are_told(net: Path, tmp_path: Path) -> None:
    result = compress(net, tmp_path / "small.onnx", limits=IN_WORDS, goal=sws.requests.Goal(ratio=40))
    assert any("larger than the" in note for note in result.notes)


def test_weights_of_the_caller_are_kept_or_rounded_alone(net: Path, tmp_path: Path) -> None:
    own = {"head": sws.WeightsOnly(components=16)}
    result = compress(net, tmp_path / "small.onnx", keep=("0.q.weight",), overrides=own)
    rows = {row.name: row for row in result.tensors}
    assert "0.q.weight" not in rows
    assert rows["head"].distinct_values == 16
    how = {decision.name: decision.how for decision in result.decisions}
    assert (how["0.q.weight"], how["head"]) == ("kept as asked", "16 components asked for")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_layers(tmp_path: Path) -> None:
    peaks = []
    for layers in (1, 4):
        write_model(tmp_path / "net.onnx", Size(vocabulary=300, width=160, layers=layers))
        request = sws.Calibrated(inputs=tokens(8, 0), quality=20)
        job = Job(output=tmp_path / "small.onnx", limits=Limits(calibrated_bytes=0, alone_elements=1 << 12))
        tracemalloc.start()
        try:
            compress_calibrated(open_source(tmp_path / "net.onnx", job), request, job)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_few_rows_are_taken_where_all_inputs_have_them() -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> net ({}) => (float y) {{ y = Identity(x) }}'
    both, lone = (
        ir.from_proto(onnx.parser.parse_model(text.format(inputs)))
        for inputs in ("float[n, 3] x, float[2, n, 4] state", "float[n, 3] x")
    )
    given = {"x": np.zeros((8, 3)), "state": np.zeros((2, 8, 4))}
    assert first_rows(given, both, 2) is given
    assert first_rows({"x": given["x"]}, lone, 2)["x"].shape == (2, 3)


CHILD = """
import sys
from pathlib import Path
import numpy as np
import sws_compress as sws
from sws_compress.pipelines.calibrated import compress_calibrated
from sws_compress.pipelines.job import Job, Limits
from sws_compress.pipelines.source import open_source
limits = Limits(calibrated_bytes=0)
job = Job(output=Path(sys.argv[2]), limits=limits, on_progress=lambda *told: print(told[0], flush=True))
given = {"tokens": np.random.default_rng(0).integers(0, 300, (40, 24))}
compress_calibrated(open_source(sys.argv[1], job), sws.Calibrated(inputs=given), job)
"""


RESUMABLE = """
import sys
import numpy as np
import sws_compress as sws
given = {"tokens": np.random.default_rng(0).integers(0, 300, (40, 24))}
request = sws.Calibrated(inputs=given, resumable=True)
sws.compress(sys.argv[1], sys.argv[2], request, progress=lambda *told: print(told[0], flush=True))
"""


def kill_at(source: Path, target: Path, line: str, program: str = CHILD) -> None:
    """Run until a line of progress, and kill it there."""
    command = [sys.executable, "-c", program, str(source), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        for told in child.stdout:
            if told.strip() == line:
                child.kill()
                break
    assert child.returncode == -9


@pytest.mark.parametrize("line", ["assigning 1.o.weight", "checking head"])
def test_killed_runs_go_on_and_make_the_same_bytes(net: Path, tmp_path: Path, line: str) -> None:
    target = tmp_path / "small.onnx"
    kill_at(net, target, line)
    assert not target.exists()
    assert (tmp_path / "small.onnx.sws-work").is_dir()
    lines: list[str] = []
    result = compress(net, target, on_progress=lambda *told: lines.append(told[0]))
    assert any(note.startswith("went on where an earlier run was stopped") for note in result.notes)
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]
    others: list[str] = []
    compress(net, tmp_path / "other.onnx", on_progress=lambda *told: others.append(told[0]))
    assert lines.count("assigning 0.q.weight") < others.count("assigning 0.q.weight")
    assert target.read_bytes() == (tmp_path / "other.onnx").read_bytes()


def test_small_models_go_on_where_that_is_asked_for(net: Path, tmp_path: Path) -> None:
    target, request = tmp_path / "small.onnx", sws.Calibrated(inputs=tokens(40, 0), resumable=True)
    kill_at(net, target, "assigning 1.o.weight", RESUMABLE)
    result = sws.compress(net, target, request)
    assert any(note.startswith("went on where an earlier run was stopped") for note in result.notes)
    sws.compress(net, tmp_path / "other.onnx", request)
    assert target.read_bytes() == (tmp_path / "other.onnx").read_bytes()
    encodings = {row.encoding for row in result.tensors}
    assert any(encoding.startswith("huffman") for encoding in encodings), encodings


def test_modules_are_not_resumable(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.ReLU(), torch.nn.Linear(30, 10))
    request = sws.Calibrated(inputs=[(torch.zeros(8, 40),)], resumable=True)
    with pytest.raises(ArgumentError, match="resumable must be left out for a torch module"):
        sws.compress(network, tmp_path / "small.onnx", request, example_inputs=(torch.zeros(8, 40),))


@pytest.mark.slow
def test_work_for_another_request_is_left_alone_and_told(net: Path, tmp_path: Path) -> None:
    kill_at(net, tmp_path / "small.onnx", "assigning 1.o.weight")
    result = compress(net, tmp_path / "small.onnx", quality=20)
    assert any(note.startswith("started anew") for note in result.notes)
    compress(net, tmp_path / "other.onnx", quality=20)
    assert (tmp_path / "small.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()


def test_damaged_work_is_one_line(net: Path, tmp_path: Path) -> None:
    kill_at(net, tmp_path / "small.onnx", "assigning 1.o.weight")
    for file in (tmp_path / "small.onnx.sws-work").glob("*.arrays"):
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(OutputError, match=r"work folder .* must be .*: remove it") as caught:
        compress(net, tmp_path / "small.onnx")
    assert "\n" not in str(caught.value)


def test_two_runs_do_not_write_the_same_output(net: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small.onnx.sws-work"
    folder.mkdir()
    with (
        locked_file(folder / "lock", "nobody else"),
        pytest.raises(OutputError, match="must be written by one run at a time, got one that is running"),
    ):
        compress(net, tmp_path / "small.onnx")


def test_metrics_are_refused(net: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="max_drop must be left out for a model that is streamed"):
        compress(net, tmp_path / "small.onnx", goal=sws.requests.Goal(max_drop=1))
    assert list(tmp_path.iterdir()) == []


def test_errors_before_any_work_leave_no_folder(net: Path, tmp_path: Path) -> None:
    with pytest.raises(SwsError):
        compress(net, tmp_path / "small.onnx", keep=("nothing",))
    assert list(tmp_path.iterdir()) == []


def test_progress_never_goes_back_and_ends_near_the_total(net: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    compress(net, tmp_path / "small.onnx", on_progress=lambda *each: told.append(each))
    told = [each for each in told if each[2]]  # the total is not known before the file is read
    done = [each[1] for each in told]
    assert done == sorted(done)
    assert 0.99 * told[0][2] < done[-1] <= told[0][2]
    assert {each[2] for each in told} == {told[0][2]}
