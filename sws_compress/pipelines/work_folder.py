"""A folder beside the output that keeps finished work, so that a run which was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.errors import OutputError
from sws_compress.files import checked_output, draft, locked_file, write_atomically

ENDING = ".sws-work"

_STATE, _LOCK = "state.json", "lock"

_ARRAYS = ".arrays"


class WorkFolder:
    """Arrays and a state on disk. Files are written whole; the state is written last.

    Parameters
    ----------
    path : Path
        An existing folder.
    fingerprint : str
        What the work is for: that for anything else is not used.

    Attributes
    ----------
    path : Path
        The folder.
    state : dict
        What the last `save_state` got, in this run or in the one before; empty at first.
    started_anew : bool
        Whether there was work for something else, which is gone now.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self._fingerprint = path, fingerprint
        before = self._read_state()
        self.started_anew = before is not None and before.pop("fingerprint", None) != fingerprint
        if before is None or self.started_anew:
            self.clear()
        self.state: dict[str, Any] = before if before is not None and not self.started_anew else {}

    def _read_state(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / _STATE).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def save_state(self, **state: Any) -> None:
        """Write the state: numbers, texts, lists and dicts of them."""
        self.state = state
        write_atomically(self.path / _STATE, json.dumps({**state, "fingerprint": self._fingerprint}).encode())

    def save(self, name: str, *arrays: npt.NDArray[Any], lasting: bool = True) -> None:
        """Write some arrays under a name, which may hold anything; only lasting ones survive a crash of the machine."""
        with draft(self._file(name)) as file:
            for array in arrays:
                np.lib.format.write_array(file, array, allow_pickle=False)
            file.publish(lasting=lasting)

    def has(self, name: str) -> bool:
        """Whether there are arrays under a name."""
        return self._file(name).exists()

    def load(self, name: str) -> list[npt.NDArray[Any]]:
        """The arrays under a name.

        Raises
        ------
        OutputError
            If they cannot be read.
        """
        try:
            with self._file(name).open("rb") as stream:
                found = []
                while stream.peek(1):
                    found.append(np.lib.format.read_array(stream, allow_pickle=False))
        except (OSError, ValueError) as error:
            raise OutputError(f"work folder {self.path} must be readable, got '{error}': remove it") from error
        return found

    def drop(self, name: str) -> None:
        """Remove the arrays under a name, if there are any."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.path / (hashlib.sha256(name.encode()).hexdigest()[:40] + _ARRAYS)

    def clear(self) -> None:
        """Remove all work."""
        self.state = {}
        for file in (self.path / _STATE, *self.path.glob(f"*{_ARRAYS}")):
            with suppress(OSError):
                file.unlink()


@contextmanager
def work_folder(output: Path, fingerprint: str) -> Iterator[WorkFolder]:
    """The work folder of an output. It is removed at the end, and after an error if there is no finished work.

    Parameters
    ----------
    output : Path
        The file that the work is for.
    fingerprint : str
        What it is made of.

    Raises
    ------
    OutputError
        If the folder cannot be made, or if another run is working in it.
    """
    path = output.with_name(output.name + ENDING)
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"work folder {path} must be writable, got '{error.strerror}': remove what is there"
        ) from error
    if path.is_symlink():
        raise OutputError(f"work folder {path} must be a folder, got a link: remove it")
    checked_output(path / _LOCK)
    with locked_file(path / _LOCK, f"output {output} must be written by one run at a time"):
        work = WorkFolder(path, fingerprint)
        try:
            yield work
        except BaseException:
            if not work.state:
                _remove(path, work)
            raise
        _remove(path, work)


def _remove(path: Path, work: WorkFolder) -> None:
    work.clear()
    with suppress(OSError):
        (path / _LOCK).unlink()
        path.rmdir()
