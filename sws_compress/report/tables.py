"""Results as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from sws_compress.messages import first_few, shown
from sws_compress.onnx_io.analyse.tensor_kinds import FLOAT, INTEGERS, QUANTISED
from sws_compress.ort.decode import Decoding
from sws_compress.ort.differences import OutputDifference
from sws_compress.ort.weight_differences import WeightDifference
from sws_compress.report.clustered import ClusterReport, Picture, Place, TensorClusters
from sws_compress.report.distances import percent_text, untold_lines
from sws_compress.report.inspection import TensorRow
from sws_compress.report.result import CompressionResult, ExpansionResult, Inspection, Verification

HEADINGS = ("shape", "encoding", "values", "zeros", "entropy", "bits", "bytes", "of file")
LEFT_COLUMNS = 2
"""The first columns are flush left; numbers are flush right."""

KIND_NAMES = {FLOAT: "floats", QUANTISED: "quantised weights", INTEGERS: "other integers"}
"""What kinds of tensors are called in the summary of a file."""

RANDOM_INPUTS = "random: real ones may take other branches and larger values; judge by them (--inputs)"
"""How much a verification on random inputs tells."""

SCORES = "before a last softmax, sigmoid or argmax, they differ by"
"""What the error of the scores is that of."""

SMALL_RATIO = 2
"""Ratios below it have two decimals: 1.04x is not 1.0x."""

MAX_CLUSTER_LINES = 16
"""Lines for the clusters of one tensor."""


@dataclass(frozen=True)
class TensorsTable:
    """A table with one line per weight tensor; entropy and bits are per weight.

    Names have lines of their own where they do not fit beside the numbers, because those of network weights are long.

    Parameters
    ----------
    rows : tuple of TensorRow
        The tensors.
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
        yield cell.ljust(width) if i < LEFT_COLUMNS else cell.rjust(width)


def compression_table(result: CompressionResult, more: Iterable[tuple[str, str]] = ()) -> RenderableType:
    """Tables of a compression: its tensors, then a summary of the whole file.

    Parameters
    ----------
    result : CompressionResult
        The compression.
    more : iterable of (str, str)
        Further lines of the summary, each a name and a value.

    Returns
    -------
    RenderableType
        What a rich console prints.
    """
    metric = [] if result.before is None else [("metric before, after", f"{result.before:.4g}, {result.after:.4g}")]
    per_weight = result.bits_per_weight
    bits = [] if per_weight is None else [("bits per weight", f"{per_weight:.3f}")]
    lines = [
        ("original", f"{result.dense_bytes:,} bytes"),
        (str(result.output), f"{result.file_bytes:,} bytes"),
        *([] if result.parts is None else [("bytes of", str(result.parts))]),
        ("ratio", f"{result.ratio:.{1 if result.ratio >= SMALL_RATIO else 2}f}x"),
        *metric,
        *(("metric of a file", f"{size.metric:.4g} at {size.file_bytes:,} bytes") for size in result.curve),
        *more,
        ("zeros", f"{100 * result.zeros:.1f} %"),
        *bits,
        ("checked", _decoded(result)),
        ("outputs", _outputs(result)),
        *([] if math.isnan(result.score_error) else [("scores", f"{SCORES} {percent_text(result.score_error)}")]),
        ("time", f"{result.seconds:.1f} s"),
        *(("warning", warning) for warning in result.warnings),
        *(("note", note) for note in result.notes),
    ]
    return Group(TensorsTable(result.tensors), _summary(lines))


def _decoded(result: CompressionResult) -> str:
    """What the file was compared with: the snapped network, whose weights it stores."""
    if math.isnan(result.decoded_difference):
        return "weights decoded exactly, network not run"
    if math.isinf(result.decoded_difference):
        return "weights decoded exactly, outputs not to a bound: rounding moves choices"
    return f"weights decoded exactly, outputs to {result.decoded_difference:.1e}"


def _outputs(result: CompressionResult) -> str:
    """How far the file is from the original network."""
    largest = result.output_error
    if math.isnan(largest):
        return "not compared with the original"
    original = "the network before training" if result.trained else "the original"
    inputs = "random" if result.random_inputs else "given"
    if largest == 0:
        return f"equal those of {original} (on {inputs} inputs)"
    compared = [output for output in result.outputs if output.untold is None]
    worst = max(compared, key=lambda output: output.error)
    in_or_by = "" if math.isinf(largest) else "by " if worst.differing_share is None else "in "
    by = f"{in_or_by}{_error(worst)}{' of their norm' if worst.differing_share is None and in_or_by else ''}"
    each = [f"{shown(output.name)} {_error(output)}" for output in compared]
    named = f": {first_few(each, ', ')}" if len(each) > 1 else ""
    return f"differ from {original} {by} (on {inputs} inputs{named})"


def _error(output: OutputDifference) -> str:
    if not math.isfinite(output.error):
        return "without bound"
    return f"{percent_text(output.error)}{'' if output.differing_share is None else ' of entries'}"


def inspection_table(inspection: Inspection) -> RenderableType:
    """Tables of an inspection: the tensors, then the rest of the file."""
    parts = inspection.parts
    version = parts.format_version
    lines = [
        ("file", f"{inspection.disk_bytes:,} bytes"),
        *((name, f"{total:,} bytes") for kind, name in KIND_NAMES.items() if (total := parts.bytes_of(kind))),
        ("shared decoders", f"{parts.shared_bytes:,} bytes"),
        ("network graph", f"{parts.graph_bytes:,} bytes"),
        ("compressed", "no" if version is None else f"yes, format {version}"),
        *([] if version is None else [("loading", _loading(parts.decoding))]),
    ]
    return Group(TensorsTable(parts.rows), _summary(lines))


