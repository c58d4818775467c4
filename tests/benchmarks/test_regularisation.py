"""The comparison of regularisers: data, choices, and one small run of the script."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.regularisation import __main__ as script
from benchmarks.regularisation.experiment import choose
from benchmarks.regularisation.learned_mixture import LearnedMixture
from benchmarks.regularisation.nets import Nets, losses
from benchmarks.regularisation.problems import LAGS, Problem, Sample, digits, sunspots
from benchmarks.regularisation.settings import GRIDS, TRIALS, Setting
from benchmarks.regularisation.training import Recipe, best, cross_validation, train
from sws_compress.mixture.mixture import Mixture

SHORT = Recipe(steps=20, restarts=1)


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
    for method in ("L1", "L2", "mixture", "mixture by gradients"):
        setting = GRIDS[method][3]
        together, objectives = train(problem, setting, SHORT, [0, 2], torch.ones(2, 23))
        alone, objective = train(problem, setting, SHORT, [2], torch.ones(1, 23))
        torch.testing.assert_close(objectives[1], objective[0], rtol=1e-3, atol=1e-4)
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
        nets = train(hidden, setting, SHORT, [0], (~held).float()[None])[0]
        total += float(losses(nets(sample.inputs)[0], sample.targets[None])[0][held].sum().detach())
    assert measured.shape == (1, 2)
    assert float(measured[0, 1]) == pytest.approx(total / 21, rel=1e-4)
    assert float(measured[0, 0]) == pytest.approx(2 * total / 21, rel=1e-4)


def test_choice_is_by_score_and_then_by_loss() -> None:
    a, b, c = (Setting(method="L2", value=value) for value in (1.0, 2.0, 3.0))
    results = {
        a: torch.tensor([[0.2, 9.0], [0.1, 2.0]]),
        b: torch.tensor([[0.1, 5.0], [0.1, 1.0]]),
        c: torch.tensor([[0.3, 1.0], [0.2, 0.5]]),
    }
    assert choose(results) == (b, b)


def test_every_tuned_method_has_the_same_budget() -> None:
    assert {len(grid) for name, grid in GRIDS.items() if name != "none"} == {TRIALS}


def test_penalties_shrink_weights() -> None:
    problem = noise(seeds=2, count=20, folds=2)
    recipe = Recipe(steps=150, restarts=1)

    def size(method: str, value: float, **own: Any) -> float:
        setting = Setting(method=method, value=value, start=value, components=8, **own)
        nets, _ = train(problem, setting, recipe, [0, 1], torch.ones(2, 20))
        return float(nets.stacked("hidden_weight").detach().square().mean())

    free = size("none", 0.0)
    for strong in (
        size("L1", 0.03),
        size("L2", 0.1),
        size("mixture", 0.01, floor=(1.0, 0.3)),
        size("mixture by gradients", 0.01, shape=6.0, spread=0.1),
    ):
        assert strong < 0.6 * free


@pytest.mark.parametrize("one_mixture", [False, True])
def test_learned_mixture_is_the_density_and_its_prior(one_mixture: bool) -> None:
    nets = Nets(5, 4, 2, [0, 3])
    setting = Setting(method="", components=4, one_mixture=one_mixture, shape=3.0, spread=0.2, zero_share=0.7)
    mixture = LearnedMixture(setting, nets)
    layers = tuple(nets.stacked(name).detach() for name in ("hidden_weight", "output_weight"))
    found = mixture(layers)
    for net in range(2):
        parts = [layer[net].numpy().ravel() for layer in layers]
        total = 0.0
        for i, part in enumerate([np.concatenate(parts)] if one_mixture else parts):
            spread = mixture.log_spreads[i, net].detach().double().exp().numpy()
            means = np.append(0.0, mixture.means[i, net].detach().double().numpy())
            total -= Mixture(np.array([0.7, 0.1, 0.1, 0.1]), means, spread**2).log_density(part).sum()
            total += np.sum(2 * (2 * np.log(spread) + 0.2**2 / spread**2))
            total -= 0.5 * np.log(2 * np.pi) * len(part)  # the constant that the penalty leaves out
        assert float(found[net]) == pytest.approx(total, rel=1e-5)


def test_restart_with_the_least_objective_is_kept() -> None:
    values = torch.arange(6.0)[:, None]  # three restarts of two networks
    objectives = torch.tensor([5.0, 1.0, 3.0, 2.0, 4.0, 0.5])
    assert best(values, objectives, 3).tolist() == [[2.0], [5.0]]


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
    assert [outcome["method"] for outcome in outcomes] == [*GRIDS]
    for outcome in outcomes:
        per_seed = outcome["scores"]["test"]["per_seed"]
        assert outcome["scores"]["test"]["mean"] == pytest.approx(np.mean(per_seed))
        assert outcome["scores"]["test"]["standard_error"] == pytest.approx(np.std(per_seed, ddof=1) / 2**0.5)
    assert report["environment"]["packages"]["torch"]
    assert (tmp_path / "regularisation.png").stat().st_size > 10_000
    assert f"{outcomes[0]['scores']['test']['mean']:.2f}" in capsys.readouterr().out
