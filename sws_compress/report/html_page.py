"""The page of a file: one HTML document that holds all it shows, and asks no server for anything.

Names in it come from files that nobody vouches for. The template escapes whatever it is given; besides, the page's own
policy lets nothing run but the script whose hash it states.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sws_compress.onnx_io.format.held import FLOATS
from sws_compress.report.file_reports import KIND_NAMES
from sws_compress.report.inspection import TensorRow
from sws_compress.report.model_report import ModelReport
from sws_compress.report.page_drawings import chart_drawing, curve_drawing
from sws_compress.report.result import ratio_text
from sws_compress.report.tables import HEADINGS, figures
from sws_compress.terminal.printing import visible

MAX_ROWS = 1000
"""Rows of the table: some 400 kB."""

MAX_SLICES = 6
"""Tensors that are named in a bar."""

HELD = ("in memory", "as")
"""Columns where weights stay in integers."""

TEXTS = ("tensor", "encoding", "as", "kind")
"""Columns of texts; others are numbers, or sorted by one."""

UNITS = ("bytes", "kB", "MB", "GB", "TB")


def html_page(report: ModelReport) -> str:
    """The page of a report, as text."""
    environment = Environment(
        loader=PackageLoader("sws_compress.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible_lines(value) if type(value) is str else value,
    )
    script = _source(environment, "page.js")
    return environment.get_template("page.html").render(
        style=Markup(_source(environment, "page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=version("sws-compress"),
        title=report.path.name,
        code=report.code,
        **_summary(report),
        **_bytes_and_tensors(report),
        **_drawings(report),
    )


def visible_lines(text: str) -> str:
    r"""A text with escapes for all characters that cannot be seen, except ends of lines.

    Examples
    --------
    >>> visible_lines("a\u202eb\nc")
    'a\\u202eb\nc'
    """
    return "\n".join(map(visible, text.split("\n")))


def size_text(count: float) -> str:
    """A number of bytes with three digits.

    Examples
    --------
    >>> size_text(999), size_text(12_345), size_text(1_234_567), size_text(999_999)
    ('999 bytes', '12.3 kB', '1.23 MB', '1.00 MB')
    """
    power = 0
    while power < len(UNITS) - 1 and count >= (1000 if power == 0 else 999.5):
        count, power = count / 1000, power + 1
    digits = 0 if power == 0 or count >= 99.95 else 1 if count >= 9.995 else 2
    return f"{count:.{digits}f} {UNITS[power]}"


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _summary(report: ModelReport) -> dict[str, Any]:
    """What is said of the whole file."""
    result, dense, size = report.result, report.dense_bytes, report.file_bytes
    checks = [] if result is None else result.checks
    return {
        "verdict": f"{size:,} bytes" if dense is None else f"{size:,} bytes, {ratio_text(dense / size)} smaller",
        "tiles": _tiles(report),
        "warnings": () if result is None else result.warnings,
        "notes": () if result is None else result.notes,
        "checks": checks,
    }


def _tiles(report: ModelReport) -> list[dict[str, str]]:
    result, dense, size, parts = report.result, report.dense_bytes, report.file_bytes, report.inspection.parts
    tiles = []
    if dense is not None:
        tiles.append(("before", size_text(dense), f"{dense:,} bytes as a plain file"))
    tiles.append(("after" if dense is not None else "file", size_text(size), f"{size:,} bytes"))
    if dense is not None:
        tiles.append(("ratio", ratio_text(dense / size), f"{100 * size / dense:.3g} % of the plain file"))
    if result is not None and result.before is not None:
        after = "not measured" if result.after is None else f"{result.after:.4g}"
        tiles.append(("metric", after, f"{result.before:.4g} before"))
    if result is not None and result.output_error == result.output_error:
        kind = "random" if result.random_inputs else "given"
        tiles.append(("output error", f"{100 * result.output_error:.2g} %", f"on {kind} inputs"))
    if result is not None and result.bits_per_weight is not None:
        zeros = f"{100 * result.zeros:.1f} % of the weights are zero"
        tiles.append(("bits per weight", f"{result.bits_per_weight:.3g}", zeros))
    if parts.decoding.computed_bytes:
        memory = f"and {size_text(parts.decoding.computed_bytes)} for it, measured here"
        tiles.append(("decoding at load", _duration(parts.decoding.seconds), memory))
    tiles += _running_tiles(report)
    return [dict(zip(("label", "value", "detail"), tile, strict=True)) for tile in tiles]


def _running_tiles(report: ModelReport) -> list[tuple[str, str, str]]:
    """What loading and running take, and what a runtime holds of the weights."""
    tiles, cost, before = [], report.cost, report.cost_before
    if cost is not None:
        load = "" if before is None else f"{_duration(before.load_seconds)} before, "
        run = "" if before is None else f"{_duration(before.run_seconds)} before, "
        tiles.append(("loading", _duration(cost.load_seconds), f"{load}measured here"))
        tiles.append(("a run", _duration(cost.run_seconds), f"{run}on random inputs"))
    parts = report.inspection.parts
    if parts.compressed and (held := sum(row.held_bytes for row in parts.rows)):
        integers = sum(row.held_bytes for row in parts.rows if row.route != FLOATS)
        packed = f"{100 * integers / held:.0f} % of it as integers" if integers else "as floats, once it is loaded"
        tiles.append(("weights in memory", size_text(held), packed))
    return tiles


def _duration(seconds: float) -> str:
    for least, factor, unit in ((0.1, 1, "s"), (1e-4, 1e3, "ms")):
        if seconds >= least:
            return f"{factor * seconds:.2g} {unit}"
    return f"{1e6 * seconds:.2g} µs"


def _bytes_and_tensors(report: ModelReport) -> dict[str, Any]:
    """The bars of bytes, and the table."""
    rows, total = report.inspection.parts.rows, report.file_bytes
    largest = sorted(rows, key=lambda row: -row.file_bytes)
    slices = [(row.name, row.file_bytes) for row in largest[:MAX_SLICES]]
    if others := largest[MAX_SLICES:]:
        slices.append((f"{len(others):,} other tensors", sum(row.file_bytes for row in others)))
    slices.append(("graph and shared decoders", total - sum(size for _, size in slices)))
    bars = [("By kind", report.parts.named), ("By tensor", slices)]
    numbers = {name: number for number, name in enumerate(report.charts)}
    shown = rows if len(rows) <= MAX_ROWS else [row for row in rows if row in set(largest[:MAX_ROWS])]
    more = len(rows) - len(shown)
    headings = (*HEADINGS, *HELD) if any(row.route != FLOATS for row in rows) else HEADINGS
    return {
        "bars": [{"title": title, "slices": _slices(parts, total)} for title, parts in bars],
        "headings": [(heading, heading in TEXTS) for heading in ("tensor", *headings, "kind")],
        "rows": [{"name": row.name, "chart": numbers.get(row.name), "cells": _cells(row, headings)} for row in shown],
        "more_rows": f"{more:,} smaller tensors are not shown: sws-compress inspect lists all." if more else "",
    }


def _slices(parts: Sequence[tuple[str, float]], total: int) -> list[dict[str, Any]]:
    return [
        {"name": name, "size": round(size), "text": f"{size_text(size)}, {100 * size / total:.3g} %"}
        for name, size in parts
        if size > 0
    ]


def _cells(row: TensorRow, headings: Sequence[str]) -> list[dict[str, Any]]:
    """The cells of a row, with what they are sorted by; text is sorted as text."""
    numbers = {
        "shape": row.size,
        "values": row.distinct_values,
        "zeros": row.zeros,
        "entropy": row.entropy_bits,
        "bits": row.file_bits,
        "bytes": row.file_bytes,
        "of file": row.file_share,
        "in memory": row.held_bytes,
    }
    told = [*zip(headings, figures(row, headings), strict=True), ("kind", KIND_NAMES[row.kind])]
    return [{"text": text, "number": numbers.get(heading)} for heading, text in told]


def _drawings(report: ModelReport) -> dict[str, Any]:
    """The curve and the charts."""
    charts, result = tuple(report.charts.values()), report.result
    rows = {row.name: row for row in report.inspection.parts.rows}
    left_out = sum(1 for row in rows.values() if row.name not in report.charts)
    others = f" Smaller tensors and integers that are not drawn: {left_out:,}." if left_out else ""
    before = sum(chart.before for chart in charts)
    of = "weights before" if before == len(charts) else "weights before, or in the file" if before else "weights"
    return {
        "curve": None if result is None else curve_drawing(result.curve, result.file_bytes, result.before),
        "charts": [chart_drawing(chart, rows[chart.name]) for chart in charts],
        "charts_text": "Counts are logarithmic. In the matrices, blue is below zero, red above, stronger further from "
        f"it; tensors with scales are shown before scaling.{others}",
        "histogram_text": of,
        "mixtures": any(chart.mixture is not None for chart in charts),
    }
