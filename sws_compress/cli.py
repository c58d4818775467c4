"""The command line: arguments in, calls of the API, tables or JSON out. No logic lives here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sws_compress.errors import ArgumentError, SwsError
from sws_compress.terminal import (
    occupy_standard_streams,
    print_error,
    progress_bar,
    show,
    silence_libraries,
    silence_standard_output,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sws_compress.quantize.granularity import Granularity
    from sws_compress.requests import Calibrated, FileOptions, LowBit, WeightsOnly

    Commands = argparse._SubParsersAction["_Parser"]

BROKEN_PIPE = 141
"""Exit code: 128 plus the signal's number, as a shell reports a program that a signal has ended."""

GRANULARITIES = ("tensor", "channel", "auto", "vectors:2", "vectors:4", "vectors:8")
"""Names of the granularities on the command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; by default those of the process.

    Returns
    -------
    int
        The exit code: 0 done, 1 verification failed, 2 bad input, 130 interrupted, 143 terminated.
    """
    occupy_standard_streams()
    silence_libraries()
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        return code
    except SwsError as error:
        print_error(str(error))
        return error.exit_code
    except MemoryError:
        print_error(
            "memory must hold the model and some copies of its largest tensor, got too little: "
            "end other programs, or take a machine with more"
        )
        return SwsError.exit_code
    except BrokenPipeError:
        silence_standard_output()
        return BROKEN_PIPE


class _Parser(argparse.ArgumentParser):
    """A parser that reports unreadable arguments in one line, as all other bad input is reported."""

    def error(self, message: str) -> NoReturn:
        print_error(f"{message}: see {self.prog} --help")
        self.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sws-compress",
        description="Make pretrained networks many times smaller: an ordinary .onnx file out, for stock ONNX Runtime.",
        epilog="Exit codes: 0 done, 1 verification failed (nothing was replaced), 2 bad input, 130 interrupted, "
        "143 terminated.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_compress, _add_inspect, _add_picture, _add_verify, _add_expand, _add_demo):
        add(commands)
    return parser


