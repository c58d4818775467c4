"""One case: a damaged model, the commands that get it, and what must hold of their answers.

    python -m tests.fuzz.cases FIRST COUNT [FOLDER]

works through a range of numbers and prints a line before and after every case, so that who watches can tell which one
took the process down. Failing cases are kept in FOLDER.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.fuzz.bases import KINDS, OPTIONS, base
from tests.fuzz.mutations import Case, mutate
from tests.fuzz.oracle import check_compressed, check_expanded, check_inspected
from tests.onnx_io.fuzzing import change_bytes

CASE_SECONDS = 20
"""Seconds that a command may take, of this processor; other programs may make it wait three times as long."""

GROWTH_BYTES = 2 << 30
"""Memory that a case may take: what the process has before it, and this."""

LONGEST_LINE = 500
"""Characters of an error line."""

ERROR = re.compile(r"sws-compress: error: .*\n")


class CaseError(AssertionError):
    """What a case did wrong; the first word tells its kind."""


@dataclass(frozen=True)
class Made:
    """A damaged model and what lies beside it."""

    kind: str
    model: bytes
    beside: dict[str, bytes]
    done: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    error: str

    @property
    def values(self) -> dict[str, Any]:
        return json.loads(self.out)


def made(number: int) -> Made:
    """The damaged model of case ``number``."""
    random = np.random.default_rng([7, number])
    kind = KINDS[random.integers(len(KINDS))]
    files = base(kind)
    model = onnx.ModelProto()
    model.ParseFromString(files.model)
    case = Case(model, random, dict(files.beside))
    done = mutate(case, int(random.choice([0, 1, 1, 1, 1, 2, 2, 3, 5])))
    data = case.model.SerializeToString()
    if random.random() < 0.07:
        data, done = change_bytes(data, random), (*done, "bytes")
    return Made(kind, data, case.beside, done)


def write(case: Made, folder: Path) -> None:
    """The files of a case, and the links and pipes that external data may name."""
    (folder / "net.onnx").write_bytes(case.model)
    (folder / "base.onnx").write_bytes(base(case.kind).model)
    for name, data in case.beside.items():
        (folder / name).write_bytes(data)
    (folder / "link.bin").symlink_to("/etc/passwd")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")


def commands(number: int, kind: str) -> list[list[str]]:
    """The commands that a case's model gets; every kind of command comes for every kind of model."""
    random = np.random.default_rng([8, number])
    compress = ["compress", "net.onnx", "-o", "out.onnx"]
    choices = [
        [*compress, *(OPTIONS[KINDS[-1 - random.integers(len(OPTIONS))]][1])],
        ["inspect", "net.onnx"],
        ["expand", "net.onnx", "-o", "out.onnx"],
        ["inspect", "--clusters", "net.onnx"],
        ["verify", "base.onnx", "net.onnx"],
        ["picture", "net.onnx", "-o", "out.png"],
    ]
    packed, plain = (0.05, 0.35, 0.35, 0.1, 0.1, 0.05), (0.55, 0.2, 0.05, 0.05, 0.1, 0.05)
    count = 2 if random.random() < 0.3 else 1
    chosen = random.choice(len(choices), count, replace=False, p=packed if kind in OPTIONS else plain)
    return [choices[i] if random.random() < 0.3 else [*choices[i], "--json"] for i in chosen]


def run(number: int, folder: Path) -> str:
    """Do what case ``number`` says in an empty folder; what became of it, in a word."""
    case = made(number)
    write(case, folder)
    before = sorted(os.listdir(folder))
    words = []
    for command in commands(number, case.kind):
        answer = call(command, folder)
        check_answer(command, answer)
        output = command[3] if "-o" in command[:3] else "none"
        left = sorted(set(os.listdir(folder)) - set(before))
        if left not in ([output], []) or (left and answer.code):
            raise CaseError(f"leftover files {left} after {command}, exit code {answer.code}")
        if answer.code == 0 and left:
            check_result(command, answer, folder)
        if answer.code == 0 and command == ["inspect", "net.onnx", "--json"]:
            check_inspected(answer.values)
        if left:
            (folder / output).unlink()
        words.append(f"{command[0]} {'worked' if answer.code == 0 else 'refused'}")
    return ", ".join(words)


