"""ONNX Runtime sessions on the CPU, in the child process, and whether a file that was written loads."""

from __future__ import annotations

import itertools
import os
import re
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt

from sws_compress.child_process.client import CallError, child_lives, in_child
from sws_compress.child_process.limits import Limits, loading, own, running
from sws_compress.errors import ModelError, VerificationError
from sws_compress.messages import first_line, one_line
from sws_compress.onnx_io.native import check_fully
from sws_compress.onnx_io.read.on_disk import bytes_on_disk
from sws_compress.ort import worker

Array = npt.NDArray[Any]


Model = bytes | str | os.PathLike[str]
"""The bytes of a model without external data, or the path of a model."""


_SOURCE_LINE = re.compile(r"/\S+:\d+ .*?\)(?: const)? (?=[A-Za-z\[])")
"""The place in the runtime's C++ that its messages name."""


_STATUS = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
"""The status codes in the runtime's messages."""


class SessionError(ModelError):
    """ONNX Runtime does not run a model.

    Parameters
    ----------
    reason : str
        What it says, on one line without its status code and lines of C++, or how it ended.
    out_of_bounds : bool
        Whether it took too much time or memory, or crashed.
    """

    def __init__(self, reason: str, *, out_of_bounds: bool) -> None:
        text = " ".join(reason.split())
        self.reason = one_line(_SOURCE_LINE.sub("", _STATUS.sub("", text))) or "an error without a message"
        self.out_of_bounds = out_of_bounds
        super().__init__(f"model must run in ONNX Runtime, got '{self.reason}': give another one")


@dataclass(frozen=True)
class Entry:
    """An input or output of a model.

    Parameters
    ----------
    name : str
    type : str
        The runtime's name, like ``tensor(float)``.
    shape : tuple
        Sizes; None or a name where a dimension is free.
    """

    name: str
    type: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class Profile:
    """What the kernels of a model took.

    Parameters
    ----------
    seconds : float
    output_bytes : int
        Bytes of all their outputs.
    """

    seconds: float
    output_bytes: int


_numbers = itertools.count()
_left: list[int] = []
"""Numbers of sessions that nobody holds any more, to be dropped by the child."""


class Session:
    """A model that is loaded in the child process; another child loads it again when it is run.

    Parameters
    ----------
    load : callable
        Loads the model under a number and returns its inputs and outputs.
    model_bytes : int
        Size of the model, for the limits.
    trusted : bool
        Whether this package wrote the model.

    Attributes
    ----------
    inputs, outputs : tuple of Entry
    load_seconds : float
        Time that loading took in the child process.
    """

    def __init__(self, load: Callable[[int], dict[str, Any]], *, model_bytes: int, trusted: bool) -> None:
        self._load, self._model_bytes, self._trusted = load, model_bytes, trusted
        self._number = next(_numbers)
        weakref.finalize(self, _left.append, self._number).atexit = False
        stated = load(self._number)
        self.load_seconds = float(stated["seconds"])
        self.inputs, self.outputs = (
            tuple(Entry(name, kind, tuple(shape)) for name, kind, shape in stated[key]) for key in ("inputs", "outputs")
        )

    def run(self, feeds: Mapping[str, Any], *, given: bool = True) -> list[Any]:
        """All outputs.

        Parameters
        ----------
        feeds : mapping of str to ndarray
            Inputs by name.
        given : bool
            Whether the caller chose them: inputs that are only tried may take less time.

        Returns
        -------
        list
            In the order of the model: arrays, those of text with dtype object; lists and dicts for sequences and maps.

        Raises
        ------
        SessionError
            If the model does not run, or not within its limits.
        """
        input_bytes = sum(int(getattr(values, "nbytes", 0)) for values in feeds.values())
        limits = own() if self._trusted else running(self._model_bytes, input_bytes, given=given)
        outputs = _called(worker.run, self._number, dict(feeds), limits=limits)
        if outputs is None:  # the child has ended since
            self._load(self._number)
            outputs = _called(worker.run, self._number, dict(feeds), limits=limits)
        return list(outputs)

    def timed(self, feeds: Mapping[str, Any], *, most_runs: int, most_seconds: float) -> list[float]:
        """Seconds of each of some runs, one after the other, in the child process.

        Parameters
        ----------
        feeds : mapping of str to ndarray
            Inputs by name, on which the model ran before.
        most_runs : int
            Runs at most, besides the first one, which is left out if there are others.
        most_seconds : float
            No other run begins after this time.

        Raises
        ------
        SessionError
            If the model does not run.
        """
        input_bytes = sum(int(getattr(values, "nbytes", 0)) for values in feeds.values())
        limits = running(self._model_bytes, input_bytes, given=True)
        seconds = _called(worker.timed, self._number, dict(feeds), most_runs, most_seconds, limits=limits)
        return [float(each) for each in seconds]

    def profile(self) -> Profile:
        """What has been run, for a session that records it."""
        seconds, output_bytes = _called(worker.profiled, self._number, limits=loading(self._model_bytes))
        return Profile(float(seconds), int(output_bytes))

    def close(self) -> None:
        """Free the model's memory."""
        if child_lives():
            _called(worker.drop, [self._number], limits=loading(0))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def session(
    model: Model,
    *,
    optimized_path: Path | None = None,
    optimize: bool = True,
    profile: Path | None = None,
    trusted: bool = False,
) -> Session:
    """Load a model in ONNX Runtime on the CPU, in the child process; nothing of the runtime reaches the terminal.

    Parameters
    ----------
    model : bytes or path-like
        The model.
    optimized_path : Path or None
        If given, the graph is only constant-folded and simplified, and written there.
    optimize : bool
        False loads the graph as it is.
    profile : Path or None
        If given, the runtime records what it does in a file whose name begins so; `Session.profile` reads it.
    trusted : bool
        Whether this package wrote the model, from one that ran: it may take the memory of the machine.

    Returns
    -------
    Session

    Raises
    ------
    VerificationError
        If the model does not load; its cause is a SessionError.
    """
    source = model if isinstance(model, bytes) else os.path.abspath(os.fspath(model))
    size = 0 if trusted else _model_bytes(model)
    limits = own() if trusted else loading(size)
    paths = [None if path is None else os.path.abspath(path) for path in (optimized_path, profile)]

    def load(number: int) -> dict[str, Any]:
        left = [_left.pop() for _ in range(len(_left))]
        answer: dict[str, Any] = _called(worker.load, number, source, paths[0], optimize, paths[1], left, limits=limits)
        return answer

    try:
        return Session(load, model_bytes=size, trusted=trusted)
    except SessionError as error:
        raise VerificationError(
            f"written model must load in ONNX Runtime, got '{error.reason}': report this"
        ) from error