class _Version(argparse.Action):
    """Print the version; it is looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from importlib.metadata import version

        print(f"sws-compress {version('sws-compress')}")
        parser.exit()


def _command(commands: Commands, name: str, summary: str, description: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=description)
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return command


# -- compress ---------------------------------------------------------------------------------------------------------


def _add_compress(commands: Commands) -> None:
    command = _command(
        commands,
        "compress",
        "make an ONNX model smaller, without data",
        "Cluster each weight tensor to few distinct values, pack the cluster indices, check the result in ONNX Runtime "
        "weight by weight, and only then write it. Training a torch module gives much smaller files: see "
        "sws_compress.FineTuned in Python.",
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="an ONNX model (opsets below 13 are converted)")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="where the small model goes")
    weights_only = _add_weights_only(command)
    _add_calibrated(command)
    _add_low_bit(command)
    file_options = _add_file_options(command)
    _add_check(command)
    command.set_defaults(run=_compress, of_decoded_weights=(*weights_only, *file_options))


def _add_weights_only(command: argparse.ArgumentParser) -> tuple[argparse.Action, ...]:
    group = command.add_argument_group("weights only (default)", "the smallest file; weights are decoded at load")
    return (
        group.add_argument(
            "--components",
            type=int,
            metavar="K",
            help="distinct values per tensor, 2 to 256: fewer is smaller, more is closer (default 16)",
        ),
        group.add_argument(
            "--granularity",
            choices=GRANULARITIES,
            metavar="G",
            help="what shares a value: the weights of a tensor (tensor, the default); the same, with a scale for every "
            "output channel (channel); whichever of the two takes fewer bytes at equal error (auto); or vectors of "
            "consecutive weights (vectors:2, vectors:4, vectors:8)",
        ),
    )


def _add_calibrated(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("calibrated", "closer outputs for the same bytes, from inputs without labels")
    group.add_argument(
        "--calibration",
        metavar="INPUTS",
        help="some hundred inputs: an .npz file of arrays named like the model's inputs, a folder of such files, or "
        "package.module:function, which returns them",
    )
    group.add_argument(
        "--quality",
        type=float,
        metavar="DB",
        help="energy of the outputs over that of their error, in decibels (default 25: outputs change by 6 %%)",
    )
    group.add_argument("--ratio", type=float, metavar="R", help="how many times smaller the file becomes")
    group.add_argument("--target-bytes", type=int, metavar="N", help="bytes of the file")


def _add_low_bit(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("low bits", "less memory and faster products while it runs; a larger file")
    group.add_argument(
        "--low-bit",
        type=int,
        choices=(4, 8),
        metavar="BITS",
        help="keep matrices in 4 or 8 bits, and multiply by them as they are",
    )


def _add_file_options(command: argparse.ArgumentParser) -> tuple[argparse.Action, ...]:
    group = command.add_argument_group("file")
    return (
        group.add_argument(
            "--load-budget",
            metavar="B",
            help="what loading may cost: seconds, megabytes or both, like 2s,300MB. Less makes larger files that load "
            "faster; none, the smallest (default: 0.5 s and 64 MB, plus 0.17 s and 47 MB per million weights)",
        ),
        group.add_argument(
            "--packed-embeddings",
            action="store_true",
            help="keep embedding tables packed in memory; every look-up decodes its rows (default: decode at load)",
        ),
        group.add_argument(
            "--drop-names",
            action="store_true",
            help="leave the names of weights out: some percent of a very small or very deep model",
        ),
    )


def _add_check(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("check")
    group.add_argument(
        "--inputs", type=Path, metavar="NPZ", help="arrays named like the model's inputs (default: random)"
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="refuse a model whose outputs cannot be compared (default: a note says so)",
    )
    group.add_argument("--seed", type=int, default=0, metavar="S", help="seed of random inputs (default 0)")


def _compress(options: argparse.Namespace) -> int:
    from sws_compress.api import compress
    from sws_compress.report.tables import compression_table

    request, file = _request(options), _file_options(options)
    with progress_bar() as on_progress:
        result = compress(
            options.model,
            options.output,
            request,
            ratio=options.ratio,
            target_bytes=options.target_bytes,
            file=file,
            example_inputs=options.inputs,
            strict=options.strict,
            seed=options.seed,
            on_progress=on_progress,
        )
    return _show(options, result.to_json(), lambda: compression_table(result))


def _request(options: argparse.Namespace) -> WeightsOnly | Calibrated | LowBit:
    """The request that the options make. Options of another mode are refused."""
    from sws_compress.requests import Calibrated, LowBit, WeightsOnly

    if options.calibration is not None:
        for name in ("components", "granularity", "low_bit"):
            if getattr(options, name) is not None:
                raise ArgumentError(
                    f"--{name.replace('_', '-')} must be left out with --calibration, got both: choose one of them"
                )
        quality = {} if options.quality is None else {"quality": options.quality}
        return Calibrated(inputs=_calibration(options.calibration), **quality)
    if options.quality is not None:
        raise ArgumentError("--quality must come with --calibration, got it alone: give inputs, or use --components")

    if options.low_bit is not None:
        for action in options.of_decoded_weights:
            if getattr(options, action.dest) != action.default:
                raise ArgumentError(
                    f"{action.option_strings[-1]} must be left out with --low-bit, got both: nothing is decoded at load"
                )
        return LowBit(bits=options.low_bit)
    given: dict[str, Any] = {} if options.components is None else {"components": options.components}
    if options.granularity is not None:
        given["granularity"] = _granularity(options.granularity)
    return WeightsOnly(**given)


def _calibration(given: str) -> Any:
    """The path of inputs, or what a function returns that is named as package.module:function."""
    if ":" not in given or Path(given).exists():
        return given
    import pkgutil
    import sys

    sys.path.insert(0, "")  # the current folder, as python -m does
    try:
        return pkgutil.resolve_name(given)()
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        raise ArgumentError(
            f"--calibration must name inputs or a function without arguments, got {given}, {error}: "
            "for example inputs.npz or package.module:function"
        ) from error


def _granularity(name: str) -> Granularity:
    from sws_compress.quantize.granularity import Best, PerChannel, PerTensor, Vectors

    kind, _, length = name.partition(":")
    if kind == "vectors":
        return Vectors(length=int(length))
    named: dict[str, Granularity] = {"tensor": PerTensor(), "channel": PerChannel(), "auto": Best()}
    return named[kind]


def _file_options(options: argparse.Namespace) -> FileOptions:
    from sws_compress.codec.load_cost import load_budget
    from sws_compress.requests import FileOptions

    return FileOptions(
        load_budget=None if options.load_budget is None else load_budget(options.load_budget),
        weight_names=not options.drop_names,
        packed_embeddings=options.packed_embeddings,
    )


# -- inspect ----------------------------------------------------------------------------------------------------------


def _add_inspect(commands: Commands) -> None:
    command = _command(
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
        help="with --clusters: the model that was compressed, to show how widely the weights of a cluster were spread",
    )
    command.set_defaults(run=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    from sws_compress.pipelines.inspect import inspect
    from sws_compress.report.tables import inspection_table

    if options.clusters:
        return _clusters(options)
    if options.original is not None:
        raise ArgumentError("--original must come with --clusters, got it alone: add --clusters, or use verify")
    inspection = inspect(options.model)
    return _show(options, inspection.to_json(), lambda: inspection_table(inspection))


def _clusters(options: argparse.Namespace) -> int:
    from sws_compress.pipelines.clusters import clusters
    from sws_compress.report.tables import clusters_table

    report = clusters(options.model, original=options.original)
    return _show(options, report.to_json(), lambda: clusters_table(report))


# -- picture ----------------------------------------------------------------------------------------------------------


def _add_picture(commands: Commands) -> None:
    command = _command(
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
    from sws_compress.report.tables import picture_table

    result = picture(options.model, options.output, tensors=options.tensor)
    return _show(options, result.to_json(), lambda: picture_table(result))


# -- verify -----------------------------------------------------------------------------------------------------------


def _add_verify(commands: Commands) -> None:
    command = _command(
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
    command.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    from sws_compress.pipelines.verify import verify
    from sws_compress.report.tables import verification_table

    verification = verify(
        options.original,
        options.compressed,
        inputs=options.inputs,
        tolerance=options.tolerance,
        seed=options.seed,
    )
    _show(options, verification.to_json(), lambda: verification_table(verification))
    return 0 if verification.passed else 1


# -- expand -----------------------------------------------------------------------------------------------------------


def _add_expand(commands: Commands) -> None:
    command = _command(
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
    from sws_compress.report.tables import expansion_table

    result = expand(options.model, options.output)
    return _show(options, result.to_json(), lambda: expansion_table(result))


# -- demo -------------------------------------------------------------------------------------------------------------


def _add_demo(commands: Commands) -> None:
    command = _command(
        commands,
        "demo",
        "compress a pretrained LeNet-300-100 on MNIST, from start to finish",
        "Load the network, run the alternating loop (fine-tune under the mixture prior, EM step, repeat), snap, write "
        "lenet.onnx, check it weight by weight in ONNX Runtime, and report size and test error. Two to three minutes.",
    )
    command.add_argument(
        "--data",
        type=Path,
        default=Path("benchmarks/data"),
        metavar="DIR",
        help="folder with mnist.npz and lenet_300_100.npz (default %(default)s, as in a clone of the repository)",
    )
    command.add_argument(
        "--output",
        type=Path,
        default=Path("out/demo"),
        metavar="DIR",
        help="folder for the results (default %(default)s)",
    )
    command.add_argument("--epochs", type=int, default=24, metavar="N", help="length of the run (default %(default)s)")
    command.add_argument(
        "--ratio", type=float, default=190.0, metavar="R", help="how many times smaller the file becomes (default 190)"
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the run (default 0)")
    command.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from sws_compress.demo.run import run_demo

    with progress_bar() as on_progress:
        result = run_demo(
            options.data,
            options.output,
            epochs=options.epochs,
            ratio=options.ratio,
            seed=options.seed,
            on_progress=on_progress,
        )
    return _show(options, result.to_json(), result.to_table)


def _show(options: argparse.Namespace, values: dict[str, Any], table: Callable[[], RenderableType]) -> int:
    show(values, table, as_json=options.json)
    return 0
