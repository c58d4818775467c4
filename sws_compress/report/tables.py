"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from sws_compress.graph.inspect import TensorRow
from sws_compress.report.result import CompressionResult, Inspection, Verification


def tensors_table(rows: Iterable[TensorRow]) -> Table:
    """One line a weight tensor; entropy and bits are per weight."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("tensor", overflow="fold")
    for heading in ("shape", "encoding"):
        table.add_column(heading, no_wrap=True)
    for heading in ("values", "zeros", "entropy", "bits", "bytes", "of file"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            "x".join(map(str, row.shape)) or "scalar",
            row.encoding,
            f"{row.distinct_values:,}",
            f"{100 * row.zeros:.1f} %",
            f"{row.entropy_bits:.3f}",
            f"{row.file_bits:.3f}",
            f"{row.file_bytes:,.0f}",
            f"{100 * row.file_share:.1f} %",
        )
    return table


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
        ("checked", f"all weights equal, outputs within {result.largest_difference:.1e}"),
        ("time", f"{result.seconds:.1f} s"),
    ]
    return Group(tensors_table(result.tensors), _summary(lines))


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
    return Group(tensors_table(parts.rows), _summary(lines))


def verification_table(verification: Verification) -> RenderableType:
    """Outputs with their differences, then the verdict."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("output", overflow="fold")
    table.add_column("largest difference", justify="right")
    table.add_column("relative", justify="right")
    for output in verification.outputs:
        table.add_row(output.name, f"{output.largest_absolute:.3g}", f"{output.largest_relative:.3g}")
    original, compressed = verification.original_bytes, verification.compressed_bytes
    lines = [
        ("original", f"{original:,} bytes"),
        ("compressed", f"{compressed:,} bytes ({original / compressed:.1f}x smaller)"),
        ("verdict", f"{'passed' if verification.passed else 'FAILED'} at tolerance {verification.tolerance:g}"),
    ]
    return Group(table, _summary(lines))


def _summary(lines: Iterable[tuple[str, str]]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    for line in lines:
        table.add_row(*line)
    return table
