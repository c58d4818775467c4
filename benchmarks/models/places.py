"""Folders of the benchmark: data and models."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sws_compress.demo import DATA

LENET = DATA / "lenet_300_100.npz"
MNIST = DATA / "mnist.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, for data outside the repository, and ``--folder``, for models; neither is committed."""
    data = os.environ.get("SWS_DATA_DIR")
    parser.add_argument(
        "--data",
        type=Path,
        default=data,
        required=data is None,
        help="folder of data outside the repository; SWS_DATA_DIR names it as well",
    )
    parser.add_argument("--folder", type=Path, default=Path("out/models"))
