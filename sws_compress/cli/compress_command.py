"""``compress``: its options in one group for each mode, and the request that they make."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sws_compress.cli.calibration_argument import calibration_inputs
from sws_compress.cli.command_parser import add_command, command_line, show_result
from sws_compress.cli.config_file import is_given, with_config
from sws_compress.cli.set_argument import overrides_given
from sws_compress.cli.user_functions import metric_function
from sws_compress.errors import ArgumentError
from sws_compress.terminal.printing import show

if TYPE_CHECKING:
    from sws_compress.cli.command_parser import Commands, Parser
    from sws_compress.file_options import FileOptions
    from sws_compress.quantize.granularity import Granularity
    from sws_compress.requests import Calibrated, LowBit, WeightsOnly

GRANULARITIES = ("tensor", "channel", "auto", "vectors:2", "vectors:4", "vectors:8")
"""Names of the granularities on the command line."""

OF_CALIBRATED = ("resumable", "no_distillation")
"""Switches of the calibrated mode alone."""

OF_WEIGHTS_ONLY = ("components", "granularity")
"""Options of the default mode."""

SIZES = ("ratio", "target_bytes", "max_drop")
"""Options of the calibrated mode alone."""

GOALS = ("quality", *SIZES)
"""Options of the calibrated mode, of which one may be given."""

SINGLE_WEIGHTS = ("keep", "set")
"""Options about single weights."""

OF_FILE = ("load_budget", "packed_embeddings", "memory", "standard_operators_only", "drop_names")
"""Options of files whose weights are decoded."""


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
    request, file = _request(options), _file_options(options)
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


def _request(options: argparse.Namespace) -> WeightsOnly | Calibrated | LowBit:
    """The request that the options make. Options of another mode are refused."""
    from sws_compress.requests import Calibrated, LowBit, WeightsOnly

    if options.calibration is not None:
        _refuse(options, ("low_bit",), "be left out with --calibration, got both", "low bits need no inputs")
        cure = "ask for the size with --ratio or --target-bytes"
        _refuse(options, OF_WEIGHTS_ONLY, "be left out with --calibration, got both", cure)
        for goal in _given(options, GOALS)[1:]:
            first = _given(options, GOALS)[0]
            raise ArgumentError(f"{goal} must be left out with {first}, got both: choose one goal")
        if options.max_drop is not None and options.evaluate is None:
            raise ArgumentError(
                "--max-drop must come with --evaluate, got it alone: name the metric that may fall so far"
            )
        quality = {} if options.quality is None else {"quality": options.quality}
        return Calibrated(
            inputs=calibration_inputs(options.calibration),
            distillation=not options.no_distillation,
            resumable=options.resumable,
            **quality,
        )
    if options.low_bit is not None:
        cure = "the bits alone decide the size"
        _refuse(options, (*OF_WEIGHTS_ONLY, *GOALS), "be left out with --low-bit, got both", cure)
        cure = "nothing is decoded at load"
        _refuse(options, (*OF_FILE, *OF_CALIBRATED), "be left out with --low-bit, got both", cure)
        cure = "the bits of all weights are the same"
        _refuse(options, SINGLE_WEIGHTS, "be left out with --low-bit, got both", cure)
        return LowBit(bits=options.low_bit)
    cure = "give some hundred inputs with --calibration, or choose a --quality"
    _refuse(options, (*SIZES, *OF_CALIBRATED), "come with --calibration, got it alone", cure)
    if options.quality is not None:
        cure = "the quality decides how many values there are"
        _refuse(options, OF_WEIGHTS_ONLY, "be left out with --quality, got both", cure)
    if options.components is None:
        cure = "say how many values there are with --components"
        _refuse(options, ("granularity",), "come with --components, got it alone", cure)
    granularity = None if options.granularity is None else _granularity(options.granularity)
    return WeightsOnly(quality=options.quality, components=options.components, granularity=granularity)


def _refuse(options: argparse.Namespace, names: Sequence[str], rule: str, cure: str) -> None:
    for option in _given(options, names):
        raise ArgumentError(f"{option} must {rule}: {cure}")


def _given(options: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Those of some options that the user gave, as they are typed."""
    values = ((name, getattr(options, name)) for name in names)
    return [f"--{name.replace('_', '-')}" for name, value in values if is_given(value)]


def _granularity(name: str) -> Granularity:
    from sws_compress.quantize.granularity import Best, PerChannel, PerTensor, Vectors

    kind, _, length = name.partition(":")
    if kind == "vectors":
        return Vectors(length=int(length))
    named: dict[str, Granularity] = {"tensor": PerTensor(), "channel": PerChannel(), "auto": Best()}
    return named[kind]


def _file_options(options: argparse.Namespace) -> FileOptions:
    from sws_compress.codec.load_cost import load_budget
    from sws_compress.file_options import FileOptions

    return FileOptions(
        load_budget=None if options.load_budget is None else load_budget(options.load_budget),
        weight_names=False if options.drop_names else None,
        packed_embeddings=options.packed_embeddings,
        memory=options.memory or "float",
        standard_operators_only=options.standard_operators_only,
    )
