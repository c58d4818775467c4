"""Damaged models work, or are refused in one line: no other exception, no crash, no hang, no file written.

They run in processes of their own, since the ONNX checker, converter and runtime are C++: a crash there is a failure of
one case. ``SWS_FUZZ_CASES=20000 pytest tests/onnx_io/test_fuzz.py -m slow`` is the long run; every case is known by its
number, and ``python -m tests.onnx_io.fuzzing NUMBER 1`` repeats it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = 300
MANY = int(os.environ.get("SWS_FUZZ_CASES", "20000"))


def outcomes(first: int, count: int) -> tuple[Counter[str], dict[int, str]]:
    """Counts of cases that worked and that were refused, and the failures by case number; goes on after a crash."""
    counts: Counter[str] = Counter()
    failures: dict[int, str] = {}
    end = first + count
    while first < end:
        command = [sys.executable, "-m", "tests.onnx_io.fuzzing", str(first), str(end - first)]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        current = None
        for line in process.stdout.splitlines():
            entry = json.loads(line)
            if "start" in entry:
                current = entry["start"]
                continue
            current = None
            first = entry["number"] + 1
            if "failure" in entry:
                failures[entry["number"]] = entry["failure"]
            else:
                counts["worked" if entry["outcome"].startswith("ok") else "refused"] += 1
        if current is not None:
            failures[current] = f"the process ended with {process.returncode}: {process.stderr[-2000:]}"
            first = current + 1
        elif process.returncode:
            raise AssertionError(process.stderr)
    return counts, failures


def check(first: int, count: int) -> None:
    counts, failures = outcomes(first, count)
    assert not failures, "\n".join(f"case {number}: {text}" for number, text in list(failures.items())[:5])
    assert counts["worked"] > count / 20, counts  # else the damage is too coarse to get past the first check
    assert counts["refused"] > count / 20, counts


def test_some_damaged_models():
    check(0, CASES)


@pytest.mark.slow
def test_many_damaged_models():
    check(CASES, MANY)


def test_a_crash_is_seen_and_does_not_end_the_run(monkeypatch, tmp_path):
    """`outcomes` watches a program that dies at its second case."""
    (tmp_path / "tests" / "onnx_io").mkdir(parents=True)
    for folder in (tmp_path / "tests", tmp_path / "tests" / "onnx_io"):
        (folder / "__init__.py").touch()
    (tmp_path / "tests" / "onnx_io" / "fuzzing.py").write_text(
        "import json, os, sys\n"
        "for n in range(int(sys.argv[1]), int(sys.argv[1]) + int(sys.argv[2])):\n"
        "    print(json.dumps({'start': n}), flush=True)\n"
        "    if n == 1: os.abort()\n"
        "    print(json.dumps({'number': n, 'outcome': 'ok'}), flush=True)\n"
    )
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    counts, failures = outcomes(0, 4)
    assert counts == {"worked": 3}
    assert list(failures) == [1]
    assert "-6" in failures[1]
