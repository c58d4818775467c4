"""Logs of a training run: rows of numbers in a CSV or JSON-lines file, or in a folder for TensorBoard."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias

from sws_compress.errors import ArgumentError, OutputError
from sws_compress.files import write_atomically

Row: TypeAlias = Mapping[str, float | str | None]
"""Values by the names in `COLUMNS`; None for what is not known yet."""

COLUMNS = (
    "step",
    "total_steps",
    "stage",
    "loss",
    "metric",
    "projected_bytes",
    "coded_bits",
    "ratio",
    "bit_price",
    "components",
    "mergers",
)
"""Columns of every log, in order."""


class TrainingLog(Protocol):
    """A log that rows are added to.

    Steps rise within a run; a run that is resumed starts at a later step than 1. The first row that is written drops
    the rows of earlier runs from its step on. So no step is there twice, and a run from the start replaces the log.
    """

    def write(self, row: Row) -> None:
        """Add a row; it is in the file when this returns.

        Parameters
        ----------
        row : mapping of str to float, str or None
            A value for every name in `COLUMNS`.

        Raises
        ------
        OutputError
            If the log cannot be written.
        """

    def close(self) -> None:
        """Close the log; nothing can be written afterwards."""


def open_log(path: Path) -> TrainingLog:
    """Open a log; nothing is written yet.

    Parameters
    ----------
    path : Path
        A file that ends in ``.csv`` or ``.jsonl``, or a folder for TensorBoard. It need not exist.

    Returns
    -------
    TrainingLog
        The log, to be closed in the end.

    Raises
    ------
    ArgumentError
        If the path has another ending, if the file holds something else, or if tensorboard is needed and not installed.
    OutputError
        If the file cannot be read.
    """
    if path.is_dir() or not path.suffix:
        return TensorBoardLog(path)
    kind = {".csv": CsvLog, ".jsonl": JsonLinesLog}.get(path.suffix.lower())
    if kind is None:
        raise ArgumentError(
            f"log must end in .csv or .jsonl, or be a folder for TensorBoard, got {path.name}: choose one of them"
        )
    return kind(path)


class _FileLog(ABC):
    """A log with one line per row.

    A line is written at once, so that a run that is killed leaves whole rows and at most half of another one, which the
    next run drops.
    """

    header = b""
    opening = b""
    """The first bytes of every such file; no other file is overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: BinaryIO | None = None
        self._older()

    @abstractmethod
    def _line(self, row: Row) -> bytes: ...

    @abstractmethod
    def _step(self, line: bytes) -> int:
        """Step of a row; ValueError, KeyError or TypeError if the line is no row."""

    def write(self, row: Row) -> None:
        try:
            if self._stream is None:
                older = self._older()
                kept = [line for line in older if self._step(line) < int(row["step"] or 0)]
                write_atomically(self.path, self.header + b"".join(kept))
                self._stream = self.path.open("ab", buffering=0)
            self._stream.write(self._line(row))
        except OSError as error:
            raise self._unusable("writable", error) from error

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _older(self) -> list[bytes]:
        """The whole rows of the file that is there already; ArgumentError if it is no such log."""
        try:
            data = self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise self._unusable("readable", error) from error
        if not data.strip():
            return []
        lines = [line + b"\n" for line in data.split(b"\n")[:-1]]
        try:
            if not data.startswith(self.opening):
                raise ValueError
            rows = lines[1:] if self.header else lines
            for line in rows:
                self._step(line)
        except (ValueError, KeyError, TypeError) as error:
            raise ArgumentError(
                f"log {self.path} must be the log of a training run or a new file, got other contents: "
                "choose another path, or delete it"
            ) from error
        return rows

    def _unusable(self, rule: str, error: OSError) -> OutputError:
        reason = error.strerror or error
        return OutputError(f"log {self.path} must be {rule}, got '{reason}': choose another path, or make room")


class CsvLog(_FileLog):
    """A header of `COLUMNS`, then one line per row; unknown values are empty."""

    header = opening = (",".join(COLUMNS) + "\n").encode()

    def _line(self, row: Row) -> bytes:
        cells = ("" if row[name] is None else str(row[name]) for name in COLUMNS)
        return (",".join(cells) + "\n").encode()

    def _step(self, line: bytes) -> int:
        cells = line.split(b",")
        if len(cells) != len(COLUMNS):
            raise ValueError
        return int(cells[0])


class JsonLinesLog(_FileLog):
    """One JSON object per row; unknown, infinite and NaN values are null."""

    opening = b'{"step": '

    def _line(self, row: Row) -> bytes:
        values = {name: _json_value(row[name]) for name in COLUMNS}
        return (json.dumps(values, allow_nan=False) + "\n").encode()

    def _step(self, line: bytes) -> int:
        return int(json.loads(line)["step"])


class TensorBoardLog:
    """One scalar per column; TensorBoard hides the steps that a later run repeats (``purge_step``)."""

    def __init__(self, folder: Path) -> None:
        self._writer_type: Callable[..., Any] = _summary_writer(folder)
        self.folder = folder
        self._writer: Any = None
        self._stage: object = None

    def write(self, row: Row) -> None:
        step = int(row["step"] or 0)
        try:
            if self._writer is None:
                self._writer = self._writer_type(log_dir=str(self.folder), purge_step=step)
            for name in COLUMNS[3:]:
                if row[name] is not None:
                    self._writer.add_scalar(name, row[name], step)
            if row["stage"] != self._stage:
                self._stage = row["stage"]
                self._writer.add_text("stage", str(self._stage), step)
            self._writer.flush()
        except OSError as error:
            raise OutputError(
                f"log folder {self.folder} must be writable, got '{error.strerror or error}': choose another"
            ) from error

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _summary_writer(folder: Path) -> Callable[..., Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ArgumentError(
            f"log must be a .csv or .jsonl file without tensorboard, got the folder {folder}: "
            "pip install 'sws-compress[tensorboard]'"
        ) from error
    return SummaryWriter


def _json_value(value: float | str | None) -> float | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value
