"""The pure functions of the hard stage against float64 loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sws_compress.entropy import entropy_bits
from sws_compress.train.stages import hard_em as hard
from tests import reference


@pytest.mark.parametrize("price", [0.0, 1e-3, 0.05])
@pytest.mark.parametrize("weighted", [False, True])
def test_assignment_is_the_least_cost(price: float, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    latent = torch.from_numpy(rng.laplace(0.02, 0.2, (7, 31)).astype(np.float32))
    h = torch.from_numpy(rng.gamma(0.5, 1.0, (7, 31)).astype(np.float32)) if weighted else None
    codebook = torch.tensor([0.0, 0.4, -0.3, 0.15, -0.1, 0.39])
    bits = torch.tensor([0.5, 3.0, 2.5, 4.0, 3.5, torch.inf], dtype=torch.float64)
    chosen = hard.assign(latent, h, codebook, bits, price)
    assert chosen.dtype == torch.uint8
    flat_h = [1.0] * latent.numel() if h is None else h.reshape(-1).tolist()
    wanted = [
        reference.assignment(w, s, codebook.tolist()[:5], bits.tolist()[:5], price)
        for w, s in zip(latent.reshape(-1).tolist(), flat_h, strict=True)
    ]
    assert chosen.reshape(-1).tolist() == wanted
    assert len(set(wanted)) == 5 or price == 0.05


def test_insensitive_weights_take_the_cheapest_symbol() -> None:
    chosen = hard.assign(torch.ones(5), torch.zeros(5), torch.tensor([0.0, 1.0]), torch.tensor([0.1, 3.0]), 1.0)
    assert chosen.tolist() == [0] * 5


def test_zero_costs_no_more_than_any_other_symbol() -> None:
    weights = torch.tensor([0.125, 0.5, 0.25, 0.125], dtype=torch.float64)
    assert hard.code_lengths(weights).tolist() == [1, 1, 2, 3]
    assert hard.code_lengths(weights[[1, 0, 2, 3]]).tolist() == [1, 3, 2, 3]
    nothing = torch.zeros(5)
    chosen = hard.assign(torch.ones(5), nothing, torch.arange(4.0), hard.code_lengths(weights), 1.0)
    assert torch.equal(chosen, nothing)


def test_entropy_counts_all_members_together() -> None:
    assignments = [torch.tensor([0, 0, 0, 2, 5], dtype=torch.uint8), torch.tensor([[2, 0], [0, 0]], dtype=torch.uint8)]
    occupancy = hard.counts(assignments, 7)
    assert occupancy.tolist() == [6, 0, 2, 0, 0, 1, 0]
    symbols = [0, 0, 0, 2, 5, 2, 0, 0, 0]
    assert entropy_bits(occupancy) == pytest.approx(reference.entropy_bits(symbols) * 9)
    assert entropy_bits(torch.tensor([4.0, 0.0])) == 0


def test_proportions_follow_the_counts_and_never_vanish() -> None:
    weights = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    for _ in range(100):
        weights = hard.update_proportions(weights, torch.tensor([97.0, 0.0, 3.0], dtype=torch.float64))
    np.testing.assert_allclose(weights, [98 / 103, 1 / 103, 4 / 103], rtol=1e-9)


def test_member_sums_equal_loops() -> None:
    values, chosen = torch.randn(3, 17, generator=torch.Generator().manual_seed(0)), torch.arange(51) % 5
    sums = hard.member_sums(values, chosen.reshape(3, 17).to(torch.uint8), 6)
    wanted = [
        sum(v for v, k in zip(values.reshape(-1).tolist(), chosen.tolist(), strict=True) if k == j) for j in range(6)
    ]
    np.testing.assert_allclose(sums, wanted, atol=1e-12)


def cost_of(chosen: np.ndarray, weights: np.ndarray, h: np.ndarray, price: float, entry_bits: float) -> float:
    """Distortion about the members' means (component 0: zero) + price * (order-0 entropy and codebook entries)."""
    total = 0.0
    for k in np.unique(chosen):
        own = chosen == k
        mean = 0.0 if k == 0 else np.average(weights[own], weights=h[own])
        bits = -own.sum() * np.log2(own.mean()) + entry_bits
        total += float((h[own] * (weights[own] - mean) ** 2).sum()) + price * bits
    return total


@pytest.mark.parametrize("price", [1e-4, 3e-3, 0.03, 0.3, 3.0])
def test_the_merger_lowers_the_cost_most_among_all_neighbours_or_there_is_none(price: float) -> None:
    rng = np.random.default_rng(4)
    weights, h = rng.laplace(0.05, 0.3, 400), rng.gamma(0.7, 1.0, 400)
    means = np.array([0.0, 0.55, -0.4, 0.2, -0.9, 0.6])
    chosen = np.abs(weights[:, None] - means).argmin(1)
    k = len(means)
    mass, counts = (np.bincount(chosen, weights=part, minlength=k) for part in (h, np.ones_like(h)))
    means[1:] = (np.bincount(chosen, weights=h * weights, minlength=k) / mass)[1:]
    tensors = (torch.from_numpy(part) for part in (counts, mass, means))
    merger = hard.best_merge(*tensors, price, 16)
    before = cost_of(chosen, weights, h, price, 16)
    order = np.argsort(means)
    gains = {}
    for one, other in itertools.pairwise(order):
        kept = 0 if 0 in (one, other) else one
        merged = np.where((chosen == one) | (chosen == other), kept, chosen)
        gains[frozenset((int(one), int(other)))] = before - cost_of(merged, weights, h, price, 16)
    best = max(gains, key=gains.__getitem__)
    assert merger is None if gains[best] <= 0 else frozenset(merger or ()) == best
    assert (price < 0.01) is (merger is None)
    assert merger is None or merger[0] != 0


def test_the_smaller_of_two_goes_and_zero_never_does() -> None:
    means = torch.tensor([0.0, 5.0, 5.1], dtype=torch.float64)

    def merger(*counts: float) -> tuple[int, int] | None:
        members = torch.tensor(counts, dtype=torch.float64)
        return hard.best_merge(members, members, means, 0.1, 100)

    assert merger(300, 40, 60) == (1, 2)
    assert merger(300, 60, 40) == (2, 1)
    few_zeros = torch.tensor([5.0, 300.0])
    for neighbour in (0.01, -0.01):
        assert hard.best_merge(few_zeros, few_zeros, torch.tensor([0.0, neighbour]), 1.0, 100) == (1, 0)
