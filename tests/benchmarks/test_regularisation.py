"""The comparison of regularisers: data, choices, and one small run of the script."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.regularisation import __main__ as script
from benchmarks.regularisation.experiment import choose
from benchmarks.regularisation.nets import Nets, losses
from benchmarks.regularisation.problems import LAGS, Problem, Sample, digits, sunspots
from benchmarks.regularisation.training import GRIDS, Recipe, Setting, cross_validation, train

SHORT = Recipe(steps=20)


def noise(seeds: int, count: int, folds: int) -> Problem:
    generator = torch.Generator().manual_seed(3)
    samples = tuple(
        Sample(
            torch.randn(count, 5, generator=generator),
            torch.randn(count, generator=generator),
            torch.arange(count) % folds,
        )
        for _ in range(seeds)
    )
    return Problem(name="noise", samples=samples, tests={}, hidden=4, outputs=1, score_unit=1.0)


def test_sunspots_are_predicted_from_the_years_before() -> None:
    pytest.importorskip("statsmodels")
    problem = sunspots(seeds=2, folds=4)
    sample = problem.samples[0]
    assert sample.inputs.shape == (1920 - 1700 + 1 - LAGS, LAGS)
    assert torch.equal(sample.inputs[1:, -1], sample.targets[:-1])
    assert [len(targets) for _, targets in problem.tests.values()] == [35, 24, 29]
    assert torch.equal(
        problem.tests["1921-1955"][0][0, 1:],
        sample.inputs[-1][2:].new_tensor([*sample.inputs[-1][2:], sample.targets[-1]]),
    )
    assert bool((sample.fold.diff() >= 0).all())


def test_digits_keep_test_and_training_apart() -> None:
    problem = digits(seeds=3, folds=4, count=50)
    inputs, targets = problem.tests["test"]
    assert inputs.shape == (797, 64)
    assert targets.shape == (797,)
    seen = {row.numpy().tobytes() for sample in problem.samples for row in sample.inputs}
    assert not seen & {row.numpy().tobytes() for row in inputs}
    assert not torch.equal(problem.samples[0].inputs, problem.samples[1].inputs)


def test_networks_side_by_side_train_as_they_do_alone() -> None:
    problem = noise(seeds=3, count=23, folds=2)
    for method in ("L1", "L2", "mixture"):
        setting = GRIDS[method][3]
        together = train(problem, setting, SHORT, [0, 2], torch.ones(2, 23)).nets
        alone = train(problem, setting, SHORT, [2], torch.ones(1, 23)).nets
        for name in ("hidden_weight", "output_bias"):
            torch.testing.assert_close(together.stacked(name)[1], alone.stacked(name)[0], rtol=1e-4, atol=1e-5)


def test_held_out_cases_are_not_trained_on() -> None:
    """The held-out loss of a case is that of a network trained without its fold and without its target."""
    problem = noise(seeds=1, count=21, folds=3)
    setting = GRIDS["L2"][2]
    measured = cross_validation(problem, setting, SHORT, folds=3)
    sample = problem.samples[0]
    total = 0.0
    for fold in range(3):
        held = sample.fold == fold
        hidden = replace(problem, samples=(replace(sample, targets=torch.where(held, 1e3, sample.targets)),))
        nets = train(hidden, setting, SHORT, [0], (~held).float()[None]).nets
        total += float(losses(nets(sample.inputs)[0], sample.targets[None])[0][held].sum().detach())
    assert measured.shape == (1, 2)
    assert float(measured[0, 1]) == pytest.approx(total / 21, rel=1e-4)
    assert float(measured[0, 0]) == pytest.approx(2 * total / 21, rel=1e-4)


def test_choice_is_by_score_and_then_by_loss() -> None:
    a, b, c = (Setting("L2", value) for value in (1.0, 2.0, 3.0))
    results = {
        a: torch.tensor([[0.2, 9.0], [0.1, 2.0]]),
        b: torch.tensor([[0.1, 5.0], [0.1, 1.0]]),
        c: torch.tensor([[0.3, 1.0], [0.2, 0.5]]),
    }
    assert choose(results) == (b, b)


def test_every_tuned_method_has_the_same_budget() -> None:
    assert {len(grid) for name, grid in GRIDS.items() if name != "none"} == {8}


def test_penalties_shrink_weights() -> None:
    problem = noise(seeds=2, count=20, folds=2)
    recipe = Recipe(steps=150)

    def size(setting: Setting) -> float:
        nets = train(problem, setting, recipe, [0, 1], torch.ones(2, 20)).nets
        return float(nets.stacked("hidden_weight").detach().square().mean())

    free = size(Setting("none", 0.0))
    for strong in (Setting("L1", 0.03), Setting("L2", 0.1), Setting("mixture", 0.01, (1.0, 0.3))):
        assert size(strong) < 0.6 * free


def test_seed_determines_initial_weights() -> None:
    one, two = (Nets(3, 4, 2, seeds) for seeds in ([7, 8], [8]))
    assert torch.equal(one.stacked("hidden_weight")[1], two.stacked("hidden_weight")[0])


def test_script_writes_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "DIGITS", SHORT)
    monkeypatch.setattr(
        sys,
        "argv",
        ["regularisation", "--problems", "digits", "--seeds", "2", "--sizes", "24", "--output", str(tmp_path)],
    )
    threads = torch.get_num_threads()
    try:
        script.main()
    finally:
        torch.set_num_threads(threads)
    report = json.loads((tmp_path / "results.json").read_text())
    outcomes = report["results"]["digits, 24"]
    assert [outcome["method"] for outcome in outcomes] == [*GRIDS, "mixture, snapped"]
    for outcome in outcomes:
        per_seed = outcome["scores"]["test"]["per_seed"]
        assert outcome["scores"]["test"]["mean"] == pytest.approx(np.mean(per_seed))
        assert outcome["scores"]["test"]["standard_error"] == pytest.approx(np.std(per_seed, ddof=1) / 2**0.5)
    assert report["environment"]["packages"]["torch"]
    assert (tmp_path / "regularisation.png").stat().st_size > 10_000
    assert f"{outcomes[0]['scores']['test']['mean']:.2f}" in capsys.readouterr().out