def clusters_table(report: ClusterReport) -> RenderableType:
    """Tables of clusters, one per tensor; of more than `MAX_CLUSTER_LINES` clusters, those with the most weights."""
    parts: list[RenderableType] = []
    for tensor in report.tensors:
        shape = "x".join(map(str, tensor.shape))
        heading = f"{tensor.name}  {shape}, {len(tensor.clusters)} clusters"
        parts += [Text(f"\n{heading}", "bold"), _cluster_rows(tensor)]
        if len(tensor.clusters) > MAX_CLUSTER_LINES:
            parts.append(Text(f"and {len(tensor.clusters) - MAX_CLUSTER_LINES} smaller ones: see --json", "dim"))
    if report.others:
        parts.append(Text(f"\nnot clustered: {', '.join(report.others)}", "dim"))
    return Group(*parts)


def _cluster_rows(tensor: TensorClusters) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    spread = tensor.compared
    for heading in ("mean", *(["spread before"] if spread else []), "weights", "share"):
        table.add_column(heading, justify="right")
    table.add_column("where most of them are", overflow="fold")
    by_size = sorted(tensor.clusters, key=lambda cluster: -cluster.members)[:MAX_CLUSTER_LINES]
    for cluster in sorted(by_size, key=lambda cluster: cluster.mean):
        known = [f"{cluster.spread:.3g}"] if cluster.spread is not None else []
        table.add_row(
            f"{cluster.mean:.4g}",
            *known,
            f"{cluster.members:,}",
            f"{100 * cluster.share:.2f} %",
            Text("; ".join(map(place_text, cluster.where))),
        )
    return table


def place_text(place: Place) -> str:
    """Describe a place in words.

    Examples
    --------
    >>> place_text(Place("row", 300, 85, 0, ((81, 9), (168, 8), (6, 7))))
    '85 rows, most in 81, 168, 6'
    >>> place_text(Place("row", 300, 250, 200, ((0, 784), (1, 784), (2, 784))))
    '200 whole rows'
    """
    if place.axis == "element":
        more = ", ..." if place.holding > len(place.most) else ""
        return f"{_slices('element', place.holding)}: {_indices(place)}{more}"
    if place.whole:
        return f"{_slices('whole ' + place.axis, place.whole)}"
    link = ", most in" if place.holding > len(place.most) else ":"
    return f"{_slices(place.axis, place.holding)}{link} {_indices(place)}"


def _slices(name: str, count: int) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def _indices(place: Place) -> str:
    return ", ".join(str(index) for index, _ in place.most)


def picture_table(picture: Picture) -> RenderableType:
    """Table of a picture: the tensors that were drawn, and those that were not."""
    left = [("left out", ", ".join(picture.left_out) + " (see --tensor)")] if picture.left_out else []
    return _summary([("picture", str(picture.output)), ("drawn", ", ".join(picture.drawn)), *left])


def _loading(decoding: Decoding) -> str:
    """Time and memory; a runtime keeps all that it computes until everything is decoded."""
    return f"{decoding.seconds:.2f} s of decoding here, {decoding.computed_bytes / 1e6:,.1f} MB for it"


def verification_table(verification: Verification) -> RenderableType:
    """Tables of a verification: the difference of every output, then the verdict."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("output", overflow="fold")
    table.add_column("largest difference", justify="right")
    table.add_column("relative", justify="right")
    table.add_column("relative error", justify="right")
    shares = any(output.differing_share is not None for output in verification.outputs)
    if shares:
        table.add_column("entries that differ", justify="right")
    for output in verification.outputs:
        share = "" if output.differing_share is None else f"{100 * output.differing_share:.3g} %"
        figures = [
            f"{value:.3g}" for value in (output.largest_absolute, output.largest_relative, output.relative_error)
        ]
        table.add_row(Text(output.name), *figures, *([share] if shares else []))
    original, compressed = verification.original_bytes, verification.compressed_bytes
    smaller = original >= compressed
    change = f"{original / compressed:.1f}x smaller" if smaller else f"{compressed / original:.1f}x larger"
    lines = [
        ("original", f"{original:,} bytes"),
        ("compressed", f"{compressed:,} bytes ({change})"),
        *([("inputs", RANDOM_INPUTS if verification.random_inputs else "given")] if verification.outputs else []),
        *_weights(verification.weights),
        ("verdict", f"{'passed' if verification.passed else 'FAILED'} at tolerance {verification.tolerance:g}"),
        *(("warning", line) for line in untold_lines(verification.outputs)),
        *(("note", note) for note in verification.notes),
    ]
    return Group(*([table] if verification.outputs else []), _summary(lines))


def _weights(weights: Sequence[WeightDifference]) -> Iterator[tuple[str, str]]:
    """A line about the weights of two models."""
    if weights:
        worst = max(weights, key=lambda weight: weight.relative_error)
        error = f"relative error at most {worst.relative_error:.2g}, of {shown(worst.name)}"
        yield "weights", f"{len(weights):,} compared, {error if worst.relative_error else 'all equal'}"


def expansion_table(result: ExpansionResult) -> RenderableType:
    """Table of an expansion: the sizes of the two files."""
    return _summary(
        [
            ("compressed", f"{result.compressed_bytes:,} bytes"),
            (str(result.output), f"{result.file_bytes:,} bytes"),
            ("decoded weights", f"{len(result.expanded):,}"),
            *(("note", note) for note in result.notes),
        ]
    )


def _summary(lines: Iterable[tuple[str, str]]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))  # brackets in names and paths are no markup
    return table
