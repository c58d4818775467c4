"""The JSON of the benchmark: a row per run, so that a run that was made is not made again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

import sws_compress
from benchmarks.environment import environment
from sws_compress.files import write_atomically

NOT_MEASURING = ("table.py",)
"""Files of this folder that no row depends on."""


def code_digest() -> str:
    """SHA-256 of the sources that rows depend on: the package and this benchmark."""
    found = hashlib.sha256()
    here = Path(__file__).parent
    for folder in (Path(sws_compress.__file__).parent, here):
        for path in sorted(folder.rglob("*.py")):
            if folder != here or path.name not in NOT_MEASURING:
                found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()[:16]


class Results:
    """The rows of a file; every new one is written at once.

    Parameters
    ----------
    path : Path
        The JSON. Rows that are in it remain, until the same run is made with other code.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            self.rows = {row_name(row): row for row in json.loads(path.read_text())["rows"]}

    def has(self, identity: dict[str, Any]) -> bool:
        """Whether there is a row of exactly this run, by the same code from the same float network."""
        row = self.rows.get(row_name(identity))
        return row is not None and all(row.get(name) == value for name, value in identity.items())

    def add(self, row: dict[str, Any]) -> None:
        """Put a row into the file, in place of an older one of the same run."""
        self.rows[row_name(row)] = row
        report = {
            "benchmark": "training",
            "threads": torch.get_num_threads(),
            "environment": environment(),
            "rows": sorted(self.rows.values(), key=row_name),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, (json.dumps(report, indent=1) + "\n").encode())


def row_name(row: dict[str, Any]) -> str:
    """What a run is called: no two rows of a file have the same."""
    return " / ".join(str(row[name]) for name in ("network", "goal", "setting", "seed"))
