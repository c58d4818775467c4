"""Every encoding in the oldest ONNX Runtime that is supported, in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import onnx
import pytest

from sws_compress.onnx_io.traversal import constant_nodes
from tests.runtimes.compare import assert_agrees, assert_stays_packed
from tests.runtimes.files import SOURCES, files_of, large_files
from tests.runtimes.report import write_report
from tests.runtimes.wire import read_answers, write_job

OLDEST = "1.18.1"
ANSWER = Path(__file__).with_name("answer.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info >= (3, 13), reason=f"onnxruntime {OLDEST} has no wheel for Python 3.13"),
]


@pytest.fixture(scope="module")
def interpreter(repository: Path) -> Path:
    """An interpreter with the oldest ONNX Runtime, kept between runs."""
    folder = repository / ".venv" / f"onnxruntime-{OLDEST}"
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    if not stamp.exists():
        venv.create(folder, with_pip=True, clear=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([python, *install, f"onnxruntime=={OLDEST}", "numpy<2"], check=True, timeout=600)
        stamp.touch()
    return python


def test_outputs_and_folding(interpreter: Path, tmp_path: Path, repository: Path) -> None:
    files = [file for source in SOURCES for file in files_of(source)] + list(large_files())
    write_job(tmp_path, files)
    done = subprocess.run([interpreter, ANSWER, tmp_path], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    version, answers = read_answers(done.stdout)
    assert version == OLDEST
    for index, (file, answer) in enumerate(zip(files, answers, strict=True)):
        assert_agrees(file, answer.outputs)
        optimized = onnx.load(tmp_path / f"{index}.onnx.optimized")
        assert constant_nodes(optimized) == [], file.name
        assert_stays_packed(file, optimized)
    write_report(repository / "out" / "runtimes", f"onnxruntime {version}", files, answers)
