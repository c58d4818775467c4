"""Models that are damaged by structure work, or are refused in one line, with every command; what works is right.

A case fails for a traceback, an exit code of 1, anything on standard error that is not one line of ours, a death, more
than 20 s or 2 GiB, a file that is left behind, or a result that the oracles do not confirm. Every case is known by its
number: ``python -m tests.fuzz.cases NUMBER 1`` repeats it, and leaves it in a folder.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.fuzz import bases, cases, mutations, oracle
from tests.fuzz.watch import outcomes

CASES = 60
MANY = int(os.environ.get("SWS_FUZZ_CASES", "20000"))


def check(first: int, count: int, folder: Path) -> None:
    counts, failures = outcomes("tests.fuzz.cases", first, count, str(folder))
    texts = [f"case {number}: {text}" for number, text in list(failures.items())[:5]]
    assert not failures, "\n".join([f"{len(failures)} of {count} cases failed; they are in {folder}", *texts])
    words = Counter[str]()
    for outcome, times in counts.items():
        for word in outcome.split(", "):
            words[word] += times
    for command in ("compress", "inspect", "expand"):  # else the damage is too coarse to get past the first check
        assert words[f"{command} worked"] >= count / 100, words
        assert words[f"{command} refused"] >= count / 100, words


def test_some_damaged_models(tmp_path):
    check(0, CASES, tmp_path)


@pytest.mark.slow
def test_many_damaged_models():
    check(CASES, MANY, Path(tempfile.gettempdir()) / "sws_fuzz")


def test_cases_repeat_and_differ():
    assert [cases.made(number) for number in range(40)] == [cases.made(number) for number in range(40)]
    assert len({cases.made(number).model for number in range(40)}) > 35


def test_every_plain_model_is_one():
    """What is not damaged is sound, but for kinds that are there to be refused."""
    for kind in bases.PLAIN:
        files = bases.base(kind)
        if not files.beside:
            onnx.checker.check_model(files.model)


@pytest.mark.parametrize("change", [change for change, _ in mutations.MUTATIONS], ids=lambda change: change.__name__)
def test_every_mutation_changes_something(change):
    """In a tenth of the tries or more."""
    changed = 0
    for seed in range(40):
        files = bases.base("lenet")
        model = onnx.load_from_string(files.model)
        case = mutations.Case(model, np.random.default_rng(seed))
        try:
            change(case)
        except Exception:
            continue
        changed += case.model.SerializeToString() != files.model or bool(case.beside)
    assert changed >= 4


# -- the watch and the oracles can fail -------------------------------------------------------------------------------


@pytest.mark.parametrize("misdeed", ["os.abort()", "time.sleep(30)", "os.kill(os.getpid(), 9)"])
def test_a_death_and_a_hang_are_seen_and_do_not_end_the_run(tmp_path, misdeed):
    (tmp_path / "program.py").write_text(
        "import json, os, sys, time\n"
        "for n in range(int(sys.argv[1]), int(sys.argv[1]) + int(sys.argv[2])):\n"
        "    print(json.dumps({'start': n}), flush=True)\n"
        f"    if n == 1: {misdeed}\n"
        "    print(json.dumps({'number': n, 'outcome': 'ok'}), flush=True)\n"
    )
    counts, failures = outcomes("program", 0, 4, root=tmp_path, seconds=2)
    assert counts == {"ok": 3}
    assert list(failures) == [1]
    assert "death: the process ended with -" in failures[1]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (cases.Answer(1, "", "sws-compress: error: x\n"), "exit code 1"),
        (cases.Answer(0, "", "RuntimeWarning: overflow\n"), "stderr at exit code 0"),
        (cases.Answer(2, "", "Traceback\nValueError\n"), "one line of ours"),
        (cases.Answer(2, "", f"sws-compress: error: {'x' * 600}\n"), "too long"),
        (cases.Answer(2, "", "sws-compress: error: \x1b[31m\n"), "not printable"),
        (cases.Answer(0, "a\x07b\n", ""), "not printable"),
    ],
)
def test_wrong_answers_are_seen(answer, kind):
    with pytest.raises(cases.CaseError, match=kind):
        cases.check_answer(["inspect", "net.onnx"], answer)


def test_a_wrong_weight_is_seen(tmp_path):
    """One number of a dense weight is another."""
    (tmp_path / "net.onnx").write_bytes(bases.base("perceptron").model)
    small = onnx.load_from_string(bases.base("packed").model)
    onnx.save(small, tmp_path / "out.onnx")
    command = ["compress", "net.onnx", "-o", "out.onnx"]
    oracle.check_compressed(tmp_path / "net.onnx", tmp_path / "out.onnx", command)
    dense = next(tensor for tensor in small.graph.initializer if tensor.name == "W1")
    values = onnx.numpy_helper.to_array(dense).copy()
    values[3, 2] += 1
    dense.raw_data = values.tobytes()
    onnx.save(small, tmp_path / "out.onnx")
    with pytest.raises(AssertionError, match="wrong compression"):
        oracle.check_compressed(tmp_path / "net.onnx", tmp_path / "out.onnx", command)
