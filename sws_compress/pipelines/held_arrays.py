"""Arrays by name: in memory as long as they are small, and in a temporary folder beyond."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy.typing as npt

from sws_compress.pipelines.work_folder import WorkFolder

HELD_BYTES = 1 << 28
"""Arrays that are in memory."""


class HeldArrays:
    """A place for the values of a run; they are gone with it."""

    def __init__(self) -> None:
        self._held: dict[str, npt.NDArray[Any]] = {}
        self._bytes = 0
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._folder: WorkFolder | None = None

    def save(self, name: str, *arrays: npt.NDArray[Any], lasting: bool = True) -> None:
        """Keep an array under a name."""
        self.drop(name)
        (array,) = arrays
        if self._bytes + array.nbytes <= HELD_BYTES:
            self._held[name] = array
            self._bytes += array.nbytes
            return
        if self._folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="sws-")
            self._folder = WorkFolder(Path(self._temporary.name), "")
        self._folder.save(name, array, lasting=False)

    def has(self, name: str) -> bool:
        """Whether there is an array under a name."""
        return name in self._held or (self._folder is not None and self._folder.has(name))

    def load(self, name: str) -> list[npt.NDArray[Any]]:
        """The array under a name."""
        if name in self._held:
            return [self._held[name]]
        assert self._folder is not None
        return self._folder.load(name)

    def drop(self, name: str) -> None:
        """Forget an array, if there is one under this name."""
        found = self._held.pop(name, None)
        if found is not None:
            self._bytes -= found.nbytes
        elif self._folder is not None:
            self._folder.drop(name)

    def close(self) -> None:
        """Remove what is on disk."""
        if self._temporary is not None:
            self._temporary.cleanup()
