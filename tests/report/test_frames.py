"""The recording of a run: few numbers, evenly spaced, true to the weights; and the animation made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from sws_compress.errors import ArgumentError, TrainingError
from sws_compress.report.drawing import drawing
from sws_compress.report.frames import BINS, WeightFrames
from sws_compress.train.prior import SoftWeightSharing
from tests.train.digits import Batches, trained
from tests.train.runs import SHORT, tune


@pytest.fixture(scope="module")
def recorded() -> WeightFrames:
    frames = WeightFrames(count=20)
    tune(trained(), Batches(400, 50), SHORT, on_step=frames.add)
    return frames


def test_snapshots_are_even_and_include_both_ends(recorded: WeightFrames) -> None:
    assert [snapshot.step for snapshot in recorded.snapshots] == [*range(0, 81, 4)]
    assert {snapshot.stage for snapshot in recorded.snapshots} == {"soft", "hard", "tune"}


def test_every_weight_is_in_every_snapshot(recorded: WeightFrames) -> None:
    for snapshot in recorded.snapshots:
        assert {name: histogram.count for name, histogram in snapshot.histograms.items()} == {
            "0.weight": 64 * 32,
            "2.weight": 32 * 10,
        }
        assert all(histogram.bins == BINS for histogram in snapshot.histograms.values())
        assert snapshot.mixtures.keys() == snapshot.histograms.keys()


def test_weights_gather(recorded: WeightFrames) -> None:
    """More of them end near a mean than began there."""

    def near(index: int) -> float:
        snapshot = recorded.snapshots[index]
        histogram, mixture = snapshot.histograms["0.weight"], recorded.snapshots[-1].mixtures["0.weight"]
        distance = np.abs(histogram.centres[:, None] - mixture.means[mixture.weights > 0.01]).min(1)
        return float(histogram.counts[distance < 0.02].sum())

    assert near(-1) > 1.2 * near(0)


def test_a_run_of_unknown_length_keeps_at_most_count() -> None:
    network = trained()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    prior = SoftWeightSharing(network, optimizer, components=4)
    frames = WeightFrames(count=5)
    for pixels, labels in list(Batches(1300, 50)):
        frames.add(prior)
        optimizer.zero_grad()
        cross_entropy(network(pixels), labels).backward()
        optimizer.step()
        prior.step()
    assert [snapshot.step for snapshot in frames.snapshots] == [0, 8, 16, 24]


def test_weights_that_are_not_finite_are_the_runs_affair() -> None:
    network = trained()
    optimizer = torch.optim.Adam(network.parameters())
    prior = SoftWeightSharing(network, optimizer, components=4)
    frames = WeightFrames()
    frames.add(prior)
    optimizer.step()
    prior.step()
    with torch.no_grad():
        network[0].weight[3, 5] = torch.nan
    frames.add(prior)
    assert [snapshot.step for snapshot in frames.snapshots] == [0]
    with pytest.raises(TrainingError, match="must stay finite"):
        prior.histograms()


def test_histograms_are_of_latent_weights() -> None:
    """In the hard stage the parameters hold a few values; what is behind them spreads on."""
    network = trained()
    seen: list[tuple[int, int]] = []

    def look(prior: SoftWeightSharing) -> None:
        occupied = np.count_nonzero(prior.histograms(bins=512)["0.weight"].counts)
        seen.append((len(network[0].weight.detach().unique()), occupied))

    tune(network, Batches(400, 50), SHORT, on_step=look)
    assert seen[0] == (2048, seen[0][1])
    assert all(values <= 8 < 50 < occupied for values, occupied in seen[40:])


def test_ranges_keep_what_lies_outside() -> None:
    network = trained()
    prior = SoftWeightSharing(network, torch.optim.Adam(network.parameters()), components=4)
    own = prior.histograms(bins=10)
    assert {name: histogram.count for name, histogram in own.items()} == {"0.weight": 2048, "2.weight": 320}
    narrow = prior.histograms(dict.fromkeys(own, (-0.01, 0.01)), bins=10)["0.weight"]
    assert narrow.count == 2048
    assert narrow.counts[0] == float((network[0].weight < -0.008).sum())


def test_animation(recorded: WeightFrames, tmp_path: Path) -> None:
    recorded.save(tmp_path / "weights.gif")
    with Image.open(tmp_path / "weights.gif") as picture:
        assert picture.format == "GIF"
        assert picture.n_frames == len(recorded.snapshots)  # type: ignore[attr-defined]
        frames = []
        for i in (0, picture.n_frames - 1):  # type: ignore[attr-defined]
            picture.seek(i)
            frames.append(np.asarray(picture.convert("RGB"), dtype=int))
    assert frames[0].shape[1] == 760
    blue, red = ((frames[0][..., a] - frames[0][..., b]) > 60 for a, b in ((2, 0), (0, 2)))
    assert blue.sum() > 300  # clusters below zero
    assert red.sum() > 300
    assert np.abs(frames[1] - frames[0]).mean() > 1


def test_nothing_recorded_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"must have snapshots, got none: call add\(\)"):
        WeightFrames().save(tmp_path / "weights.gif")
    with pytest.raises(ArgumentError, match="count must be >= 2, got 1"):
        WeightFrames(count=1)


def test_every_value_of_the_network_is_on_the_axis(recorded: WeightFrames) -> None:
    """Training may move a value beyond the bins, which are those of the first weights."""
    shown_range = drawing("animation").shown_range
    first = recorded.snapshots[0].histograms["2.weight"]
    last = recorded.snapshots[-1]
    mixture = last.mixtures["2.weight"]
    far = replace(mixture, means=np.append(mixture.means[:-1], 3 * first.high))
    moved = replace(last, mixtures={**last.mixtures, "2.weight": far})
    low, high = shown_range("2.weight", [*recorded.snapshots[:-1], moved])
    assert low <= min(first.low, float(mixture.means.min()))
    assert high > 3 * first.high
    assert shown_range("2.weight", recorded.snapshots[:1])[1] >= first.high
