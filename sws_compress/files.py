"""Writing a file so that a reader sees either the old bytes or all of the new ones."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sws_compress.errors import OutputError


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to a temporary file beside ``path``, flush it to disk, and rename it over ``path``.

    On failure the target is as it was and the temporary file is gone; raises OutputError.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise OutputError(_message(target, error)) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(_mode(target))
        temporary.replace(target)
    except OSError as error:
        raise OutputError(_message(target, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _mode(target: Path) -> int:
    """The target's own permissions, or those a plain ``open`` would give (a temporary file is private)."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _message(target: Path, error: OSError) -> str:
    return f"output {target} must be writable, got '{error.strerror or error}': choose another path, or make room"