def reason_of(error: BaseException) -> str:
    """What ONNX Runtime said, for an error that a SessionError has caused; the first line of any other."""
    cause = error if isinstance(error, SessionError) else error.__cause__
    return cause.reason if isinstance(cause, SessionError) else first_line(cause or error)


def out_of_bounds(error: BaseException) -> bool:
    """Whether an error was caused by a model that took too much time or memory, or crashed."""
    cause = error if isinstance(error, SessionError | CallError) else error.__cause__
    return isinstance(cause, SessionError | CallError) and cause.out_of_bounds


def runtime_error(error: BaseException) -> SessionError | None:
    """The SessionError that an error is, or that caused it, directly or through others; None if there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, SessionError):
        cause = cause.__cause__
    return cause


def runtime_version() -> str:
    """The version of ONNX Runtime."""
    return str(_called(worker.version, limits=loading(0)))


def check_runs(model: Model) -> None:
    """Check that a model of ours passes the full ONNX check and that ONNX Runtime loads it on the CPU.

    Raises
    ------
    VerificationError
        If it does not.
    """
    check_sound(model)
    session(model, trusted=True).close()


def check_loads(path: Path) -> None:
    """`check_runs`, without computing or optimising anything at load: takes little memory for the model's size."""
    check_sound(path)
    session(path, optimize=False, trusted=True).close()


def check_sound(model: Model) -> None:
    """Check that a model of ours passes the full ONNX check, which does not read external data.

    Raises
    ------
    VerificationError
        If it does not.
    """
    try:
        check_fully(model)
    except CallError as error:
        raise VerificationError(
            f"written model must pass the ONNX checker, got '{first_line(error)}': report this"
        ) from error


def _called(function: Callable[..., Any], *arguments: object, limits: Limits) -> Any:
    try:
        return in_child(function, *arguments, limits=limits)
    except CallError as error:
        raise SessionError(error.reason, out_of_bounds=error.out_of_bounds) from error


def _model_bytes(model: Model) -> int:
    """Size of a model with its external data; 0 if it cannot be told."""
    if isinstance(model, bytes):
        return len(model)
    try:
        return bytes_on_disk(Path(model))
    except (ModelError, OSError):  # the runtime will say what is wrong
        return 0
