"""The benchmark of training: its data, one run of its script, and tables that hold nothing but what was measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.training import __main__ as script
from benchmarks.training import table
from benchmarks.training.data import Batches, Rows, Splits
from benchmarks.training.measure import run
from benchmarks.training.problems import PROBLEMS, overlap, unexplained
from benchmarks.training.results import Results
from benchmarks.training.settings import DEFAULTS, TUNED, Goal, Setting

PARTS = ("weight_bytes", "codebook_bytes", "vector_bytes", "dense_bytes", "graph_bytes")
NO_FILES = tuple(name for name, problem in PROBLEMS.items() if problem.file is None)


@pytest.mark.parametrize("name", NO_FILES)
def test_rows_of_test_validation_and_training_are_apart(name: str) -> None:
    splits = PROBLEMS[name].splits(None)
    parts = [
        {inputs.numpy().tobytes() for inputs in rows.inputs}
        for rows in (splits.training, splits.validation, splits.test)
    ]
    assert min(map(len, parts)) > 300
    for first, second in ((0, 1), (0, 2), (1, 2)):
        # sentences of the documentation are repeated in it: few sequences of 32 characters
        assert len(parts[first] & parts[second]) <= (0.02 * len(parts[second]) if name == "lstm" else 0)


@pytest.mark.parametrize("name", PROBLEMS)
def test_networks_have_ten_to_eighty_thousand_weights(name: str) -> None:
    count = sum(parameter.numel() for parameter in PROBLEMS[name].build().parameters())
    assert 10_000 <= count <= 80_000


def test_a_constant_answer_gets_what_is_called_chance() -> None:
    for name in NO_FILES:
        problem = PROBLEMS[name]
        rows = problem.splits(None).validation
        classes = torch.zeros(len(rows.inputs), 30, *rows.targets.shape[1:])
        scores = []
        for each in rows.targets.unique().tolist():
            constant = classes.clone()
            constant[:, each] = 1
            scores.append(problem.metric(constant, rows))
        assert max(scores) == pytest.approx(problem.chance(rows))


def test_metrics_by_hand() -> None:
    masks = torch.tensor([[[1, 0], [1, 1]]])
    found = torch.stack([torch.tensor([[[0.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])], 1)
    assert overlap(found, Rows(masks, masks)) == pytest.approx(2 / 4)
    targets = torch.tensor([[0.0, 2.0], [4.0, 2.0]])
    assert unexplained(targets.mean(0).expand(2, 2), Rows(targets, targets)) == 1
    assert unexplained(targets + 1, Rows(targets, targets)) == pytest.approx(4 / 8)


def tiny() -> tuple[Any, Splits]:
    """The tutorial's problem with few rows, trained for one epoch."""
    whole = PROBLEMS["tutorial_mlp"].splits(None)
    splits = Splits(whole.training.part(0, 400), whole.validation.part(0, 100), whole.test.part(0, 100))
    return replace(PROBLEMS["tutorial_mlp"], splits=lambda folder: splits, epochs=1), splits


def test_a_run_tells_its_sizes_and_metrics() -> None:
    problem, splits = tiny()
    short = Setting("short", {"epochs": 2})
    found = run(problem, splits, problem.build(), Goal("ratio", 8), short, 0)
    assert found["ratio"] == pytest.approx(found["dense_bytes"] / found["file_bytes"])
    assert sum(found["parts"].values()) == found["file_bytes"]
    assert set(found["after"]) == {"validation", "test"}
    assert found["lost"] == found["before"]["validation"] - found["after"]["validation"]
    assert len(found["history"]["loss"]) == 2


def test_runs_that_are_in_the_file_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, splits = tiny()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(script.PROBLEMS, "tutorial_mlp", problem)
    monkeypatch.setattr(script, "run", lambda *_: {"error": "SwsError: none"})
    arguments = ["tutorial_mlp", "--ratios", "8", "--drops", "0.01", "--no-goal", "--seeds", "0", "1"]
    plan = script.plan_of(script.parse_arguments(arguments))

    def measured(seed: int, code: str) -> list[str]:
        results = Results(Path("results.json"))
        return [row["goal"] for row in script.measure("tutorial_mlp", splits, seed, plan, results, code)]

    assert measured(0, "code") == ["ratio=8", "max_drop=0.01", "none"]
    assert measured(0, "code") == []
    assert len(measured(1, "code")) == len(measured(0, "other code")) == 3
    rows = json.loads(Path("results.json").read_text())["rows"]
    assert [row["code"] for row in rows if row["seed"] == 0] == ["other code"] * 3
    assert len(rows) == 6


