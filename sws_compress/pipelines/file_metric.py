"""The caller's metric of ONNX files: how good the original is, and how good a file of ours would be."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sws_compress.errors import DataError, SwsError
from sws_compress.messages import one_line, shown

NAME = "model.onnx"
"""Name of the file that is measured, in a folder of its own."""


class FileMetric:
    """A metric of ONNX files; no file is measured twice.

    Parameters
    ----------
    evaluate : callable
        Takes the path of an ONNX file and returns a number.
    original : Path
        The file to compress.
    """

    def __init__(self, evaluate: Callable[[Any], float], original: Path) -> None:
        self._evaluate, self._original = evaluate, original
        self._known: dict[bytes, float] = {}

    @cached_property
    def before(self) -> float:
        """That of the original."""
        return self._of_file(self._original)

    def of(self, data: bytes) -> float:
        """That of a file which is not written yet.

        Parameters
        ----------
        data : bytes
            The file.

        Raises
        ------
        DataError
            If the caller's function raises, or returns anything but a finite number.
        """
        digest = hashlib.sha256(data).digest()
        if digest not in self._known:
            with tempfile.TemporaryDirectory(prefix="sws-compress-") as folder:
                path = Path(folder) / NAME
                path.write_bytes(data)
                self._known[digest] = self._of_file(path)
        return self._known[digest]

    def _of_file(self, path: Path) -> float:
        return finite(metric(self._evaluate, path, "the path of an ONNX file"))


def metric(evaluate: Callable[[Any], float], model: Any, kind: str) -> float:
    """What the caller's function says of a model.

    Parameters
    ----------
    evaluate : callable
        The function.
    model, kind : object, str
        What it gets, and what that is, for messages.

    Raises
    ------
    DataError
        If the function raises, or returns no number.
    """
    try:
        found = evaluate(model)
    except SwsError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"evaluate must return a number for {kind}, got "
            f"{one_line(f'{type(error).__name__}: {error}'.removesuffix(': '))}: correct the function"
        ) from error
    return number(found)


def number(found: Any) -> float:
    """What ``evaluate`` returned, as a number. Raises DataError if it is none."""
    try:
        return _refused(found) if isinstance(found, str | bytes | bool | np.bool_) else float(found)
    except (TypeError, ValueError, RuntimeError):  # torch raises RuntimeError for tensors with several elements
        return _refused(found)


def finite(found: float) -> float:
    """A metric that others can be compared with. Raises DataError if it is NaN or infinite."""
    return found if math.isfinite(found) else _refused(found)


def _refused(found: Any) -> NoReturn:
    raise DataError(f"evaluate must return a finite number, got {shown(found)}: correct the function")
