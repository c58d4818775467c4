"""The model card of a file: a README in Markdown with the head that model hubs read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sws_compress.errors import printable
from sws_compress.report.result import CompressionResult, ratio_text

HEAD = """---
library_name: onnx
tags:
- onnx
- compressed
- sws-compress
# Add what this tool does not know:
# license: that of the original model
# base_model: USER/ORIGINAL
---
"""

MARK = "<!-- Written by sws-compress, which replaces it; remove this line to keep what you write. -->"
"""A line of every card: only a file that has it is replaced."""

PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
"""What may mean something in Markdown or HTML; behind a backslash it means nothing (CommonMark 6.1)."""

SYNTAX = {"Python": "python", "JavaScript": "javascript", "C++": "cpp"}
"""Names of languages behind the fence of a block."""


def model_card(
    file_name: str, file_bytes: int, code: Mapping[str, str], result: CompressionResult | None = None, command: str = ""
) -> str:
    """Make the card of a file, as Markdown.

    Parameters
    ----------
    file_name : str
        Name of the file.
    file_bytes : int
        Its size with external data, in bytes.
    code : mapping of str to str
        How to load it, by language.
    result : CompressionResult, optional
        What was done to it.
    command : str
        The command that made it.
    """
    smaller = "" if result is None else f", {ratio_text(result.ratio)} smaller than the plain one"
    parts = [
        HEAD,
        MARK,
        f"\n# {escaped(Path(file_name).stem)}\n",
        f"An ordinary ONNX file of {file_bytes:,} bytes{smaller}. Its weights share values, which standard operators "
        "decode when the file is loaded: any ONNX Runtime runs it, without the package that made it.\n",
        *([] if result is None else [_figures(result)]),
        *(["## Made by\n", fenced(command, "sh")] if command else []),
        "## Load it\n",
        *(fenced(text, SYNTAX[language]) for language, text in code.items()),
        *([] if result is None else [_notes(result)]),
    ]
    return "\n".join(parts)


def escaped(text: str) -> str:
    r"""A text that Markdown shows as it is, on one line.

    Examples
    --------
    >>> print(escaped("a_b <i>|\n"))
    a\_b \<i\>\|\\n
    """
    return PUNCTUATION.sub(r"\\\1", printable(text))


def fenced(text: str, language: str) -> str:
    """A block of code, behind a fence that is longer than any in the text; what cannot be seen is escaped."""
    ticks = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    lines = "\n".join(map(printable, text.split("\n")))
    return f"{fence}{language}\n{lines}\n{fence}\n"


def _figures(result: CompressionResult) -> str:
    """Sizes, the metric and the error of the outputs as a table."""
    lines = [
        ("bytes", f"{result.file_bytes:,}"),
        ("bytes of the plain file", f"{result.dense_bytes:,}"),
        ("ratio", ratio_text(result.ratio)),
    ]
    if result.before is not None:
        after = "not measured" if result.after is None else f"{result.after:.4g}"
        lines += [("metric before", f"{result.before:.4g}"), ("metric after", after)]
    lines += [(name, text) for name, text in result.checks if name != "time"]
    rows = [f"| {escaped(name)} | {escaped(text)} |" for name, text in lines]
    return "\n".join(["| | |", "|---|---|", *rows, ""])


def _notes(result: CompressionResult) -> str:
    lines = [
        *(f"- **Warning:** {escaped(line)}" for line in result.warnings),
        *(f"- {escaped(n)}" for n in result.notes),
    ]
    return "\n".join(["## What to know\n", *lines, ""]) if lines else ""
