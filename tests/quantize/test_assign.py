"""Assignment and codebooks: oracles, laws, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.mixture import Mixture, log_joint
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize import assign as module
from sws_compress.quantize.assign import bit_costs, lower_envelope, scalar_members, snap
from sws_compress.quantize.palette import palette_of
from tests import reference


def lopsided(count: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).gamma(2.0, 0.3, count) - 0.4).astype(np.float32)


@given(seed=st.integers(0, 2**16), components=st.integers(1, 12), price=st.sampled_from([0.0, 1e-4, 0.01, 0.3]))
@settings(deadline=None)
def test_lower_envelope_is_argmin(seed: int, components: int, price: float) -> None:
    rng = np.random.default_rng(seed)
    means = np.round(rng.normal(0, 1, components), 1)  # rounded: some means coincide
    shares = rng.dirichlet(np.full(components, 0.3))
    shares[0] = 0.0 if components > 2 else shares[0]
    costs = bit_costs(shares, price)
    winners, breakpoints = lower_envelope(means, costs)
    assert np.all(np.diff(means[winners]) > 0)
    assert np.all(np.diff(breakpoints) > 0)
    grid = rng.normal(0, 2, 200)
    all_costs = (grid[:, None] - means) ** 2 + costs
    chosen = winners[np.searchsorted(breakpoints, grid)]
    np.testing.assert_allclose(all_costs[np.arange(200), chosen], all_costs.min(axis=1), atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e9])
@pytest.mark.parametrize("spacing", [1e-16, 1e-7, 1.0, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cells_are_exact_where_they_are_narrower_than_the_grid(offset: float, spacing: float, dtype: type) -> None:
    rng = np.random.default_rng(5)
    means = np.unique(np.append(offset + spacing * rng.normal(0, 1, 40), offset + 1e5 * spacing))
    bounds = (means[1:] + means[:-1]) / 2
    values = np.concatenate([means, bounds, np.nextafter(bounds, np.inf), rng.choice(means, 700)]).astype(dtype)
    chosen = scalar_members(values, None, means, np.zeros(len(means)))
    winners, breakpoints = lower_envelope(means, np.zeros(len(means)))
    wanted = winners[np.searchsorted(breakpoints, values.astype(np.float64))]
    np.testing.assert_array_equal(chosen.assignment, wanted)
    np.testing.assert_array_equal(chosen.counts, np.bincount(wanted, minlength=len(means)))


def sensitivities_of(kind: str, shape: tuple[int, int]) -> Sensitivity | None:
    """Lopsided, exact in float32; a tenth of the weights has none."""
    rng = np.random.default_rng(8)
    if kind == "none":
        return None
    if kind == "per weight":
        h = rng.gamma(0.5, 2.0, shape).astype(np.float32)
        h[rng.random(shape) < 0.1] = 0
        return Sensitivity(h)
    axis = 0 if kind == "per row" else 1
    return Sensitivity.along(rng.gamma(0.5, 2.0, shape[axis]).astype(np.float32), axis=axis, ndim=2)


@pytest.mark.parametrize("kind", ["none", "per weight", "per row", "per column"])
@pytest.mark.parametrize("dimension", [1, 2, 4])
@pytest.mark.parametrize("bit_price", [0.0, 0.04, 1.0])
def test_snap_is_the_loop(kind: str, dimension: int, bit_price: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 33)
    monkeypatch.setattr(module, "PIECE_WEIGHTS", 101)
    values, sensitivity = lopsided(400).reshape(20, 20), sensitivities_of(kind, (20, 20))
    rng = np.random.default_rng(1)
    means = np.concatenate([np.zeros((1, dimension)), rng.normal(0.2, 0.5, (5, dimension))])
    shares = np.array([0.6, 0.3, 0.06, 0.02, 0.02, 0.0])
    own_means = means if dimension > 1 else means[:, 0]
    mixture = Mixture(shares, own_means, np.full(own_means.shape, 0.1))
    palette = snap(values, mixture, sensitivity=sensitivity, bit_price=bit_price)
    assert palette.shape == (20, 20)
    rows = values.reshape(-1, dimension).astype(np.float64)
    h = np.ones_like(rows) if sensitivity is None else sensitivity.rows((20, 20), dimension).astype(np.float64)
    chosen, codebook = reference.snap(rows, h, shares, means, bit_price)
    cared = h.max(axis=1) > 0  # what costs nothing may go anywhere
    expanded = palette.expand().reshape(-1, dimension)
    np.testing.assert_allclose(expanded[cared], np.array(codebook)[chosen][cared], atol=1e-6)
    assert np.all(palette.counts > 0)


@given(seed=st.integers(0, 2**16), components=st.integers(1, 40), price=st.sampled_from([1e-3, 0.05, 3.0]))
@settings(deadline=None, max_examples=40)
def test_sensitive_scalars_get_their_cheapest_component(seed: int, components: int, price: float) -> None:
    """Means may coincide, shares may be 0, sensitivities may be 0 or huge."""
    rng = np.random.default_rng(seed)
    means = np.round(rng.normal(0, 1, components), 1)
    shares = rng.dirichlet(np.full(components, 0.3))
    if components > 2:
        shares[0] = 0.0
    costs = bit_costs(shares, price)
    values = rng.normal(0, 2, 300)
    h = (10 ** rng.uniform(-6, 6, 300)) * (rng.random(300) < 0.9)
    members = scalar_members(values, h, means, costs)
    every = h[:, None] * (values[:, None] - means) ** 2 + costs
    np.testing.assert_allclose(every[np.arange(300), members.assignment], every.min(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(members.counts, np.bincount(members.assignment, minlength=components))
    mass = np.bincount(members.assignment, weights=h, minlength=components)
    moved = np.bincount(members.assignment, weights=h * (values - means[members.assignment]), minlength=components)
    np.testing.assert_allclose(members.mass[:, 0], mass, rtol=1e-9)
    np.testing.assert_allclose(members.sums[:, 0], moved, rtol=1e-9, atol=1e-9 * np.abs(moved).max())


def test_assignment_is_the_e_step_of_tied_variances() -> None:
    """argmax_k r_k = argmin_k h (w - mu_k)^2 - bit_price log2 pi_k at bit_price = 2 sigma^2 ln 2."""
    rng = np.random.default_rng(3)
    values = lopsided(3001)
    means, shares = np.array([0.0, -0.3, 0.2, 0.5, 1.1]), np.array([0.55, 0.05, 0.25, 0.1, 0.05])
    h = rng.gamma(0.7, 1.0, 3001).astype(np.float32)
    for variance in (1e-4, 0.01, 0.3):
        mixture = Mixture(shares, means, np.full(5, variance))
        responsible = log_joint(values, mixture, h.astype(np.float64)).argmax(axis=0)
        costs = bit_costs(shares, 2 * variance * math.log(2))
        np.testing.assert_array_equal(scalar_members(values, h, means, costs).assignment, responsible)
        plain = log_joint(values, mixture).argmax(axis=0)
        np.testing.assert_array_equal(scalar_members(values, None, means, costs).assignment, plain)
        wrong = scalar_members(values, None, means, bit_costs(shares, 4 * variance * math.log(2))).assignment
        assert (wrong != plain).any()


# Laws of sensitivities


MIXTURE = Mixture(np.array([0.6, 0.25, 0.1, 0.05]), np.array([0.0, 0.9, -0.3, 0.4]), np.full(4, 0.1))


@pytest.mark.parametrize("bit_price", [0.0, 0.05])
def test_one_sensitivity_for_all_is_a_price_divided_by_it(bit_price: float) -> None:
    values = lopsided(1001)
    plain = snap(values, MIXTURE, bit_price=bit_price)
    for h in (np.full(1001, 4.0, np.float32), np.array(4.0)):
        palette = snap(values, MIXTURE, sensitivity=Sensitivity(h), bit_price=4 * bit_price)
        assert palette.codebook.tobytes() == plain.codebook.tobytes()
        assert palette.indices.tobytes() == plain.indices.tobytes()


def test_a_weight_twice_is_a_weight_of_sensitivity_two() -> None:
    values = lopsided(501)
    twice = np.arange(501) % 3 == 0
    once = snap(values, MIXTURE, sensitivity=Sensitivity(np.where(twice, 2.0, 1.0)))
    copied = snap(np.concatenate([values, values[twice]]), MIXTURE)
    np.testing.assert_array_equal(copied.indices[:501], once.indices)
    np.testing.assert_allclose(copied.codebook, once.codebook, rtol=1e-6)


@pytest.mark.parametrize("bit_price", [0.0, 0.05])
def test_scaling_weights_scales_the_codebook_and_squares_the_price(bit_price: float) -> None:
    values, h = lopsided(1001), Sensitivity(np.random.default_rng(4).gamma(0.5, 1.0, 1001).astype(np.float32))
    scaled_mixture = Mixture(MIXTURE.weights, 8 * MIXTURE.means, 64 * MIXTURE.variances)
    plain = snap(values, MIXTURE, sensitivity=h, bit_price=bit_price)
    scaled = snap(8 * values, scaled_mixture, sensitivity=h, bit_price=64 * bit_price)
    np.testing.assert_array_equal(scaled.indices, plain.indices)
    np.testing.assert_array_equal(scaled.codebook, 8 * plain.codebook)


def test_sensitive_weights_draw_the_codebook() -> None:
    mixture = Mixture(np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.ones(2))
    values = np.array([0.8, 1.2, 0.0], np.float32)
    palette = snap(values, mixture, sensitivity=Sensitivity(np.array([3.0, 1.0, 1.0])))
    np.testing.assert_allclose(palette.codebook, [0.0, 0.9], rtol=1e-6)


def test_members_without_sensitivity_leave_the_mean_where_it_is() -> None:
    mixture = Mixture(np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.ones(2))
    palette = snap(np.array([0.7, 0.1], np.float32), mixture, sensitivity=Sensitivity(np.array([0.0, 1.0])))
    np.testing.assert_array_equal(palette.codebook, [0.0, 1.0])


def test_codebook_is_sorted_and_zero_exact() -> None:
    mixture = Mixture(np.full(4, 0.25), np.array([0.0, 0.9, -0.3, 0.4]), np.full(4, 0.1))
    palette = snap(lopsided(1001), mixture)
    assert np.all(np.diff(palette.codebook) > 0)
    assert 0.0 in palette.codebook
    assert not np.signbit(palette.codebook[palette.codebook == 0]).any()


def test_rate_buys_zeros() -> None:
    mixture = Mixture(np.array([0.9, 0.05, 0.05]), np.array([0.0, 0.4, -0.2]), np.full(3, 0.1))
    palettes = [snap(lopsided(5001), mixture, bit_price=price) for price in (0.0, 0.01, 0.04)]
    entropies = [palette.entropy_bits for palette in palettes]
    assert entropies[0] > entropies[1] > entropies[2]
    assert palettes[0].zeros < palettes[1].zeros < palettes[2].zeros


def test_components_that_round_to_one_value_are_one_entry() -> None:
    mixture = Mixture(np.full(3, 1 / 3), np.array([0.0, 1 - 1e-9, 1 + 1e-9]), np.ones(3))
    palette = snap(np.array([0.2, 1 - 1e-9, 1 + 1e-9]), mixture)
    np.testing.assert_array_equal(palette.codebook, np.array([0, 1], np.float32))
    np.testing.assert_array_equal(palette.indices, [0, 1, 1])


def test_snapping_again_changes_nothing() -> None:
    mixture = Mixture(np.full(4, 0.25), np.array([0.0, 0.9, -0.3, 0.4]), np.full(4, 0.1))
    once = snap(lopsided(1001), mixture)
    again = palette_of(once.expand())
    assert again is not None
    np.testing.assert_array_equal(again.codebook, once.codebook)
    np.testing.assert_array_equal(again.indices, once.indices)


def test_snap_refuses() -> None:
    mixture = Mixture(np.full(2, 0.5), np.zeros((2, 2)), np.ones((2, 2)))
    with pytest.raises(ArgumentError, match="multiple of 2, got 3"):
        snap(np.zeros(3, np.float32), mixture)
    with pytest.raises(ArgumentError, match="bit_price must be finite and >= 0, got -1"):
        snap(np.zeros(4, np.float32), mixture, bit_price=-1)
    with pytest.raises(ArgumentError, match=r"broadcast to the shape of the values \(4,\), got \(3,\)"):
        snap(np.zeros(4, np.float32), mixture, sensitivity=Sensitivity(np.ones(3)))
    with pytest.raises(ModelError, match="got 1 NaN or infinite of 4"):
        snap(np.array([0, 0, np.nan, 1], np.float32), mixture)
    with pytest.raises(ArgumentError, match="components must be <= 256, got 257"):
        snap(np.zeros(3, np.float32), Mixture(np.full(257, 1 / 257), np.arange(257), np.ones(257)))
