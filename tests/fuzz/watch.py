"""A program that works through cases in processes of its own, watched: deaths and hangs are failures of one case."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SILENT_SECONDS = 90
"""Seconds without a line after which a case hangs; they hold on a busy machine."""


def outcomes(
    module: str, first: int, count: int, *further: str, root: Path = ROOT, seconds: float = SILENT_SECONDS
) -> tuple[Counter[str], dict[int, str]]:
    """Counts of outcomes by their words, and the failures by case number; goes on after a death.

    Parameters
    ----------
    module : str
        The program. It gets the first number and the count, and prints {"start": n}, then {"number": n, "outcome": ...}
        or {"number": n, "failure": ...}.
    first, count : int
        The cases.
    further : str
        Further arguments.
    root : Path
        Where it is started.
    seconds : float
        After so long without a line a case hangs, and its processes are killed.
    """
    counts: Counter[str] = Counter()
    failures: dict[int, str] = {}
    end = first + count
    while first < end:
        command = [sys.executable, "-m", module, str(first), str(end - first), *further]
        process = subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        current = None
        for entry in _entries(process, seconds):
            if "start" in entry:
                current = entry["start"]
                continue
            current, first = None, entry["number"] + 1
            if "failure" in entry:
                failures[entry["number"]] = entry["failure"]
            else:
                counts[entry["outcome"]] += 1
        error = process.communicate()[1].decode(errors="replace")[-2000:]
        if current is not None:
            failures[current] = f"death: the process ended with {process.returncode}: {error}"
            first = current + 1
        elif process.returncode:
            raise AssertionError(error)
    return counts, failures


def _entries(process: subprocess.Popen[bytes], seconds: float) -> Iterator[dict]:
    """The lines of a process; it is killed with its children if none comes for so long."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        text = b""
        while True:
            if not selector.select(seconds):
                os.killpg(process.pid, signal.SIGKILL)
                return
            piece = os.read(process.stdout.fileno(), 1 << 16)
            if not piece:
                return
            *lines, text = (text + piece).split(b"\n")
            yield from map(json.loads, lines)
