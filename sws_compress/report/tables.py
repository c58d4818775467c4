"""What the tables of results are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from sws_compress.onnx_io.format.held import FLOATS
from sws_compress.report.inspection import TensorRow

HEADINGS = ("shape", "encoding", "values", "zeros", "entropy", "bits", "bytes", "of file")
HELD_HEADINGS = ("shape", "encoding", "values", "entropy", "bits", "bytes", "in memory", "as")
"""The same where weights stay in integers."""
LEFT_COLUMNS = 2
"""The first columns are flush left; numbers are flush right."""


@dataclass(frozen=True)
class TensorsTable:
    """A table with one line per weight tensor; entropy and bits are per weight.

    Names have lines of their own where they do not fit beside the numbers, because those of network weights are long.

    Parameters
    ----------
    rows : tuple of TensorRow
        The tensors.
    most : int, optional
        Lines to show; of more tensors, those with the most bytes in the file. By default all are shown.
    """

    rows: tuple[TensorRow, ...]
    most: int | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown, others = self._divided()
        names = ["tensor", *(row.name for row in shown)]
        headings = HELD_HEADINGS if any(row.route != FLOATS for row in self.rows) else HEADINGS
        lines = [headings, *(figures(row, headings) for row in shown)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        widest = max(map(len, names))
        room = options.max_width - widest - sum(widths)
        gap = " " * (2 if room >= 2 * len(widths) else 1)
        yield Text()
        for name, cells in zip(names, lines, strict=True):
            line = gap.join(_cells(cells, widths))
            start = f"{name:<{widest}}{gap}" if room >= len(widths) else f"{name}\n  "
            yield Text(start + line, "bold" if cells is headings else "", overflow="fold")
        if others:
            together = sum(row.file_bytes for row in others)
            yield Text(f"and {len(others)} smaller ones, {together:,.0f} bytes together: inspect lists all", "dim")
        yield Text()

    def _divided(self) -> tuple[list[TensorRow], list[TensorRow]]:
        """Those with the most bytes, in their order, and the others."""
        if self.most is None or len(self.rows) <= self.most:
            return list(self.rows), []
        least = sorted(row.file_bytes for row in self.rows)[-self.most]
        larger = [row for row in self.rows if row.file_bytes > least]
        equal = [row for row in self.rows if row.file_bytes == least][: self.most - len(larger)]
        taken = {id(row) for row in (*larger, *equal)}
        return [row for row in self.rows if id(row) in taken], [row for row in self.rows if id(row) not in taken]


def figures(row: TensorRow, headings: Sequence[str] = HEADINGS) -> tuple[str, ...]:
    """What columns say of a tensor, by their headings."""
    told = {
        "shape": "x".join(map(str, row.shape)) or "scalar",
        "encoding": row.encoding,
        "values": f"{row.distinct_values:,}",
        "zeros": f"{100 * row.zeros:.1f} %",
        "entropy": f"{row.entropy_bits:.3f}",
        "bits": f"{row.file_bits:.3f}",
        "bytes": f"{row.file_bytes:,.0f}",
        "of file": f"{100 * row.file_share:.1f} %",
        "in memory": f"{row.held_bytes:,}",
        "as": row.route,
    }
    return tuple(told[heading] for heading in headings)


def _cells(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for i, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        yield cell.ljust(width) if i < LEFT_COLUMNS else cell.rjust(width)


def summary(lines: Iterable[tuple[str, str]]) -> Table:
    """Lines of a name and a value each."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))  # brackets in names and paths are no markup
    return table