def check_answer(command: list[str], answer: Answer) -> None:
    """The exit code, and what is on the terminal."""
    if answer.code == 1 and command[0] == "verify" and (not answer.error or "must have shape" in answer.error):
        return  # a verdict
    if answer.code not in (0, 2):
        raise CaseError(f"exit code {answer.code} of {command[0]}: {answer.error}")
    if "memory must hold" in answer.error:
        raise CaseError(f"memory of {command[0]} ran out")
    if answer.code == 0 and answer.error:
        raise CaseError(f"stderr at exit code 0: {answer.error[:3000]}")
    lines = answer.error.splitlines()
    if answer.code == 2 and (len(lines) != 1 or not ERROR.fullmatch(answer.error)):
        raise CaseError(f"stderr must be one line of ours: {answer.error[:3000]}")
    if max(map(len, lines), default=0) > LONGEST_LINE or not all(map(str.isprintable, lines)):
        raise CaseError(f"line too long or not printable: {answer.error[:3000]!r}")
    if not all(line.isprintable() for line in answer.out.split("\n")):
        raise CaseError(f"output not printable: {answer.out[:3000]!r}")


def check_result(command: list[str], answer: Answer, folder: Path) -> None:
    """The file that a command has written does what it says."""
    net, out = folder / "net.onnx", folder / "out.onnx"
    if command[0] == "compress":
        check_compressed(net, out, command)
        for further in (["inspect", "out.onnx", "--json"], ["expand", "out.onnx", "-o", "again.onnx"]):
            again = call(further, folder)
            if again.code and "MatMulNBits" not in again.error and "--low-bit" not in command:
                raise CaseError(f"further {further} of our own file: {again.error}")
        if (folder / "again.onnx").exists():
            check_expanded(out, folder / "again.onnx")
            (folder / "again.onnx").unlink()
    elif command[0] == "expand":
        check_expanded(net, out)


def call(command: list[str], folder: Path) -> Answer:
    """Run one command in this process, in ``folder``; everything that it prints is caught, also by libraries."""
    from sws_compress.cli.main import main

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2), os.getcwd()
        begun, since, held = computing_seconds(), time.monotonic(), memory_bytes()
        os.dup2(out.fileno(), 1)
        os.dup2(error.fileno(), 2)
        os.chdir(folder)
        try:
            code = main(command)
        except SystemExit as left:
            code = int(left.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])
            os.chdir(kept[2])
        seconds = computing_seconds() - begun
        waited = time.monotonic() - since
        if max(seconds, waited / 4) > CASE_SECONDS:
            raise CaseError(f"slow: {command} took {seconds:.0f} s, {waited:.0f} s with waiting")
        if memory_bytes() > held + GROWTH_BYTES:
            raise CaseError(f"memory: {command} took {(memory_bytes() - held) >> 20} MiB more")
        texts = []
        for stream in (out, error):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "backslashreplace"))
    return Answer(code, *texts)


def computing_seconds() -> float:
    """Processor seconds of this process; what its child takes has limits of its own."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main(first: int, count: int, folder: Path) -> None:
    warnings.simplefilter("always")
    warm_up()
    with open("/proc/self/statm") as stream:
        held = int(stream.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 2 * GROWTH_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(first, first + count):
        tell(start=number)
        begun = time.monotonic()
        try:
            with tempfile.TemporaryDirectory() as place:
                result = {"outcome": run(number, Path(place))}
        except BaseException:
            result = {"failure": traceback.format_exc()}
            keep(number, folder, result["failure"])
        tell(number=number, seconds=round(time.monotonic() - begun, 2), **result)


def warm_up() -> None:
    """Import all that commands import, before memory is limited and counted."""
    import matplotlib.pyplot
    import onnxruntime

    import sws_compress.api

    base("packed")
    assert matplotlib
    assert onnxruntime
    assert sws_compress


def keep(number: int, folder: Path, failure: str) -> None:
    """Write a failing case to a folder of its own."""
    place = folder / str(number)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    case = made(number)
    write(case, place)
    text = "\n".join(map(str, commands(number, case.kind)))
    (place / "failure.txt").write_text(f"{number} {case.kind} {case.done}\n{text}\n{failure}\n")


def tell(**entry: object) -> None:
    sys.stdout.write(json.dumps(entry) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    kept_in = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(tempfile.gettempdir()) / "sws_fuzz"
    main(int(sys.argv[1]), int(sys.argv[2]), kept_in)
