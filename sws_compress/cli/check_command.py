"""``check``: fails where a file has grown or its metric has fallen."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sws_compress.cli.command_parser import add_command, show_result
from sws_compress.cli.user_functions import metric_function
from sws_compress.errors import ArgumentError

if TYPE_CHECKING:
    from sws_compress.cli.command_parser import Commands

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
"""Factors of sizes, by the letters behind a number."""

SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+) ?([kmg]?i?)b?", re.IGNORECASE)


def add_check(commands: Commands) -> None:
    """Add ``check``."""
    command = add_command(
        commands,
        "check",
        "fail where a model file is too large or not good enough",
        "Compare the size of model files, and the metric of a function of yours, with limits. The exit code is 1 if a "
        "file is beyond one: for continuous integration and pre-commit. Nothing is written.",
    )
    command.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="ONNX models; each has the same limits")
    command.add_argument("--max-bytes", metavar="SIZE", help="largest size that passes: 500000, 500k, 1.5MB or 2MiB")
    command.add_argument(
        "--evaluate",
        metavar="FUNCTION",
        help="package.module:function, which takes the path of an ONNX file and returns a number",
    )
    command.add_argument("--worst-metric", type=float, metavar="M", help="worst metric that passes; needs --evaluate")
    command.add_argument(
        "--mode", choices=("max", "min"), help="whether more (max, the default) or less (min) of --evaluate is better"
    )
    command.add_argument(
        "--max-drop",
        type=float,
        metavar="D",
        help="how much worse the metric may be than that of --original; needs --evaluate and --original",
    )
    command.add_argument("--original", type=Path, metavar="ORIGINAL", help="with --max-drop: what was compressed")
    command.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from sws_compress.pipelines.check_budget import check
    from sws_compress.report.budget_check import BudgetReport

    if options.mode is not None and options.evaluate is None:
        raise ArgumentError("--mode must come with --evaluate, got it alone: name the metric that it is about")
    max_bytes = None if options.max_bytes is None else size_given(options.max_bytes)
    evaluate = metric_function(options.evaluate)
    report = BudgetReport(
        tuple(
            check(
                model,
                max_bytes=max_bytes,
                evaluate=evaluate,
                worst_metric=options.worst_metric,
                mode=options.mode or "max",
                original=options.original,
                max_drop=options.max_drop,
            )
            for model in options.models
        )
    )
    show_result(options, report)
    return 0 if report.passed else 1


def size_given(text: str) -> int:
    """Bytes that a text says: a number, with k, M or G behind it for thousands, Ki, Mi or Gi for 1,024s.

    Raises
    ------
    ArgumentError
        If it says anything else.

    Examples
    --------
    >>> size_given("500k"), size_given("1.5 MB"), size_given("2MiB")
    (500000, 1500000, 2097152)
    """
    found = SIZE.fullmatch(text.strip())
    unit = "?" if found is None else found[2].lower()
    if found is None or unit not in UNITS:
        raise ArgumentError(f"--max-bytes must be a size, got {text!r}: write for example 500k, 1.5MB or 2MiB")
    return int(float(found[1]) * UNITS[unit])
