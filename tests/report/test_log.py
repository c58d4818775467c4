"""A log holds whole rows, each step once, whatever happened to the run; nothing else is overwritten."""

from __future__ import annotations

import builtins
import csv
import json
import math
import sys
from pathlib import Path

import pytest

from sws_compress.errors import ArgumentError, OutputError
from sws_compress.report.log import COLUMNS, Row, TrainingLog, open_log

ENDINGS = ("csv", "jsonl")


def row(step: int, loss: float = 0.5, metric: float | None = None) -> Row:
    return {**dict.fromkeys(COLUMNS), "step": step, "total_steps": 100, "stage": "soft", "loss": loss, "metric": metric}


def write(log: TrainingLog, *steps: int, loss: float = 0.5) -> None:
    for step in steps:
        log.write(row(step, loss))
    log.close()


def rows(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as stream:
        return [{**line, "step": int(line["step"]), "loss": float(line["loss"])} for line in csv.DictReader(stream)]


def steps(path: Path) -> list[object]:
    return [line["step"] for line in rows(path)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_row_is_in_the_file_at_once(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"run.{ending}"
    log = open_log(path)
    assert not path.exists()
    for step in (1, 10, 20):
        log.write(row(step, loss=1 / 3, metric=97.5))
        assert path.read_bytes().endswith(b"\n")
        last = rows(path)[-1]
        assert tuple(last) == COLUMNS
        assert (last["step"], last["loss"]) == (step, 1 / 3)
        assert float(str(last["metric"])) == 97.5
        assert last["ratio"] in (None, "")
    log.close()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("torn", "again", "wanted"),
    [
        (b"", (21, 30), [1, 10, 20, 21, 30]),  # goes on
        (b"", (11, 20), [1, 10, 11, 20]),  # from an earlier state: what is done again is replaced
        (b"", (1, 10), [1, 10]),  # from the start: another run
        (b'{"step": 3', (30,), [1, 10, 20, 30]),  # killed while a line was written
    ],
)
def test_no_step_is_there_twice(
    ending: str, torn: bytes, again: tuple[int, ...], wanted: list[int], tmp_path: Path
) -> None:
    path = tmp_path / f"run.{ending}"
    write(open_log(path), 1, 10, 20)
    with path.open("ab") as stream:
        stream.write(torn)
    write(open_log(path), *again, loss=0.25)
    assert steps(path) == wanted
    assert [line["loss"] == 0.25 for line in rows(path)] == [line["step"] in again for line in rows(path)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_without_a_step_leaves_the_log_as_it_is(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"run.{ending}"
    write(open_log(path), 1, 10)
    before = path.read_bytes()
    open_log(path).close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("content", [b"x,y\n1,2\n", b'{"x": 1}\n', b'{"step": "one"}\n', b"text", b"\xff\xfe\x00\n"])
def test_other_files_are_refused_and_kept(ending: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"data.{ending}"
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match=rf"log .*data\.{ending} must be the log of a training run or a new file"):
        open_log(path)
    assert path.read_bytes() == content


def test_json_has_no_nan(tmp_path: Path) -> None:
    log = open_log(tmp_path / "run.jsonl")
    log.write(row(1, metric=math.nan))
    log.close()
    assert rows(tmp_path / "run.jsonl")[0]["metric"] is None


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"must end in \.csv or \.jsonl, or be a folder .*, got run\.txt"):
        open_log(tmp_path / "run.txt")


def test_folder_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    log = open_log(tmp_path / "gone" / "run.csv")
    with pytest.raises(OutputError, match="must be writable"):
        log.write(row(1))


def test_tensorboard_reads_what_was_written_and_nothing_twice(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(open_log(tmp_path / "board"), 1, 10, 20)
    write(open_log(tmp_path / "board"), 11, 20, loss=0.25)
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (1, 0.5),
        (10, 0.5),
        (11, 0.25),
        (20, 0.25),
    ]


def test_missing_tensorboard_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith(("torch.utils.tensorboard", "tensorboard")):
            raise ImportError("No module named 'tensorboard'")
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ArgumentError, match=r"pip install 'sws-compress\[tensorboard\]'") as error:
        open_log(tmp_path / "board")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "board").exists()
