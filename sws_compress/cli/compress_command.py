"""``compress``: its options, in one group for each mode."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sws_compress.cli.command_parser import add_command, command_line, show_result
from sws_compress.cli.config_file import with_config
from sws_compress.cli.given_request import GOALS, file_options_given, request_given
from sws_compress.cli.set_argument import overrides_given
from sws_compress.cli.user_functions import metric_function
from sws_compress.errors import ArgumentError
from sws_compress.terminal.printing import show

if TYPE_CHECKING:
    from sws_compress.cli.command_parser import Commands, Parser

GRANULARITIES = ("tensor", "channel", "auto", "vectors:2", "vectors:4", "vectors:8")
"""Names of the granularities on the command line."""


def add_compress(commands: Commands) -> None:
    """Add ``compress`` and its groups of options."""
    command = add_command(
        commands,
        "compress",
        "make an ONNX model smaller",
        "Make an ONNX model smaller in one of three ways: weights only (default), calibrated (--calibration) or low "
        "bits (--low-bit). The result is checked in ONNX Runtime, weight by weight, and only then written. Training a "
        "torch module gives much smaller files: see sws_compress.FineTuned in Python.",
    )
    command.add_argument(
        "model", type=Path, nargs="?", metavar="MODEL", help="an ONNX model (opsets below 13 are converted)"
    )
    command.add_argument(
        "--weights",
        type=Path,
        metavar="SAFETENSORS",
        help="where the graph of MODEL has its weights: a safetensors file, a folder of them, or their index, under "
        "the names of the initialisers",
    )
    command.add_argument("-o", "--output", type=Path, metavar="OUT", help="where the small model goes")
    command.add_argument(
        "--config",
        type=Path,
        metavar="TOML",
        help="a file of options, under the names that they have here, and rules by pattern in a table [overrides]; of "
        "a pyproject.toml, its table [tool.sws-compress]; what the command line gives counts more",
    )
    for add in (_add_weights_only, _add_calibrated, _add_single_weights, _add_low_bit, _add_file_options, _add_check):
        add(command)
    command.add_argument(
        "--table", action="store_true", help="print besides why every weight got its bits (--json always has it)"
    )
    command.add_argument(
        "--report",
        type=Path,
        metavar="PAGE",
        help="write a page about the file: where its bytes are, its weights and their clusters, how to load it; .html "
        "for one that a browser shows without a network, .json for the same as data",
    )
    command.add_argument(
        "--card",
        type=Path,
        metavar="DIR",
        help="write besides a folder for a model hub: the file, and a README.md with sizes, metric, this command and "
        "how to load it; nothing is sent",
    )
    command.set_defaults(run=lambda options: _compress(options, command))


def _add_weights_only(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "weights only (default)",
        "needs no data; weights become few distinct values, which are decoded at load; give --quality or --components",
    )
    group.add_argument(
        "--quality",
        type=float,
        metavar="DB",
        help="energy of the outputs over that of their error, in decibels: 6 more halve the error and cost about a "
        "bit per weight. It is estimated from the weights and checked on --inputs or random inputs (default 20); with "
        "--calibration, it is measured (default 25: outputs change by 6 %%)",
    )
    group.add_argument(
        "--components",
        type=int,
        metavar="K",
        help="instead of a quality, distinct values per tensor, 2 to 256, whatever error that makes",
    )
    group.add_argument(
        "--granularity",
        choices=GRANULARITIES,
        metavar="G",
        help="with --components, what shares a value: the weights of a tensor (tensor, the default); the same, with a "
        "scale for every output channel (channel); whichever of the two takes fewer bytes at equal error (auto); or "
        "vectors of consecutive weights (vectors:2, vectors:4, vectors:8)",
    )


def _add_calibrated(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "calibrated",
        "closer outputs for the same bytes, from inputs without labels; give --calibration and at most one goal: "
        "--quality, --ratio, --target-bytes or --max-drop",
    )
    group.add_argument(
        "--calibration",
        metavar="INPUTS",
        help="some hundred inputs: an .npz file of arrays named like the model's inputs, a folder of such files, or "
        "package.module:function, which returns them",
    )
    group.add_argument(
        "--ratio", type=float, metavar="R", help="how many times smaller the file becomes; needs --calibration"
    )
    group.add_argument("--target-bytes", type=int, metavar="N", help="bytes of the file; needs --calibration")
    group.add_argument(
        "--max-drop",
        type=float,
        metavar="D",
        help="how far the metric of --evaluate may fall, or rise with --mode min; some ten files are measured, and the "
        "smallest that keeps it is written; needs --calibration and --evaluate",
    )
    group.add_argument(
        "--resumable",
        action="store_true",
        help="keep finished work beside OUT: the same command goes on there after it was killed; needs --calibration",
    )
    group.add_argument(
        "--no-distillation",
        action="store_true",
        help="do not train codebooks, scales, biases and norms by the outputs of the float network afterwards, which "
        "takes up to some minutes and no bytes; needs --calibration",
    )


def _add_single_weights(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "single weights",
        "a PATTERN is a name, a glob over names such as 'head.*', or over the operators that read a weight, such as "
        "op:Gather; for weights only and calibrated; both may be repeated",
    )
    group.add_argument("--keep", action="append", default=[], metavar="PATTERN", help="leave these weights as they are")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATTERN=RULE",
        help="round these weights from their values alone, whatever the others do: the rule is quality:DB or "
        "components:K; the last that matches counts",
    )


def _add_low_bit(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "low bits",
        "less memory and faster products while it runs, but a larger file; goes with the options of check only",
    )
    group.add_argument(
        "--low-bit",
        type=int,
        choices=(4, 8),
        metavar="BITS",
        help="keep matrices in 4 or 8 bits, and multiply by them as they are",
    )


def _add_file_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("file", "what the file is like; for weights only and calibrated")
    group.add_argument(
        "--load-budget",
        metavar="B",
        help="what loading may cost: seconds, megabytes or both, like 2s,300MB. Less makes larger files that load "
        "faster; the word none makes the smallest (default: 0.5 s and 64 MB, plus 0.17 s and 47 MB per million "
        "weights)",
    )
    group.add_argument(
        "--packed-embeddings",
        action="store_true",
        help="keep embedding tables packed in memory; every look-up decodes its rows (default: decode at load)",
    )
    group.add_argument(
        "--memory",
        choices=("float", "packed"),
        metavar="M",
        help="what weights are while the model runs: float (default), or packed: integers of 2, 4 or 8 bits wherever "
        "the runtime multiplies them, looks them up or convolves with them, which takes about a quarter of the memory",
    )
    group.add_argument(
        "--standard-operators-only",
        action="store_true",
        help="with --memory packed, no operators of ONNX Runtime's own",
    )
    group.add_argument(
        "--drop-names",
        action="store_true",
        help="leave the names of weights out, which saves some percent of a very small or very deep model",
    )


def _add_check(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("check", "how the outputs are compared before the file is written; for all ways")
    group.add_argument(
        "--inputs",
        type=Path,
        metavar="NPZ",
        help="arrays named like the model's inputs, to run it on (default: the first of --calibration, else random)",
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="refuse a model whose outputs cannot be compared (default: a note says so)",
    )
    group.add_argument(
        "--evaluate",
        metavar="FUNCTION",
        help="package.module:function, which takes the path of an ONNX file and returns a number; the original "
        "and the small file are measured",
    )
    group.add_argument(
        "--mode",
        choices=("max", "min"),
        help="whether more (max, the default) or less (min) of --evaluate is better",
    )
    group.add_argument("--seed", type=int, metavar="S", help="seed of random inputs (default 0)")


def _compress(options: argparse.Namespace, command: Parser) -> int:
    from sws_compress.api import compress
    from sws_compress.pipelines.save_card import card_folder, save_card
    from sws_compress.report.decision_table import decision_table

    options = with_config(options, command, (*GOALS, "components"))
    needed = {"MODEL": options.model, "-o/--output": options.output}
    if missing := [name for name, value in needed.items() if value is None]:
        command.error(f"the following arguments are required: {', '.join(missing)}")
    if options.mode is not None and options.evaluate is None:
        raise ArgumentError("--mode must come with --evaluate, got it alone: name the metric that it is about")
    request, file = request_given(options), file_options_given(options)
    card = None if options.card is None else card_folder(options.card)
    result = compress(
        options.model,
        options.output,
        request,
        ratio=options.ratio,
        target_bytes=options.target_bytes,
        max_drop=options.max_drop,
        evaluate=metric_function(options.evaluate),
        mode=options.mode or "max",
        keep=options.keep,
        overrides=overrides_given(options.set),
        weights=options.weights,
        file=file,
        example_inputs=options.inputs,
        strict=options.strict,
        seed=options.seed or 0,
        report=options.report,
    )
    if card is not None:
        save_card(result.output, card, result=result, command=command_line(options.arguments))
    if options.table and result.decisions and not options.json:
        show({}, decision_table(result.decisions), as_json=False)
    return show_result(options, result)
