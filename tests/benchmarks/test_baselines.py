"""The compared methods follow their equations."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmarks.records import baselines
from benchmarks.records.baselines import Loop, front
from benchmarks.records.deep_compression import DeepCompression, linear_k_means, train_deep_compression
from benchmarks.records.gradient_mixture import (
    GradientMixture,
    LearnedMixture,
    add_prior_gradients,
    merged_means,
    train_gradient_mixture,
)
from benchmarks.records.taught import TaughtBatches, taught_batches, taught_loss
from sws_compress.demo.lenet import LeNet300100
from sws_compress.demo.mnist import Split
from sws_compress.train.distillation import Distillation, distillation_loss


def lopsided_split(count: int = 37) -> Split:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(count, 28, 28, generator=generator) ** 3
    return Split(images, torch.randint(0, 10, (count,), generator=generator))


@pytest.fixture(scope="module")
def network() -> LeNet300100:
    torch.manual_seed(1)
    return LeNet300100()


@pytest.fixture(scope="module")
def batches(network: LeNet300100) -> TaughtBatches:
    return taught_batches(lopsided_split(), network, 16)


def copied(network: LeNet300100) -> LeNet300100:
    copy = LeNet300100()
    copy.load_state_dict(network.state_dict())
    return copy


def test_batches_are_shifted_digits_with_the_teachers_answers(network: LeNet300100, batches: TaughtBatches) -> None:
    split = lopsided_split()
    possible = {}
    for image, label in zip(split.images, split.labels.tolist(), strict=True):
        padded = functional.pad(image, (1, 1, 1, 1))
        for rows, columns in itertools.product((-1, 0, 1), repeat=2):
            shifted = padded.roll((rows, columns), (0, 1))[1:-1, 1:-1]
            possible[tuple(shifted.flatten().tolist())] = label
    assert len(batches) == 2
    torch.manual_seed(5)
    for pixels, targets in batches:
        assert [possible[tuple(row.tolist())] for row in pixels] == targets[:, 0].tolist()
        torch.testing.assert_close(targets[:, 1:], network(pixels).detach(), rtol=1e-4, atol=1e-5)


def test_loss_equals_the_loss_of_the_loop_with_a_teacher() -> None:
    torch.manual_seed(2)
    outputs, wanted, labels = torch.randn(5, 10), 3 * torch.randn(5, 10), torch.tensor([3, 0, 9, 9, 4])
    teacher = Distillation()
    expected = (1 - teacher.weight) * functional.cross_entropy(outputs, labels)
    expected += teacher.weight * distillation_loss(outputs, wanted, teacher.temperature)
    torch.testing.assert_close(taught_loss(outputs, torch.cat([labels[:, None].float(), wanted], 1)), expected)


def test_prior_gradients_equal_those_computed_per_weight() -> None:
    torch.manual_seed(3)
    settings = GradientMixture(tau=1.0, components=6, first_spread=0.05)
    weights = nn.Parameter(0.2 * torch.randn(40, 25) + 0.03)
    mixture = LearnedMixture(settings)
    with torch.no_grad():
        mixture.logits.copy_(torch.tensor([0.3, -1.0, 0.0, 2.0, 0.5]))
    direct = mixture.penalty() - mixture.log_joint(weights.flatten()).logsumexp(1).sum()
    wanted = torch.autograd.grad(direct, [weights, *mixture.parameters()])
    weights.grad = torch.full_like(weights, 7.0)
    add_prior_gradients([weights], mixture, 0.25)
    found = [weights.grad, *(parameter.grad for parameter in mixture.parameters())]
    for gradient, expected, offset in zip(found, wanted, (7.0, 0.0, 0.0, 0.0), strict=True):
        assert gradient is not None
        error = (gradient - offset - 0.25 * expected).abs()
        assert error.mean() < 2e-3 * (0.25 * expected).abs().mean()
        assert error.max() < 2e-2 * (0.25 * expected).abs().max()  # p is not linear within a cell


def test_density_integrates_to_one_with_a_fixed_zero_share() -> None:
    mixture = LearnedMixture(GradientMixture(tau=1.0, zero_share=0.9))
    grid = torch.linspace(-4, 4, 20_001, dtype=torch.float64)
    total = float(mixture.log_joint(grid).detach().logsumexp(1).exp().sum() * (grid[1] - grid[0]))
    assert total == pytest.approx(1, abs=1e-4)
    assert mixture.log_shares()[0].item() == pytest.approx(math.log(0.9))


def test_nearly_equal_components_merge_and_the_zero_component_stays() -> None:
    mixture = LearnedMixture(GradientMixture(tau=1.0, components=6))
    with torch.no_grad():
        mixture.means.copy_(torch.tensor([-0.5, 0.3, 0.001, 0.301, 0.1]))
        mixture.log_precisions.fill_(2 * math.log(100))
        mixture.logits.copy_(torch.tensor([0.0, math.log(3.0), 0.0, 0.0, 0.0]))
    expected = [0.0, -0.5, 0.30025, 0.0, 0.30025, 0.1]
    assert merged_means(mixture).tolist() == pytest.approx(expected, abs=1e-6)


def test_k_means_starts_linearly_and_ends_at_the_means_of_its_clusters() -> None:
    values = torch.cat([torch.linspace(-1.0, -0.9, 5), torch.linspace(0.1, 0.4, 11), torch.tensor([3.0])])
    centroids, owners = linear_k_means(values, 3)
    assert centroids.tolist() == pytest.approx([-0.95, 0.25, 3.0], abs=1e-6)
    assert torch.bincount(owners).tolist() == [5, 11, 1]


def test_density_falls_from_one_to_the_requested_share() -> None:
    settings = DeepCompression(density=0.1, prune_until=0.5)
    shares = [settings.density_at(progress) for progress in np.linspace(0, 1, 21)]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[10], shares[-1]) == pytest.approx((1.0, 0.1, 0.1))


def test_deep_compression_keeps_the_density_and_the_number_of_values(
    network: LeNet300100, batches: TaughtBatches
) -> None:
    trained = copied(network)
    train_deep_compression(trained, batches, DeepCompression(density=0.06, values=5, prune_every=1), epochs=4)
    parts = [torch.cat([p.detach().flatten() for p in layer.parameters()]) for layer in trained.children()]
    kept = sum(int((part != 0).sum()) for part in parts)
    assert kept == pytest.approx(0.06 * sum(map(len, parts)), abs=2)
    assert all(len(part[part != 0].unique()) <= 5 for part in parts)


def test_gradient_mixture_snaps_weights_to_component_means(network: LeNet300100, batches: TaughtBatches) -> None:
    trained = copied(network)
    mixture = train_gradient_mixture(trained, batches, GradientMixture(tau=0.01), epochs=2)
    values = torch.cat([p.detach().flatten() for p in trained.parameters()]).unique()
    assert set(values.tolist()) <= set(merged_means(mixture).tolist())
    assert 0.0 in values.tolist()


def test_front_keeps_points_that_no_other_beats() -> None:
    pairs = [(9_000, 1.5), (5_000, 2.0), (6_000, 2.0), (7_000, 2.4), (5_000, 2.2), (20_000, 1.5)]
    points = [{"file_bytes": size, "validation_error_percent": error} for size, error in pairs]
    assert front(points) == [points[1], points[0]]


@pytest.mark.slow
def test_script_compares_all_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {
        "loop": [Loop(target_bytes=60_000)],
        "gradient_mixture": [GradientMixture(tau=0.01)],
        "deep_compression": [DeepCompression(density=0.1, values=4, prune_every=1)],
    }
    monkeypatch.setattr(baselines, "POINTS", small)
    monkeypatch.setattr(baselines, "HERE", tmp_path)
    monkeypatch.setattr(baselines, "PICTURE", tmp_path / "baselines.png")
    folder = tmp_path / "records" / "points"
    baselines.main(["--epochs", "3", "--images", "640", "--seeds", "2", "--folder", str(folder), "--commit"])
    figures = json.loads((tmp_path / "baselines.json").read_text())
    assert [point["method"] for point in figures["points"]] == list(baselines.NAMES)
    for point in figures["points"]:
        assert [run["seed"] for run in point["runs"]] == [0, 1]
        for run in point["runs"]:
            assert (folder / run["file"]).stat().st_size == run["file_bytes"] > run["payload_bytes"]
            assert 0 < run["test_error_percent"] < 95
        assert point["file_bytes"] == sum(run["file_bytes"] for run in point["runs"]) / 2
    assert (tmp_path / "baselines.png").stat().st_size > 10_000
