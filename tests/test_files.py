"""Old bytes or all of the new ones, never anything else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

from sws_compress.errors import OutputError
from sws_compress.files import checked_output, draft, remove_leftovers, write_atomically


def test_writes_and_replaces(tmp_path):
    target = tmp_path / "out.onnx"
    write_atomically(target, b"one")
    write_atomically(target, b"two")
    assert target.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [target]


def test_new_files_get_ordinary_permissions_and_old_ones_keep_theirs(tmp_path):
    plain, target = tmp_path / "plain", tmp_path / "out.onnx"
    plain.write_bytes(b"")
    write_atomically(target, b"one")
    assert target.stat().st_mode == plain.stat().st_mode
    target.chmod(0o640)
    write_atomically(target, b"two")
    assert target.stat().st_mode & 0o777 == 0o640


def test_missing_folder_and_directory_in_the_way(tmp_path):
    for target in (tmp_path / "none" / "out.onnx", tmp_path):
        with pytest.raises(OutputError, match="must be writable, got"):
            write_atomically(target, b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "out.onnx"
    write_atomically(target, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_killed_runs_left_goes_and_what_others_are_writing_stays(tmp_path):
    target = tmp_path / "out.onnx"
    left = tmp_path / ".out.onnx.abc.unfinished"
    left.write_bytes(b"half")
    others = [tmp_path / name for name in (".out.onnx", ".out.onnx.abc", ".other.onnx.abc.unfinished", "out.onnx.data")]
    for path in others:
        path.write_bytes(b"")
    with draft(target) as running:
        assert not left.exists()
        running.write(b"first")
        write_atomically(target, b"second")
        assert running.path.exists()
        running.publish()
    assert target.read_bytes() == b"first"
    assert sorted(tmp_path.iterdir()) == sorted([target, *others])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_links_that_are_named_like_drafts_stay(tmp_path):
    """To open a pipe without a writer would wait for one."""
    target, pipe, link = (tmp_path / name for name in ("out.onnx", ".out.onnx.a.unfinished", ".out.onnx.b.unfinished"))
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    write_atomically(target, b"data")
    assert target.read_bytes() == b"data"
    assert sorted(tmp_path.iterdir()) == sorted([target, pipe, link])


def test_the_longest_name_can_be_written(tmp_path):
    target = tmp_path / ("n" * 255)
    left = tmp_path / "left"
    with draft(target) as killed:
        killed.write(b"half")
        killed.flush()
        left.write_bytes(killed.path.read_bytes())
        name = killed.path
    left.rename(name)
    write_atomically(target, b"data")
    assert target.read_bytes() == b"data"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(OutputError, match="File name too long"):
        checked_output(tmp_path / ("n" * 256))


def test_names_with_nul_are_refused_in_one_line(tmp_path):
    for write in (checked_output, lambda target: write_atomically(target, b"data")):
        with pytest.raises(OutputError, match=r"output .*must be .*: choose another"):
            write(tmp_path / "a\0b")
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_another_writer_removes_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    target, made, make = tmp_path / "out.onnx", [], tempfile.mkstemp

    def interrupted(*arguments, **options):
        handle, name = make(*arguments, **options)
        made.append(name)
        if len(made) < 3:
            remove_leftovers(target)
        return handle, name

    monkeypatch.setattr(tempfile, "mkstemp", interrupted)
    write_atomically(target, b"data")
    assert len(set(made)) == 3
    assert target.read_bytes() == b"data"
    assert list(tmp_path.iterdir()) == [target]


WRITER = """
import os, sys
from pathlib import Path
from sws_compress.files import write_atomically
os.fsync = lambda handle: None  # so that there are enough writes
print("ready", flush=True)
sys.stdin.readline()
for _ in range(700):
    write_atomically(Path(sys.argv[1]), sys.argv[2].encode() * 1000)
"""


def test_two_processes_write_one_file(tmp_path):
    target, options = tmp_path / "out.onnx", {"text": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, target, name], **options) for name in "ab"]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert target.read_bytes() in (b"a" * 1000, b"b" * 1000)
    assert list(tmp_path.iterdir()) == [target]
