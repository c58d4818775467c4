"""The command line: arguments in, calls of the API, tables or JSON out. No logic lives here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sws_compress.errors import ArgumentError, SwsError
from sws_compress.terminal import progress_bar, show, silence_standard_output

if TYPE_CHECKING:
    from rich.console import RenderableType

    Commands = argparse._SubParsersAction["_Parser"]

INTERRUPTED = 130
BROKEN_PIPE = 141
"""128 + the signal's number, what a shell reports for a program that the signal ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 verification failed, 2 bad input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        return code
    except SwsError as error:
        print(f"sws-compress: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("sws-compress: interrupted, nothing was replaced", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        silence_standard_output()
        return BROKEN_PIPE


class _Parser(argparse.ArgumentParser):
    """One line for arguments that cannot be read, as for all other bad input."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"sws-compress: error: {message}: see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sws-compress",
        description="Make pretrained networks many times smaller: an ordinary .onnx file out, for stock ONNX Runtime.",
        epilog="Exit codes: 0 done, 1 verification failed (nothing was replaced), 2 bad input, 130 interrupted.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_compress, _add_inspect, _add_picture, _add_verify, _add_expand, _add_demo):
        add(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

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
        "make an ONNX model smaller, from its weights alone",
        "Cluster each weight tensor to few distinct values, pack the cluster indices, check the result in ONNX Runtime "
        "weight by weight, and only then write it. Needs no data. With training data there is much more to win: see "
        "sws_compress.compress in Python.",
    )
    command.add_argument(
        "model", type=Path, metavar="MODEL", help="an ONNX model (of an opset below 13: converted first)"
    )
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="where the small model goes")
    command.add_argument(
        "--components",
        type=int,
        default=16,
        metavar="K",
        help="distinct values per tensor, 2 to 256: fewer is smaller, more is closer (default %(default)s)",
    )
    command.add_argument(
        "--scales",
        choices=("tensor", "channel", "auto"),
        default="tensor",
        help="a codebook a tensor, with a factor for every output channel, or whichever takes fewer bytes for the same "
        "error (default %(default)s)",
    )
    command.add_argument(
        "--vector",
        type=int,
        default=1,
        metavar="D",
        help="consecutive weights that share an index: 1, 2, 4 or 8, K being rows of so many then (default 1)",
    )
    command.add_argument(
        "--runtime",
        choices=("int8", "int4"),
        help="keep matrices in few bits while the model runs: less memory and faster products, a larger file "
        "(default: the smallest file, float32 once it is loaded)",
    )
    command.add_argument(
        "--load-budget",
        metavar="B",
        help="what loading may cost: seconds, megabytes or both, like 2s,300MB; less makes larger files that load "
        "faster, none the smallest (default: 0.5 s and 64 MB, with 0.17 s and 47 MB for every million weights)",
    )
    command.add_argument(
        "--embeddings",
        choices=("decoded", "packed"),
        default="decoded",
        help="packed: tables whose rows are looked up stay packed in memory, and every look-up decodes its rows; a "
        "larger file where codes would be shorter than words of a fixed length (default %(default)s, once, at load)",
    )
    command.add_argument(
        "--drop-names",
        action="store_true",
        help="leave the names of weights out, some percent of a small or deep model",
    )
    command.add_argument(
        "--inputs",
        type=Path,
        metavar="NPZ",
        help="sample inputs for the check: arrays named like the model's inputs (default: random)",
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="seed of random inputs (default 0)")
    command.set_defaults(run=_compress)


def _compress(options: argparse.Namespace) -> int:
    from sws_compress.api import compress
    from sws_compress.codec.load_cost import load_budget
    from sws_compress.report.tables import compression_table

    budget = None if options.load_budget is None else load_budget(options.load_budget)
    with progress_bar() as on_progress:
        result = compress(
            options.model,
            options.output,
            components=options.components,
            scales=options.scales,
            vector=options.vector,
            runtime=options.runtime,
            load_budget=budget,
            weight_names=not options.drop_names,
            embeddings=options.embeddings,
            example_inputs=options.inputs,
            seed=options.seed,
            on_progress=on_progress,
        )
    return _show(options, result.to_json(), lambda: compression_table(result))


# -- inspect ----------------------------------------------------------------------------------------------------------


def _add_inspect(commands: Commands) -> None:
    command = _command(
        commands,
        "inspect",
        "show per tensor what a model file is made of",
        "List every weight tensor: shape, distinct values, encoding, entropy, bits per weight, bytes, share of the "
        "file. Works on compressed and on ordinary models.",
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
    from sws_compress.api import inspect
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
        "Draw every weight matrix and kernel in the colours of its clusters (blue below zero, red above, white zero), "
        "beside the share of each cluster and where the weights are that are not zero: by place in the input where a "
        "matrix reads a picture, else by place in the kernel, or by rows and columns. Needs matplotlib.",
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="a compressed model")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="PNG", help="where the picture goes")
    command.add_argument(
        "--tensor",
        action="append",
        default=[],
        metavar="NAME",
        help="draw this one; may be repeated (default: the 8 with the most weights)",
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
        "Run both models in ONNX Runtime on random or given inputs and compare every output. Exit code 1 when an "
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
    from sws_compress.api import verify
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