def test_a_refusal_is_a_row() -> None:
    problem, splits = tiny()
    found = run(problem, splits, problem.build(), Goal("ratio", 1e6), DEFAULTS, 0)
    assert found["error"].startswith("ArgumentError: ratio must be below")
    assert "after" not in found


def test_ten_settings_by_hand_are_requests() -> None:
    from sws_compress import FineTuned

    assert len({setting.name for setting in TUNED}) == 10
    batches = Batches(Rows(torch.zeros(4, 1), torch.zeros(4)), 2)
    for name in ("gru", "autoencoder"):
        for setting in TUNED:
            FineTuned(train=batches, loss=PROBLEMS[name].loss, **setting.request_arguments(PROBLEMS[name]))


def row_of(goal: str, lost: float, file_bytes: int, **more: Any) -> dict[str, Any]:
    metric = {"validation": 0.9 - lost, "test": 0.9 - lost}
    return {
        **{"network": "gru", "goal": goal, "setting": "defaults", "seed": 0, "task": "a task", "mode": "max"},
        **{"before": {"validation": 0.9, "test": 0.9}, "after": metric, "lost": lost, "chance": 0.1},
        **{"weights": 1000, "dense_bytes": 4000, "file_bytes": file_bytes, "ratio": 4000 / file_bytes},
        **{"parts": dict.fromkeys(PARTS, file_bytes // 5), "cpu_seconds": 2.0, "allowed": None, "at_chance": False},
        **{"lost_too_much": False, "silent": False, **more},
    }


def test_bytes_at_equal_loss_lie_between_two_runs() -> None:
    rows = [row_of("ratio=5", 0.0, 800), row_of("ratio=20", 0.02, 200)]
    drop = row_of("max_drop=0.01", 0.01, 600, allowed=0.01)
    assert table.bytes_at(table._curves(rows), drop) == pytest.approx(400)
    assert table.bytes_at(table._curves(rows), {**drop, "lost": 0.03}) is None
    assert "| gru | 0.01 | 6.7 | 90.0 → 89.0 | 90.0 → 89.0 | 100 % | 1.50 |" in table.drops_table([*rows, drop])


def test_settings_by_hand_are_compared_where_their_files_are_no_larger() -> None:
    rows = [
        row_of("ratio=10", 0.03, 400),
        row_of("ratio=10", 0.02, 405, setting="a"),
        row_of("ratio=10", 0.00, 500, setting="b"),
    ]
    assert "| 87.00 | a | 1 of 2 | 405 | 88.00 | +1.00 | no |" in table.tuned_table(rows)


def test_goals_are_counted() -> None:
    rows = [
        row_of("ratio=10", 0.03, 400, silent=True),
        row_of("ratio=20", 0.8, 300, at_chance=True),
        row_of("max_drop=0.01", 0.02, 400, allowed=0.01, lost_too_much=True),
        {key: value for key, value in row_of("ratio=50", 0, 1, error="refused").items() if key != "after"},
    ]
    counted = re.findall(r"\| (\d+ of \d+) \|", table.goals_table(rows))
    assert counted == ["1 of 4", "1 of 3", "1 of 1", "1 of 3", "1 of 2"]
    assert "refused" in table.ratios_table(rows)


def test_the_tables_of_the_readme_are_those_of_the_results() -> None:
    folder = Path(table.__file__).parent
    text = (folder / "README.md").read_text()
    assert set(re.findall(r"<!-- (\w+) -->", text)) - {"end"} == set(table.TABLES)
    if (folder / "results.json").exists():
        assert table.rendered(text, table.load(folder / "results.json")) == text
