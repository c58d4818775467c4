"""Commands that read models: ``inspect``, ``picture``, ``verify`` and ``expand``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sws_compress.cli.command_parser import add_command, show_result
from sws_compress.errors import ArgumentError

if TYPE_CHECKING:
    from sws_compress.cli.command_parser import Commands


def add_inspect(commands: Commands) -> None:
    """Add ``inspect``."""
    command = add_command(
        commands,
        "inspect",
        "show per tensor what a model file is made of",
        "List every weight tensor with its shape, distinct values, encoding, entropy, bits per weight, bytes and share "
        "of the file. Works on compressed and on ordinary models.",
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="an ONNX model")
    command.add_argument(
        "--clusters",
        action="store_true",
        help="show the clusters of every tensor instead: value, number and share of the weights that have it, and the "
        "rows, columns or channels where most of them are",
    )
    command.add_argument(
        "--original",
        type=Path,
        metavar="ORIGINAL",
        help="with --clusters or --report: the model that was compressed, to show how its weights were spread",
    )
    command.add_argument(
        "--report",
        type=Path,
        metavar="PAGE",
        help="write besides a page about the file: .html for a browser, .json for the same as data",
    )
    command.set_defaults(run=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    from sws_compress.pipelines.inspect import inspect

    if options.clusters and options.report is not None:
        raise ArgumentError("--clusters must be left out with --report, got both: the page shows clusters, too")
    if options.clusters:
        return _clusters(options)
    if options.original is not None and options.report is None:
        cure = "add one of them, or use verify"
        raise ArgumentError(f"--original must come with --clusters or --report, got it alone: {cure}")
    if options.report is None:
        return show_result(options, inspect(options.model))
    from sws_compress.pipelines.save_report import gathered, report_output, write_report

    target = report_output(options.report)
    report = gathered(options.model, options.original, None)
    write_report(report, target)
    return show_result(options, report.inspection)


def _clusters(options: argparse.Namespace) -> int:
    from sws_compress.pipelines.clusters import clusters

    report = clusters(options.model, original=options.original)
    return show_result(options, report)


def add_picture(commands: Commands) -> None:
    """Add ``picture``."""
    command = add_command(
        commands,
        "picture",
        "draw the weights of a compressed model, coloured by cluster",
        "Draw every weight matrix and kernel in the colours of its clusters: blue below zero, red above, white for "
        "zero. Beside it are the share of each cluster and the places of the weights that are not zero. Needs "
        "matplotlib.",
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="a compressed model")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="PNG", help="where the picture goes")
    command.add_argument(
        "--tensor",
        action="append",
        default=[],
        metavar="NAME",
        help="draw this tensor; may be repeated (default: the 8 with the most weights)",
    )
    command.set_defaults(run=_picture)


def _picture(options: argparse.Namespace) -> int:
    from sws_compress.pipelines.clusters import picture

    result = picture(options.model, options.output, tensors=options.tensor)
    return show_result(options, result)


def add_verify(commands: Commands) -> None:
    """Add ``verify``."""
    command = add_command(
        commands,
        "verify",
        "compare the outputs of two models on the same inputs",
        "Run both models in ONNX Runtime on random or given inputs and compare every output. The exit code is 1 if an "
        "output differs by more than the tolerance, relative to the largest value of that output.",
    )
    command.add_argument("original", type=Path, metavar="ORIGINAL", help="the model that was compressed")
    command.add_argument("compressed", type=Path, metavar="COMPRESSED", help="the file to check")
    command.add_argument("--inputs", type=Path, metavar="NPZ", help="arrays named like the inputs (default: random)")
    command.add_argument(
        "--tolerance",
        type=float,
        default=0.1,
        metavar="T",
        help="largest relative difference that passes (default %(default)s: compression changes outputs; "
        "use 1e-4 for a lossless copy)",
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="seed of random inputs (default 0)")
    command.add_argument(
        "--packed",
        action="store_true",
        help="check besides that COMPRESSED still is packed: other tools may have folded its decoders",
    )
    command.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    from sws_compress.pipelines.verify import verify

    verification = verify(
        options.original,
        options.compressed,
        inputs=options.inputs,
        tolerance=options.tolerance,
        seed=options.seed,
        packed=options.packed,
    )
    show_result(options, verification)
    return 0 if verification.passed else 1


def add_expand(commands: Commands) -> None:
    """Add ``expand``."""
    command = add_command(
        commands,
        "expand",
        "turn a compressed model into a plain one again",
        "Write the weights as they decode, bit for bit, into an ordinary dense ONNX file, which may be compressed "
        "again.",
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="a compressed model")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="where the plain model goes")
    command.set_defaults(run=_expand)


def _expand(options: argparse.Namespace) -> int:
    from sws_compress.pipelines.expand import expand

    result = expand(options.model, options.output)
    return show_result(options, result)
