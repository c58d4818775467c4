"""Old bytes or all of the new ones, never anything else."""

from __future__ import annotations

import os

import pytest

from sws_compress.errors import OutputError
from sws_compress.files import draft, write_atomically


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
