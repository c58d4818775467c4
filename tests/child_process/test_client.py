"""Calls in the child process: values come back as they are, and nothing that happens there happens here."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sws_compress.child_process.client import CallError, child_lives, in_child
from sws_compress.child_process.limits import Limits, loading, own, running
from tests.child_process import calls

SOME = Limits(seconds=60, memory_bytes=1 << 30)
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")


def call(function: Any, *arguments: object, limits: Limits = SOME) -> Any:
    return in_child(function, *arguments, limits=limits)


VALUES = {
    "nothing": None,
    "numbers": [1, -(1 << 62), 0.1, float("inf"), True],
    "text": "weight \x00 é \n",
    "bytes": b"\x00\xff" * 5,
    "no bytes": b"",
    "nested": {"a": [{"b": [b"1", {2: "x"}]}], "": {}},
}


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back(name: str) -> None:
    assert call(calls.echo, VALUES[name]) == VALUES[name]


@pytest.mark.parametrize(
    "values",
    [
        np.arange(24, dtype="f4").reshape(2, 3, 4).transpose(2, 0, 1),
        np.array([np.nan, -0.0, np.inf, 5e-324]),
        np.zeros((0, 3), np.int8),
        np.array(7, np.uint64),
        np.arange(9)[::-2],
        np.array([True, False]),
        np.arange(5, dtype=">i4"),
        np.float16(0.1),
        np.arange(1 << 20, dtype="f8"),
        np.array([["a", ""], ["\x00", "bcd"]], object),
        np.array(["a", "bc"]),
    ],
)
def test_arrays_come_back_bit_for_bit(values: Any) -> None:
    (found,) = call(calls.echo, [values])
    assert found.shape == values.shape
    if values.dtype.kind in "OU":
        assert found.tolist() == values.tolist()
    else:
        assert (found.dtype, found.tobytes()) == (values.dtype, values.tobytes())
        found[...] = 0  # it is the caller's own


@pytest.mark.parametrize("value", [object(), np.array([1, None], object), {"x": {1}}, np.zeros(2, "V3")])
def test_other_values_are_refused_and_the_child_lives_on(value: object) -> None:
    before = call(calls.process)
    with pytest.raises(CallError, match="must be") as caught:
        call(calls.echo, [np.ones(3), value])
    assert not caught.value.out_of_bounds
    with pytest.raises(CallError, match="must be an array, got object"):
        call(calls.lie)
    assert call(calls.process) == before != os.getpid()


def test_errors_are_told() -> None:
    before = call(calls.process)
    with pytest.raises(CallError, match=r"^no such tensor$") as caught:
        call(calls.fail, "no such tensor")
    assert not caught.value.out_of_bounds
    with pytest.raises(CallError, match=r"^RuntimeError$"):
        call(calls.fail, "")
    assert call(calls.process) == before


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGSEGV, "a crash of its process (SIGSEGV, segmentation fault)"), (signal.SIGABRT, "(SIGABRT, aborted)")],
)
def test_a_crash_is_an_error_and_the_next_call_works(number: int, words: str) -> None:
    with pytest.raises(CallError, match=re.escape(words)) as caught:
        call(calls.die, number)
    assert caught.value.out_of_bounds
    assert call(calls.echo, 5) == 5


def test_the_end_of_the_process_is_an_error() -> None:
    with pytest.raises(CallError, match=r"exit code 3"):
        call(calls.leave)
    os.kill(call(calls.process), signal.SIGKILL)  # while nobody asks
    time.sleep(0.1)
    assert call(calls.echo, 5) == 5


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no such signal here")
@pytest.mark.parametrize("size", [1, 4 << 20])
def test_a_call_that_had_not_begun_is_sent_again(size: int) -> None:
    """The child is killed while the call is in the pipe, or, with more than a pipe holds, while it is written."""
    child = call(calls.process)
    os.kill(child, signal.SIGSTOP)
    timer = threading.Timer(0.3, os.kill, [child, signal.SIGKILL])
    timer.start()
    values = np.arange(size)
    assert np.array_equal(call(calls.echo, values), values)
    timer.join()
    assert call(calls.process) != child


def test_a_call_that_had_begun_is_not_sent_again(tmp_path: Path) -> None:
    call(calls.process)
    with pytest.raises(CallError, match="SIGKILL"):
        call(calls.note_and_die, str(tmp_path / "calls"))
    assert (tmp_path / "calls").read_text() == "called\n"


def test_a_call_that_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(CallError, match="no end within 0 s") as caught:
        call(calls.wait, 60, limits=Limits(seconds=0.4, memory_bytes=1 << 30))
    assert caught.value.out_of_bounds
    assert time.monotonic() - began < 5
    assert call(calls.echo, 5) == 5


@linux
def test_memory_is_limited_per_call() -> None:
    little, more = (Limits(seconds=60, memory_bytes=megabytes << 20) for megabytes in (100, 400))
    assert call(calls.fill, 50 << 20, limits=little)
    with pytest.raises(CallError, match=r"more than 0\.1 GB of memory") as caught:
        call(calls.fill, 200 << 20, limits=little)
    assert caught.value.out_of_bounds
    assert call(calls.fill, 200 << 20, limits=more)


@linux
def test_long_arguments_reach_a_child_whose_last_call_had_little() -> None:
    call(calls.echo, 5, limits=Limits(seconds=60, memory_bytes=1 << 20))
    assert call(calls.fill, 1, limits=Limits(seconds=60, memory_bytes=1 << 20))
    values = np.zeros(30 << 20, np.uint8)
    assert np.array_equal(call(calls.echo, values), values)


def message(header: object, tail: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + tail


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 8,
        message(b"{"),
        message(b"[" * 100_000),
        message({"value": 1}),
        message({"value": 1, "blocks": []}),
        message({"value": {"array": 0}, "blocks": []}),
        message({"value": {"array": 0}, "blocks": [["|O", [3]]]}, bytes(24)),
        message({"value": {"array": 0}, "blocks": [["<f8", [1 << 40]]]}),
        message({"value": {"array": 0}, "blocks": [["<f8", [-1, -8]]]}, bytes(64)),
        message({"value": {"entries": [[{"result": []}, 1]]}, "blocks": []}),
        message({"value": {"text": ["a"], "shape": [5]}, "blocks": []}),
    ],
)
def test_an_answer_that_is_none(data: bytes) -> None:
    """A child that a model has taken over may write anything; here it is an error and no more."""
    with pytest.raises(CallError) as caught:
        call(calls.write_to_parent, data)
    assert caught.value.out_of_bounds
    assert call(calls.echo, 5) == 5


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    call(calls.shout)
    with pytest.raises(CallError):
        call(calls.die, signal.SIGABRT)
    assert capfd.readouterr() == ("", "")


def test_threads_take_turns() -> None:
    arrays = [np.full(1 << 16, number) for number in range(24)]
    with ThreadPoolExecutor(6) as pool:
        for array, found in zip(arrays, pool.map(lambda value: call(calls.echo, value), arrays), strict=True):
            assert np.array_equal(array, found)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own reaction to an interrupt: shells start what runs in their background with interrupts ignored."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_leaves_no_half_answer() -> None:
    assert call(calls.echo, 4) == 4  # the child has started, however long that takes
    timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])  # to the process, as a terminal does
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        call(calls.wait, 60)
    timer.join()
    assert not child_lives()
    assert call(calls.echo, 5) == 5


def _in_fork(pipe: Any) -> None:
    pipe.send((call(calls.echo, "fork"), call(calls.process)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_a_child_of_its_own() -> None:
    before = call(calls.process)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    fork = context.Process(target=_in_fork, args=(theirs,))
    fork.start()
    assert ours.poll(30)
    word, other = ours.recv()
    fork.join()
    assert word == "fork"
    assert other != before
    assert call(calls.process) == before


def alive(number: int) -> bool:
    """Whether a process runs: one that has ended, and that nobody has waited for, does not."""
    try:
        os.kill(number, 0)
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def gone(number: int) -> bool:
    until = time.monotonic() + 10
    while alive(number) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(number)


PARENT = """
import sys
from sws_compress.child_process.client import in_child
from sws_compress.child_process.limits import Limits
from tests.child_process import calls
limits = Limits(seconds=60, memory_bytes=1 << 30)
if sys.argv[1]:
    in_child(calls.announce, sys.argv[1], limits=limits)
