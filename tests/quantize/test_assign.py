from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.mixture import Mixture
from sws_compress.quantize import assign as module
from sws_compress.quantize.assign import lower_envelope, scalar_members, snap
from sws_compress.quantize.palette import Palette, palette_of
from tests import reference


def lopsided(count: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).gamma(2.0, 0.3, count) - 0.4).astype(np.float32)


def costs_of(values: np.ndarray, mixture: Mixture, bit_price: float) -> np.ndarray:
    means = mixture.means.reshape(mixture.components, -1)
    rows = values.reshape(-1, means.shape[1]).astype(np.float64)
    return np.array([reference.snap(row, mixture.weights, means, bit_price) for row in rows])


# Snap


@given(seed=st.integers(0, 2**16), components=st.integers(1, 12), rate=st.sampled_from([0.0, 1e-4, 0.01, 0.3]))
@settings(deadline=None)
def test_lower_envelope_is_argmin(seed: int, components: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    means = np.round(rng.normal(0, 1, components), 1)  # rounded: some means coincide
    shares = rng.dirichlet(np.full(components, 0.3))
    shares[0] = 0.0 if components > 2 else shares[0]
    with np.errstate(divide="ignore"):
        costs = -rate * np.log2(shares) if rate else np.zeros(components)
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


@pytest.mark.parametrize("dimension", [1, 2, 4])
@pytest.mark.parametrize("bit_price", [0.0, 0.04])
def test_every_weight_gets_its_cheapest_component(
    dimension: int, bit_price: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 33)
    values = lopsided(400)
    rng = np.random.default_rng(1)
    means = np.concatenate([np.zeros((1, dimension)), rng.normal(0.2, 0.5, (5, dimension))])
    means = means if dimension > 1 else means[:, 0]
    mixture = Mixture(np.array([0.6, 0.3, 0.06, 0.02, 0.015, 0.005]), means, np.full(means.shape, 0.1))
    palette = snap(values.reshape(20, 20), mixture, bit_price=bit_price)
    assert palette.shape == (20, 20)
    costs = costs_of(values, mixture, bit_price)
    best = costs.argmin(axis=1)
    # Same partition of the weights, and codebook entries at the means of their members (zero stays zero).
    rows = values.reshape(-1, dimension).astype(np.float64)
    expanded = palette.expand().reshape(-1, dimension)
    for k in range(6):
        if np.any(best == k):
            expected = rows[best == k].mean(axis=0) if k else np.zeros(dimension)
            np.testing.assert_allclose(expanded[best == k], np.tile(expected, ((best == k).sum(), 1)), atol=1e-6)
    assert len(palette.codebook) == len(np.unique(best))
    assert np.all(palette.counts > 0)


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
    with pytest.raises(ModelError, match="got 1 NaN or infinite of 4"):
        snap(np.array([0, 0, np.nan, 1], np.float32), mixture)
    with pytest.raises(ArgumentError, match="components must be <= 256, got 257"):
        snap(np.zeros(3, np.float32), Mixture(np.full(257, 1 / 257), np.arange(257), np.ones(257)))


# Palettes


@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(max_dims=3, max_side=12),
        elements=st.one_of(
            st.sampled_from([0.0, -0.0, 1.0, 1e-45, -1e-45]), st.floats(width=32, allow_nan=False, allow_infinity=False)
        ),
    )
)
@settings(deadline=None)
def test_palette_of_is_exact(values: np.ndarray) -> None:
    palette = palette_of(values)
    distinct = len(set(values.view(np.uint32).reshape(-1).tolist()))
    if distinct > 256:
        assert palette is None
        return
    assert palette is not None
    assert len(palette.codebook) == distinct
    np.testing.assert_array_equal(palette.expand().view(np.uint32), values.view(np.uint32))
    keys = [(float(v), not np.signbit(v)) for v in palette.codebook]
    assert keys == sorted(keys)


