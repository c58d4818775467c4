"""Results as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from sws_compress.graph.inspect import TensorRow
from sws_compress.report.result import CompressionResult, ExpansionResult, Inspection, Verification


@dataclass(frozen=True)
class TensorsTable:
    """One line a weight tensor; entropy and bits are per weight.

    Names that would not fit beside the figures are put on lines of their own: network weights have long ones.
    """

    rows: tuple[TensorRow, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = ["tensor", *(row.name for row in self.rows)]
        figures = [HEADINGS, *map(_figures, self.rows)]
        widths = [max(map(len, column)) for column in zip(*figures, strict=True)]
        widest = max(map(len, names))
        room = options.max_width - widest - sum(widths)
        gap = " " * (2 if room >= 2 * len(widths) else 1)
        yield Text()
        for name, cells in zip(names, figures, strict=True):
            line = gap.join(_cells(cells, widths))
            start = f"{name:<{widest}}{gap}" if room >= len(widths) else f"{name}\n  "
            yield Text(start + line, "bold" if cells is HEADINGS else "", overflow="fold")
        yield Text()


HEADINGS = ("shape", "encoding", "values", "zeros", "entropy", "bits", "bytes", "of file")
TEXT_COLUMNS = 2
"""The first columns are flush left, those of numbers flush right."""


def _figures(row: TensorRow) -> tuple[str, ...]:
    return (
        "x".join(map(str, row.shape)) or "scalar",
        row.encoding,
        f"{row.distinct_values:,}",
        f"{100 * row.zeros:.1f} %",
        f"{row.entropy_bits:.3f}",
        f"{row.file_bits:.3f}",
        f"{row.file_bytes:,.0f}",
        f"{100 * row.file_share:.1f} %",
    )


def _cells(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        yield cell.ljust(width) if i < TEXT_COLUMNS else cell.rjust(width)


def compression_table(result: CompressionResult, more: Iterable[tuple[str, str]] = ()) -> RenderableType:
    """Tensors, then what the whole file came to; ``more`` are further lines of the summary."""
    metric = [] if result.before is None else [("metric before, after", f"{result.before:.4g}, {result.after:.4g}")]
    lines = [
        ("original", f"{result.dense_bytes:,} bytes"),
        (str(result.output), f"{result.file_bytes:,} bytes"),
        ("ratio", f"{result.ratio:.1f}x"),
        *metric,
        *more,
        ("zeros", f"{100 * result.zeros:.1f} %"),
        ("bits per weight", f"{result.bits_per_weight:.3f}"),
        ("checked", "all weights equal, " + _outputs_checked(result)),
        ("time", f"{result.seconds:.1f} s"),
        *(("note", note) for note in result.notes),
    ]
    return Group(TensorsTable(result.tensors), _summary(lines))


def _outputs_checked(result: CompressionResult) -> str:
    if math.isnan(result.largest_difference):
        return "outputs not compared: too large"
    return f"outputs within {result.largest_difference:.1e}"


def inspection_table(inspection: Inspection) -> RenderableType:
    """Tensors, then where the rest of the bytes are."""
    parts = inspection.parts
    version = parts.format_version
    lines = [
        ("file", f"{inspection.disk_bytes:,} bytes"),
        ("shared decoders", f"{parts.shared_bytes:,} bytes"),
        ("network graph", f"{parts.graph_bytes:,} bytes"),
        ("compressed", "no" if version is None else f"yes, format {version}"),
    ]
    return Group(TensorsTable(parts.rows), _summary(lines))


def verification_table(verification: Verification) -> RenderableType:
    """Outputs with their differences, then the verdict."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("output", overflow="fold")
    table.add_column("largest difference", justify="right")
    table.add_column("relative", justify="right")
    for output in verification.outputs:
        table.add_row(Text(output.name), f"{output.largest_absolute:.3g}", f"{output.largest_relative:.3g}")
    original, compressed = verification.original_bytes, verification.compressed_bytes
    lines = [
        ("original", f"{original:,} bytes"),
        ("compressed", f"{compressed:,} bytes ({original / compressed:.1f}x smaller)"),
        ("verdict", f"{'passed' if verification.passed else 'FAILED'} at tolerance {verification.tolerance:g}"),
    ]
    return Group(table, _summary(lines))


def expansion_table(result: ExpansionResult) -> RenderableType:
    """Sizes of the two files."""
    return _summary(
        [
            ("compressed", f"{result.compressed_bytes:,} bytes"),
            (str(result.output), f"{result.file_bytes:,} bytes"),
            ("decoded weights", f"{len(result.expanded):,}"),
        ]
    )


def _summary(lines: Iterable[tuple[str, str]]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))  # names and paths may have brackets, which are no markup
    return table
