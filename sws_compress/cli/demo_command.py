"""``demo``: the main job once, from start to finish."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sws_compress.cli.command_parser import add_command, show_result
from sws_compress.demo import DATA
from sws_compress.packages import packages_for

if TYPE_CHECKING:
    from sws_compress.cli.command_parser import Commands


def add_demo(commands: Commands) -> None:
    """Add ``demo``."""
    command = add_command(
        commands,
        "demo",
        "compress a pretrained LeNet-300-100 on MNIST, from start to finish",
        "Load the network, run the alternating loop (fine-tune under the mixture prior, EM step, repeat), snap, write "
        "lenet.onnx, check it weight by weight in ONNX Runtime, and report size and test error. Two to three minutes.",
    )
    command.add_argument(
        "--data",
        type=Path,
        default=DATA,
        metavar="DIR",
        help="another folder with mnist.npz and lenet_300_100.npz (default: those of the package)",
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
    with packages_for("the demo"):
        from sws_compress.demo.run import run_demo

    result = run_demo(
        options.data,
        options.output,
        epochs=options.epochs,
        ratio=options.ratio,
        seed=options.seed,
    )
    return show_result(options, result)
