"""Files that are written whole: a reader sees either the old bytes or all of the new ones."""

from __future__ import annotations

import enum
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from sws_compress.errors import ArgumentError, OutputError
from sws_compress.messages import shown

AnyPath = str | os.PathLike[str]


def file_path(name: str, value: object) -> Path:
    """A path. Raises ArgumentError if ``value`` is neither text nor a path."""
    if isinstance(value, str | os.PathLike):
        return Path(value)
    raise ArgumentError(f"{name} must be a path, got {shown(value)}: name a file")


def checked_output(output: AnyPath, thing: str = "output") -> Path:
    """The path, if a file can be written there; it is checked before the work starts.

    Parameters
    ----------
    output : str or path
        Where the file goes.
    thing : str
        What errors call it.

    Raises
    ------
    OutputError
        If it is a directory or a device, if its folder does not exist, or if one of them is read-only.
    """
    target = file_path(thing, output)
    if "\0" in str(target):
        raise OutputError(f"{thing} must be a path without NUL, got {str(target)!r}: choose another")
    try:
        if target.is_dir():
            raise OutputError(f"{thing} {target} must be a file, got a directory: name the file to write")
        if target.exists() and not target.is_file():
            raise OutputError(f"{thing} {target} must be an ordinary file, got a device or pipe: choose another path")
        if not target.parent.is_dir():
            raise OutputError(f"{thing} folder {target.parent} must exist, got no such folder: create it first")
    except (OSError, ValueError) as error:  # a name that is too long, or that no file can have
        if isinstance(error, OutputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{thing} must be a path that can be written, got '{reason}': choose another") from error
    if not os.access(target.parent, os.W_OK) or (target.exists() and not os.access(target, os.W_OK)):
        raise OutputError(f"{thing} {target} must be writable, got a read-only place: choose another path")
    return target


_UNFINISHED = ".unfinished"

LONGEST_NAME_KEPT = 200
"""Bytes of a name that the name of its draft repeats. File systems take 255 in all."""


class Draft:
    """New file in the folder of its target, which it may replace.

    Errors of writing are raised as OutputError.

    Parameters
    ----------
    target : Path
        The file to replace.
    path : Path
        The new file.
    stream : BinaryIO
        The new file, open for writing.
    """

    def __init__(self, target: Path, path: Path, stream: BinaryIO) -> None:
        self.target, self.path, self._stream = target, path, stream

    def write(self, data: Any, /) -> None:
        """Write all of ``data``, which is any buffer of bytes."""
        with _explained(self.target):
            self._stream.write(data)

    def flush(self) -> None:
        """Hand what was written to the operating system, so that it can be read from the file."""
        with _explained(self.target):
            self._stream.flush()

    def publish(self, target: Path | None = None, *, lasting: bool = True) -> None:
        """Rename over the target, or over another file in the same folder; a lasting one is flushed to disk before."""
        target = target or self.target
        with _explained(self.target):
            self._stream.flush()
            if lasting:
                os.fsync(self._stream.fileno())
            self.path.chmod(_mode(target))
            if sys.platform == "win32":
                self._stream.close()
            self.path.replace(target)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a temporary file beside ``path``, flush it to disk, and rename it over ``path``.

    What killed runs left behind for the same path is removed.

    Raises
    ------
    OutputError
        If writing fails. The old file stays, and the temporary one is removed.
    """
    with draft(Path(path)) as file:
        file.write(data)
        file.publish()


@contextmanager
def draft(target: Path) -> Iterator[Draft]:
    """Make a `Draft` for ``target`` and remove it at the end, published or not.

    Raises
    ------
    OutputError
        If no file can be made in the folder of the target.
    """
    remove_leftovers(target)
    with _explained(target):
        handle, path = _new_draft(target)
    stream = os.fdopen(handle, "wb")
    try:
        yield Draft(target, path, stream)
    finally:
        with suppress(OSError):  # a full disk, again
            stream.close()
        path.unlink(missing_ok=True)


def _new_draft(target: Path) -> tuple[int, Path]:
    """Make a draft that nobody removes: locked, and still there after that.

    Before it is locked, another writer may take it for a leftover and lock and remove it. Then a new one is made.
    """
    while True:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=_prefix(target), suffix=_UNFINISHED)
        path = Path(name)
        try:
            if _lock(handle) is not Lock.TAKEN and _is_at(handle, path):
                return handle, path
            os.close(handle)
        except BaseException:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise


def remove_leftovers(target: Path) -> None:
    """Remove the drafts that killed runs left for ``target``; those of running ones are locked."""
    with suppress(OSError):
        for path in list(target.parent.iterdir()):
            if path.name.startswith(_prefix(target)) and path.name.endswith(_UNFINISHED):
                with suppress(OSError), _opened(path) as handle:
                    if _lock(handle) is Lock.OURS and _is_at(handle, path):
                        path.unlink()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open an ordinary file; OSError for anything else, such as a pipe, which would wait for a writer."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path} is no ordinary file")
        yield handle
    finally:
        os.close(handle)


def _prefix(target: Path) -> str:
    """How the names of drafts for ``target`` begin; a long name is shortened, because drafts have longer ones."""
    name = os.fsencode(target.name)
    if len(name) > LONGEST_NAME_KEPT:
        return f".{hashlib.sha256(name).hexdigest()[:32]}."
    return f".{target.name}."


@contextmanager
def locked_file(path: Path, rule: str) -> Iterator[None]:
    """Hold a lock on a file, which is made if there is none. The system frees it when the process ends.

    Raises
    ------
    OutputError
        If another process holds it; ``rule`` begins the message.
    """
    with _explained(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        if _lock(handle) is Lock.TAKEN:
            raise OutputError(f"{rule}, got one that is running: wait for it, or choose another path")
        yield
    finally:
        os.close(handle)


class Lock(enum.Enum):
    """Result of an attempt to lock a file."""

    OURS = enum.auto()
    TAKEN = enum.auto()
    MISSING = enum.auto()
    """The file system has no locks."""


def _lock(handle: int) -> Lock:
    """Lock an open file for this process, without waiting."""
    try:
        import fcntl
    except ImportError:  # on Windows, where open files cannot be removed anyway
        return Lock.OURS
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Lock.TAKEN
    except OSError:
        return Lock.MISSING
    return Lock.OURS


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError for names that no file can have
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"output {target} must be writable, got '{reason}': choose another path, or make room"
        ) from error


def _mode(target: Path) -> int:
    """Permissions of the target, or those that a plain ``open`` gives: a temporary file is private."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
