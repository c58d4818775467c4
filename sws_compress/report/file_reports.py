"""What the commands that read models give: as data, as plain values for JSON, and as tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sws_compress.messages import shown
from sws_compress.onnx_io.analyse.tensor_kinds import FLOAT, INTEGERS, QUANTISED
from sws_compress.onnx_io.format.held import FLOATS
from sws_compress.ort.decode import Decoding
from sws_compress.ort.differences import OutputDifference
from sws_compress.ort.still_packed import StillPacked
from sws_compress.ort.weight_differences import WeightDifference
from sws_compress.report.distances import untold_lines
from sws_compress.report.inspection import ModelParts, tensor_json
from sws_compress.report.printed import Printed
from sws_compress.report.tables import TensorsTable, summary

KIND_NAMES = {FLOAT: "floats", QUANTISED: "quantised weights", INTEGERS: "other integers"}
"""What kinds of tensors are called in the summary of a file."""

RANDOM_INPUTS = "random: real ones may take other branches and larger values; judge by them (--inputs)"
"""How much a verification on random inputs tells."""


@dataclass(frozen=True, repr=False)
class Inspection(Printed):
    """What a model file is made of.

    Parameters
    ----------
    path : Path
        The file.
    disk_bytes : int
        Its size with all files of external data, in bytes.
    parts : ModelParts
        Its weights and their bytes.
    """

    path: Path
    disk_bytes: int
    parts: ModelParts

    def __rich__(self) -> RenderableType:
        parts = self.parts
        version = parts.format_version
        lines = [
            ("file", f"{self.disk_bytes:,} bytes"),
            *((name, f"{total:,} bytes") for kind, name in KIND_NAMES.items() if (total := parts.bytes_of(kind))),
            ("shared decoders", f"{parts.shared_bytes:,} bytes"),
            *_held_lines(parts),
            ("network graph", f"{parts.graph_bytes:,} bytes"),
            ("compressed", "no" if version is None else f"yes, format {version}"),
            *([] if version is None else [("loading", _loading(parts.decoding))]),
        ]
        return Group(TensorsTable(parts.rows), summary(lines))

    def __repr__(self) -> str:
        return f"<Inspection {self.path}: {self.disk_bytes:,} bytes, {len(self.parts.rows)} tensors>"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "path": str(self.path),
            "disk_bytes": self.disk_bytes,
            "shared_bytes": self.parts.shared_bytes,
            "graph_bytes": self.parts.graph_bytes,
            "format_version": self.parts.format_version,
            "decoding": dataclasses.asdict(self.parts.decoding),
            "tensors": [tensor_json(row) for row in self.parts.rows],
        }


def _held_lines(parts: ModelParts) -> Iterator[tuple[str, str]]:
    """What a runtime holds of the weights, where some stay in integers."""
    routes = dict.fromkeys(row.route for row in parts.rows)
    if set(routes) - {FLOATS}:
        held = {route: sum(row.held_bytes for row in parts.rows if row.route == route) for route in routes}
        yield (
            "weights in memory",
            f"{sum(held.values()):,} bytes: " + ", ".join(f"{total:,} {route}" for route, total in held.items()),
        )


@dataclass(frozen=True, repr=False)
class Verification(Printed):
    """Outputs of a compressed model beside those of the original, on the same inputs, and the weights of large ones.

    Parameters
    ----------
    original, compressed : Path
        The two files.
    original_bytes, compressed_bytes : int
        Their sizes, in bytes.
    outputs : tuple of OutputDifference
        The largest difference of every output; empty if ONNX Runtime could not run both models, which a note tells.
    tolerance : float
        The largest `OutputDifference.deviation` that passes.
    random_inputs : bool
        Whether the inputs were drawn at random rather than given.
    weights : tuple of WeightDifference
        The weights that both files of a large model have.
    notes : tuple of str
        What the user should know besides, one line each.
    still_packed : StillPacked or None
        Whether the compressed file still is packed, if that was asked for.
    """

    original: Path
    compressed: Path
    original_bytes: int
    compressed_bytes: int
    outputs: tuple[OutputDifference, ...]
    tolerance: float
    random_inputs: bool = False
    weights: tuple[WeightDifference, ...] = ()
    notes: tuple[str, ...] = ()
    still_packed: StillPacked | None = None

    @property
    def passed(self) -> bool:
        """Whether no output deviates by more than `tolerance` or is never finite, and some output is not empty.

        Where outputs were not compared, whether no weight differs by more. A file that is to be packed still is.
        """
        if self.still_packed is not None and not self.still_packed.passed:
            return False
        if self.weights and not self.outputs:
            return all(weight.relative_error <= self.tolerance for weight in self.weights)
        within = all(output.deviation <= self.tolerance for output in self.outputs)
        return within and any(output.untold is None for output in self.outputs)

    def __rich__(self) -> RenderableType:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("output", overflow="fold")
        table.add_column("largest difference", justify="right")
        table.add_column("relative", justify="right")
        table.add_column("relative error", justify="right")
        shares = any(output.differing_share is not None for output in self.outputs)
        if shares:
            table.add_column("entries that differ", justify="right")
        for output in self.outputs:
            share = "" if output.differing_share is None else f"{100 * output.differing_share:.3g} %"
            figures = [
                f"{value:.3g}" for value in (output.largest_absolute, output.largest_relative, output.relative_error)
            ]
            table.add_row(Text(output.name), *figures, *([share] if shares else []))
        original, compressed = self.original_bytes, self.compressed_bytes
        smaller = original >= compressed
        change = f"{original / compressed:.1f}x smaller" if smaller else f"{compressed / original:.1f}x larger"
        lines = [
            ("original", f"{original:,} bytes"),
            ("compressed", f"{compressed:,} bytes ({change})"),
            *([("inputs", RANDOM_INPUTS if self.random_inputs else "given")] if self.outputs else []),
            *_weights(self.weights),
            *([] if self.still_packed is None else [("still packed", self.still_packed.line)]),
            ("verdict", self._verdict()),
            *(("warning", line) for line in untold_lines(self.outputs)),
            *(("note", note) for note in self.notes),
        ]
        return Group(*([table] if self.outputs else []), summary(lines))

    def __repr__(self) -> str:
        return f"<Verification {self.compressed}: {self._verdict()}>"

    def _verdict(self) -> str:
        return f"{'passed' if self.passed else 'FAILED'} at tolerance {self.tolerance:g}"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **dataclasses.asdict(self),
            "original": str(self.original),
            "compressed": str(self.compressed),
            "passed": self.passed,
            "inputs": "random" if self.random_inputs else "given",
        }


@dataclass(frozen=True, repr=False)
class ExpansionResult(Printed):
    """A plain model that was made from a compressed one.

    Parameters
    ----------
    output : Path
        The file that was written.
    compressed_bytes : int
        Size of the compressed model, in bytes.
    file_bytes : int
        Size of the plain model, in bytes.
    expanded : tuple of str
        Names of the weights that were decoded.
    notes : tuple of str
        What is not plain in it, one line each.
    """

    output: Path
    compressed_bytes: int
    file_bytes: int
    expanded: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __rich__(self) -> RenderableType:
        return summary(
            [
                ("compressed", f"{self.compressed_bytes:,} bytes"),
                (str(self.output), f"{self.file_bytes:,} bytes"),
                ("decoded weights", f"{len(self.expanded):,}"),
                *(("note", note) for note in self.notes),
            ]
        )

    def __repr__(self) -> str:
        return f"<ExpansionResult {self.output}: {self.file_bytes:,} bytes, {len(self.expanded)} weights decoded>"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**dataclasses.asdict(self), "output": str(self.output)}


def _loading(decoding: Decoding) -> str:
    """Time and memory; a runtime keeps all that it computes until everything is decoded."""
    return f"{decoding.seconds:.2f} s of decoding here, {decoding.computed_bytes / 1e6:,.1f} MB for it"


def _weights(weights: Sequence[WeightDifference]) -> Iterator[tuple[str, str]]:
    """A line about the weights of two models."""
    if weights:
        worst = max(weights, key=lambda weight: weight.relative_error)
        error = f"relative error at most {worst.relative_error:.2g}, of {shown(worst.name)}"
        yield "weights", f"{len(weights):,} compared, {error if worst.relative_error else 'all equal'}"
