"""Damaged models work, or are refused in one line: no other exception, no crash, no hang, no file written.

They run in processes of their own, since the ONNX checker, converter and runtime are C++: a crash there is a failure of
one case. ``SWS_FUZZ_CASES=20000 pytest tests/onnx_io/test_fuzz.py -m slow`` is the long run; every case is known by its
number, and ``python -m tests.onnx_io.fuzzing NUMBER 1`` repeats it.
"""

from __future__ import annotations

import os

import pytest

from tests.fuzz.watch import outcomes

CASES = 300
MANY = int(os.environ.get("SWS_FUZZ_CASES", "20000"))


def check(first: int, count: int) -> None:
    counts, failures = outcomes("tests.onnx_io.fuzzing", first, count)
    assert not failures, "\n".join(f"case {number}: {text}" for number, text in list(failures.items())[:5])
    worked = sum(times for outcome, times in counts.items() if outcome.startswith("ok"))
    assert worked > count / 20, counts  # else the damage is too coarse to get past the first check
    assert sum(counts.values()) - worked > count / 20, counts


def test_some_damaged_models():
    check(0, CASES)


@pytest.mark.slow
def test_many_damaged_models():
    check(CASES, MANY)
