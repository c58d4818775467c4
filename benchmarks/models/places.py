"""Where the benchmark finds and keeps things."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

LENET = Path(__file__).resolve().parent.parent / "data" / "lenet_300_100.npz"
MNIST = Path(__file__).resolve().parent.parent / "data" / "mnist.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--data``: data that are not in the repository; ``--folder``: where models go, none of which is committed."""
    data = os.environ.get("SWS_DATA_DIR")
    parser.add_argument("--data", type=Path, default=data, required=data is None, help="or set SWS_DATA_DIR")
    parser.add_argument("--folder", type=Path, default=Path("out/models"))
