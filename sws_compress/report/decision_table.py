"""The decisions about all weights as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from sws_compress.report.decisions import Decision

HEADINGS = ("weight", "kind", "weights", "bits", "bytes", "entries", "step", "level", "of error", "decided by")
NUMBERS = range(2, 9)
"""The columns that are flush right."""


def decision_table(decisions: Sequence[Decision]) -> Table:
    """One line per weight: its kind, size, codebook, sensitivity, share of the output error, and what decided it."""
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number in NUMBERS else "left", overflow="fold")
    for each in decisions:
        cells = (
            each.name,
            each.kind,
            f"{each.weights:,}",
            f"{each.bits_per_weight:.2f}",
            f"{each.file_bytes:,}",
            f"{each.entries:,}" if each.entries else "-",
            _number(each.step),
            _number(each.level),
            "-" if each.error_share is None else f"{100 * each.error_share:.1f} %",
            each.how,
        )
        table.add_row(*map(Text, cells))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