@pytest.mark.parametrize(("distinct", "found"), [(255, True), (256, True), (257, False)])
def test_palette_of_at_the_limit_with_rare_values(distinct: int, found: bool) -> None:
    """The last values occur once each, where a sample does not see them."""
    values = np.resize(np.arange(200, dtype=np.float32), 600_001)
    values[1 :: 600_000 // (distinct - 200)][: distinct - 200] = np.arange(200, distinct)
    assert len(np.unique(values)) == distinct
    palette = palette_of(values.reshape(1, -1))
    assert (palette is not None) == found
    if palette is not None:
        np.testing.assert_array_equal(palette.expand(), values.reshape(1, -1))


def test_palette_of_ordinary_weights_is_none() -> None:
    assert palette_of(lopsided(300_000)) is None


def test_palette_of_strided_weights() -> None:
    values = np.round(lopsided(1200) * 8).reshape(30, 40)[::3, ::-1].T
    palette = palette_of(values)
    assert palette is not None
    np.testing.assert_array_equal(palette.expand(), values)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_palette_of_refuses_what_is_not_finite(bad: float) -> None:
    values = lopsided(500_000)
    values[-2:] = bad
    for some in (values, values[-5:]):  # many distinct values or few
        with pytest.raises(ModelError, match="got 2 NaN or infinite"):
            palette_of(some)


def test_entropy_and_zeros() -> None:
    symbols = np.array([0, 0, 1, 2, 0, 1, 0], np.uint8)
    palette = Palette(np.array([0.0, 1.5, -1.0], np.float32), symbols, (7,))
    assert palette.entropy_bits == pytest.approx(reference.entropy_bits(symbols.tolist()))
    assert palette.zeros == pytest.approx(4 / 7)
    pairs = Palette(np.array([[0.0, 0.0], [0.0, 3.0]], np.float32), np.array([0, 1, 1], np.uint8), (2, 3))
    assert pairs.zeros == pytest.approx(4 / 6)
    assert pairs.dimension == 2
    np.testing.assert_array_equal(pairs.expand(), [[0, 0, 0], [3, 0, 3]])
    constant = Palette(np.array([2.0], np.float32), np.zeros(5, np.uint8), (5,))
    assert constant.entropy_bits == 0


@pytest.mark.parametrize(
    ("codebook", "indices", "shape", "message"),
    [
        (np.zeros(2, np.int64), np.zeros(3, np.uint8), (3,), "codebook must be floating-point"),
        (np.zeros(0, np.float32), np.zeros(3, np.uint8), (3,), "1 to 256 entries, got 0"),
        (np.zeros(2, np.float32), np.zeros(3, np.int64), (3,), "indices must be uint8"),
        (np.zeros(2, np.float32), np.full(3, 2, np.uint8), (3,), "indices must be < 2, got 2"),
        (np.zeros(2, np.float32), np.zeros(3, np.uint8), (4,), r"shape must hold 3 values, got \(4,\)"),
    ],
)
def test_palette_refuses(codebook: np.ndarray, indices: np.ndarray, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Palette(codebook, indices, shape)


def test_palette_of_refuses_other_dtypes() -> None:
    with pytest.raises(ArgumentError, match="must be floating-point and not empty, got int64"):
        palette_of(np.zeros(3, np.int64))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_palettes_have_the_type_of_the_tensor(dtype: type) -> None:
    values = lopsided(900).astype(dtype).reshape(30, 30)
    mixture = Mixture(np.full(3, 1 / 3), np.array([0.0, 0.21, 1.3]), np.full(3, 0.1))
    snapped = snap(values, mixture)
    assert snapped.codebook.dtype == values.dtype
    assert np.array_equal(snapped.codebook, snapped.codebook.astype(np.float32).astype(dtype))
    errors = [(values.astype(np.float64) - mean) ** 2 for mean in mixture.means]
    mean_of_last = values[np.argmin(errors, axis=0) == 2].astype(np.float64).mean()
    assert float(snapped.codebook[2]) == pytest.approx(mean_of_last, rel=1e-2)
    values = snapped.expand()
    values[3, 4] = -0.0
    exact = palette_of(values)
    assert exact is not None
    assert exact.expand().dtype == values.dtype
    assert exact.expand().tobytes() == values.tobytes()
    assert len(exact.codebook) == 4


def test_palettes_of_float64_keep_every_bit() -> None:
    values = np.array([0.1, 1e-310, -1e300, np.nextafter(0.1, 1)])[np.arange(40) % 4]
    exact = palette_of(values)
    assert exact is not None
    assert exact.expand().tobytes() == values.tobytes()