print(in_child(calls.process, limits=limits))
"""


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_child_ends_with_its_parent(number: int, tmp_path: Path) -> None:
    """Also in the middle of a call, and whatever ends the parent."""
    file = tmp_path / "child"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(file)], env={**os.environ, "PYTHONPATH": path()})
    while not file.exists() or not file.read_text():
        time.sleep(0.01)
    child = int(file.read_text())
    assert alive(child)
    parent.send_signal(number)
    parent.wait()
    assert gone(child)


def test_nothing_is_left_after_the_end() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", PARENT, ""],
        env={**os.environ, "PYTHONPATH": path()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    assert gone(int(run.stdout))


def test_a_script_without_a_guard_and_with_names_of_the_library(tmp_path: Path) -> None:
    """A main module that has no ``if __name__`` and lies beside a ``profile.py`` or ``json.py`` of the caller's."""
    for name in ("profile", "queue", "numbers"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "script.py").write_text(PARENT)
    run = subprocess.run(
        [sys.executable, "work/script.py", ""],
        env={**os.environ, "PYTHONPATH": path()},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")


def path() -> str:
    return os.pathsep.join(entry for entry in sys.path if entry)


def test_core_files_are_not_written() -> None:
    with pytest.raises(CallError):
        call(calls.die, signal.SIGSEGV)
    assert not list(Path.cwd().glob("core*"))
    assert resource.getrlimit(resource.RLIMIT_CORE)  # ours stays as it is


def test_limits_grow_with_the_model() -> None:
    small, large = loading(1_000), loading(1_000_000_000)
    assert small.seconds < 11
    assert small.memory_bytes < 2.2e9
    assert large.seconds > 1_000
    assert small.memory_bytes <= large.memory_bytes <= own().memory_bytes
    assert running(1_000, 1_000, given=False).seconds < 6
    assert running(1_000, 1_000, given=True).seconds >= 600
