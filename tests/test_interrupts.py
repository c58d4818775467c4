"""An interrupt of the command is one line at any time: no traceback, no crash of a module that is being imported."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.models import write_mlp

LINE = "sws-compress: interrupted, nothing was replaced\n"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Run the command after a mark on standard error: what comes before is Python's own beginning."""
    beginning = f"import os, sys; from sws_compress import __main__ as command; {program}os.write(2, b'.'); "
    command = [sys.executable, "-c", f"{beginning}sys.exit(command.run())", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert os.read(process.stderr.fileno(), 1) == b"."  # a read of the text would buffer what follows and lose it
    return process


def interrupted(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.parametrize("seed", range(10))
def test_at_any_time(seed: int, tmp_path: Path) -> None:
    model = write_mlp(tmp_path / "net.onnx")
    before = set(tmp_path.iterdir())
    process = start("", "compress", model, "-o", tmp_path / "small.onnx")
    time.sleep(random.Random(seed).random() * 0.8)
    code, err = interrupted(process)
    if code == 0:
        assert (tmp_path / "small.onnx").exists()
    else:
        assert (code, err) in ((130, LINE), (-signal.SIGINT, ""))  # the second while the process ends
        assert {path for path in tmp_path.iterdir() if not path.name.endswith(".unfinished")} - before <= {
            tmp_path / "small.onnx"
        }


SLOW = "import time; import sws_compress.cli.main as cli; cli.main = lambda: {}; "


@pytest.mark.parametrize(
    "work",
    [
        "time.sleep(60)",
        "__import__('ctypes').CFUNCTYPE(None)(lambda: time.sleep(60))() or time.sleep(60)",  # Python forgets it there
        "[None for _ in iter(int, 1)]",
    ],
)
def test_in_the_middle_of_work(work: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(SLOW.format(work))
        time.sleep(0.3)
        assert interrupted(process, number) == (128 + number, LINE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_drafts_do_not_stay(number: signal.Signals, tmp_path: Path) -> None:
    work = f"""
def work():
    from pathlib import Path
    from sws_compress.files import draft
    with draft(Path({str(tmp_path / "out.onnx")!r})):
        os.write(2, b'd')
        time.sleep(60)
cli.main = work
"""
    process = start(f"exec({SLOW.format('0') + work!r}); ")
    assert process.stderr is not None
    assert process.stderr.read(1) == "d"
    assert interrupted(process, number) == (128 + number, LINE)
    assert not list(tmp_path.iterdir())


def test_an_error_that_an_interrupt_becomes() -> None:
    """As where compiled modules import others: every error is an ImportError to them."""
    program = """
def work():
    try:
        time.sleep(60)
    except BaseException:
        raise ImportError("no array module")
cli.main = work
"""
    process = start(f"exec({SLOW.format('0') + program!r}); ")
    time.sleep(0.3)
    assert interrupted(process) == (130, LINE)


def test_other_errors_are_shown() -> None:
    process = start(SLOW.format("1 / 0"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ZeroDivisionError" in err


def test_standard_error_may_be_closed() -> None:
    process = start(SLOW.format("os.close(2) or time.sleep(60)"))
    time.sleep(0.3)
    assert interrupted(process)[0] == 130
