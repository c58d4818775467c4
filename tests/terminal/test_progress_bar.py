"""The progress bar: drawn on terminals alone, one at a time, and gone in the end, whatever ends the work."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

import sws_compress as sws
from sws_compress.terminal import progress_bar as progress_module
from sws_compress.terminal.progress_bar import OnProgress, part_of_progress, progress_bar, progress_of, silent
from tests.models import write_mlp

SHOW_CURSOR, HIDE_CURSOR, ERASE_LINE = "\x1b[?25h", "\x1b[?25l", "\x1b[2K"


class Terminal(io.StringIO):
    """Standard error that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    stream = Terminal()
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", stream)
    yield stream
    assert sys.stderr is stream  # put back


def assert_clean(text: str) -> None:
    """The cursor is shown again, and the last thing that was done is that the line of the bar was erased."""
    assert text.count(HIDE_CURSOR) == text.count(SHOW_CURSOR) > 0
    assert text.rindex(ERASE_LINE) > text.rindex("\n")


def test_bar_shows_what_is_done_and_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as stream, progress_bar() as show:
        show("rounding w[0]", 1, 4)
        show("packing \x1b[31m", 2, 4)
    text = stream.getvalue()
    assert r"packing \x1b[31m" in text
    assert "-:--:--" in text
    assert_clean(text)


def test_no_line_is_wider_than_the_terminal() -> None:
    stream = io.StringIO()
    with progress_bar(Console(file=stream, force_terminal=True, width=60, color_system=None)) as show:
        show("rounding " + "block." * 40, 1, 4)
    lines = [line for part in stream.getvalue().split("\x1b") for line in part.split("\n")]
    assert any("block.block" in line for line in lines)
    assert max(map(len, lines)) <= 60 + len("[2K")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), sws.ModelError("no"), SystemExit()])
def test_errors_leave_the_terminal_clean(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        with progress_bar() as show:
            show("training", 1, 4)
            raise error

    with terminal(monkeypatch) as stream, pytest.raises(type(error)):
        work()
    assert_clean(stream.getvalue())
    with terminal(monkeypatch) as stream, progress_bar() as show:  # another one is drawn afterwards
        assert show is not silent


def test_one_bar_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shows = []

    def other() -> None:
        with progress_bar() as show:
            shows.append(show)

    with terminal(monkeypatch) as stream, progress_bar() as outer:
        other()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        outer("outer", 1, 2)
    assert shows == [silent, silent]
    assert_clean(stream.getvalue())


def test_nothing_is_written_where_no_terminal_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sws.compress(write_mlp(tmp_path / "net.onnx"), tmp_path / "small.onnx")
    assert capsys.readouterr() == ("", "")


def test_logs_and_prints_stay_above_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal(monkeypatch) as stream:
        handler = logging.StreamHandler()
        logging.getLogger().addHandler(handler)
        try:
            with progress_bar() as show:
                show("working", 1, 2)
                logging.getLogger("of.somebody").warning("look out")
                print("result")  # noqa: T201
                print("complaint", file=sys.stderr)  # noqa: T201
            assert handler.stream is stream
        finally:
            logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().out == "result\n"  # no terminal: what a script prints into a file gets there
    lines = stream.getvalue().split("\n")
    for line in ("look out", "complaint"):
        (shown,) = (each for each in lines if line in each)
        assert shown.rpartition(ERASE_LINE)[2].rpartition("\r")[2].endswith(line)
    assert_clean(stream.getvalue())


@pytest.mark.parametrize("installed", [True, False])
def test_notebooks_have_a_bar_where_widgets_are_installed(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them, rich would warn that they are missing, and draw nothing."""
    drawn: list[Console] = []

    @contextmanager
    def drawing(console: Console) -> Iterator[OnProgress]:
        drawn.append(console)
        yield silent

    monkeypatch.setattr(progress_module, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(progress_module, "_drawing", drawing)
    with progress_bar(Console(force_jupyter=True, file=io.StringIO())) as show:
        show("working", 1, 2)
    assert bool(drawn) is installed


@pytest.mark.parametrize("asked", [None, 1, "yes"])
def test_what_is_no_progress_is_refused(asked: object, tmp_path: Path) -> None:
    with pytest.raises(sws.ArgumentError, match="progress must be True, False or a function"):
        sws.compress(write_mlp(tmp_path / "net.onnx"), tmp_path / "small.onnx", progress=asked)  # type: ignore[arg-type]


def test_false_draws_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with terminal(monkeypatch) as stream:
        sws.compress(write_mlp(tmp_path / "net.onnx"), tmp_path / "small.onnx", progress=False)
        assert stream.getvalue() == ""
        sws.compress(write_mlp(tmp_path / "net.onnx"), tmp_path / "small.onnx")
    assert_clean(stream.getvalue())


def test_parts_follow_each_other() -> None:
    seen: list[int] = []
    with progress_of(lambda description, done, total: seen.append(round(100 * done / total))) as whole:
        for first, last in ((0, 0.4), (0.4, 1)):
            part = part_of_progress(whole, first, last)
            for done in range(3):
                part("", done, 2)
        part_of_progress(whole, 0.4, 1)("", 0, 0)  # a total that nobody knows
    assert seen == [0, 20, 40, 40, 70, 100, 40]


def test_every_stage_of_a_call_moves(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    sws.compress(write_mlp(tmp_path / "net.onnx"), tmp_path / "small.onnx", progress=lambda *told: seen.append(told))
    shares = [done / total for _, done, total in seen if total]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    stages = [text.split()[0] for text, _, _ in seen]
    assert list(dict.fromkeys(stages)) == [
        *("reading", "running", "following", "rounding"),
        *("packing", "choosing", "checking", "comparing", "measuring", "done"),
    ]


# -- the log ----------------------------------------------------------------------------------------------------------


def test_log_tells_of_stages_sizes_and_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="sws_compress")
    result = sws.compress(write_mlp(tmp_path / "net.onnx"), tmp_path / "small.onnx")
    assert {record.name for record in caplog.records} == {"sws_compress"}
    told = {level: [r.getMessage() for r in caplog.records if r.levelname == level] for level in ("DEBUG", "INFO")}
    assert any("w1" in line for line in told["DEBUG"])
    assert any(f"{result.file_bytes:,} bytes" in line for line in told["INFO"])
    assert any(line.startswith("packing 2 tensors") for line in told["INFO"])
