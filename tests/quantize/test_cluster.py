"""One function for all granularities: what each gives, and the laws that all of them keep."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize.cluster import cluster
from sws_compress.quantize.granularity import Best, Granularity, PerChannel, PerTensor, Vectors
from sws_compress.quantize.palette import Palette
from sws_compress.quantize.rate_distortion import coded_bits, merit_bits, squared_error

ALL: tuple[Granularity, ...] = (PerTensor(), PerChannel(), Vectors(2), Best(), Best((Vectors(4), PerChannel())))


def lopsided(seed: int = 0) -> np.ndarray:
    """Channels (axis 1) of different size, off centre."""
    rng = np.random.default_rng(seed)
    return ((rng.gamma(2.0, 0.3, (40, 12, 6)) - 0.5) * np.geomspace(0.05, 2, 12)[:, None]).astype(np.float32)


def sensitivity(seed: int = 1) -> Sensitivity:
    return Sensitivity(np.random.default_rng(seed).gamma(0.5, 1.0, (40, 12, 6)).astype(np.float32))


def clustered(values: np.ndarray, granularity: Granularity, **options) -> Palette:
    return cluster(values, 16, granularity, channel_axis=1, seed=0, **options).palette


def test_each_granularity_gives_its_form() -> None:
    values = lopsided()
    assert clustered(values, PerTensor()).scales is None
    scales = clustered(values, PerChannel()).scales
    assert scales is not None
    assert (scales.axis, scales.count) == (1, 12)
    assert clustered(values, Vectors(4)).codebook.shape == (16, 4)


@pytest.mark.parametrize("given", [None, sensitivity()])
def test_best_is_the_least_merit(given: Sensitivity | None) -> None:
    alike = np.random.default_rng(0).standard_normal((40, 12, 6)).astype(np.float32)
    for values in (lopsided(), alike):
        tried = (PerTensor(), PerChannel(), Vectors(2))
        merits = [merit_bits(clustered(values, each, sensitivity=given), values, given) for each in tried]
        for candidates in (tried, tried[:2], tried[1:], tried[:1]):
            best = merit_bits(clustered(values, Best(candidates), sensitivity=given), values, given)
            assert best == min(merit for each, merit in zip(tried, merits, strict=True) if each in candidates)


@pytest.mark.parametrize("granularity", ALL, ids=repr)
def test_few_values_are_kept_bit_for_bit(granularity: Granularity) -> None:
    few = np.random.default_rng(6).choice(np.array([-0.0, 0.0, 1 / 3, 7e-30], np.float32), (31, 48))
    found = cluster(few, 4, granularity, sensitivity=Sensitivity(np.ones((31, 1))), bit_price=1.0, seed=0)
    assert found.mixture is None
    assert found.palette.expand().tobytes() == few.tobytes()


@pytest.mark.parametrize("granularity", [PerChannel(), Vectors(2), Best((PerChannel(), Vectors(2)))], ids=repr)
def test_what_cannot_be_is_clustered_per_tensor(granularity: Granularity) -> None:
    values = np.random.default_rng(5).standard_normal(601).astype(np.float32)  # one axis, and an odd number
    found, scalars = (cluster(values, 16, each, bit_price=0.1, seed=0).palette for each in (granularity, PerTensor()))
    assert found.codebook.tobytes() == scalars.codebook.tobytes()
    assert found.indices.tobytes() == scalars.indices.tobytes()


@pytest.mark.parametrize("bit_price", [0.0, 0.01])
@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel(), Best()], ids=repr)
def test_permuted_channels_give_the_permuted_tensor(granularity: Granularity, bit_price: float) -> None:
    values, h = lopsided(), sensitivity()
    order = np.random.default_rng(3).permutation(12)
    first = clustered(values, granularity, sensitivity=h, bit_price=bit_price)
    permuted = Sensitivity(h.values[:, order])
    second = clustered(values[:, order], granularity, sensitivity=permuted, bit_price=bit_price)
    np.testing.assert_allclose(second.expand(), first.expand()[:, order], rtol=1e-3)


@pytest.mark.parametrize("given", [None, sensitivity()])
@pytest.mark.parametrize("granularity", ALL, ids=repr)
def test_scaling_weights_scales_values_and_squares_the_price(
    granularity: Granularity, given: Sensitivity | None
) -> None:
    values = lopsided()
    plain = clustered(values, granularity, sensitivity=given, bit_price=0.01)
    scaled = clustered(values * np.float32(4), granularity, sensitivity=given, bit_price=0.16)
    np.testing.assert_array_equal(scaled.indices, plain.indices)
    np.testing.assert_allclose(scaled.expand(), 4 * plain.expand(), rtol=1e-6)


@pytest.mark.parametrize("granularity", ALL, ids=repr)
def test_scaling_sensitivities_scales_the_price(granularity: Granularity) -> None:
    values, h = lopsided(), sensitivity()
    plain = clustered(values, granularity, sensitivity=h, bit_price=0.01)
    scaled = clustered(values, granularity, sensitivity=Sensitivity(h.values * np.float32(64)), bit_price=0.64)
    assert scaled.indices.tobytes() == plain.indices.tobytes()
    assert scaled.codebook.tobytes() == plain.codebook.tobytes()


@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel()], ids=repr)
@pytest.mark.parametrize("bit_price", [0.003, 0.03])
def test_a_price_lowers_error_plus_price(granularity: Granularity, bit_price: float) -> None:
    values, h = lopsided(), Sensitivity(sensitivity().relative.values)
    priced, free = (clustered(values, granularity, sensitivity=h, bit_price=each) for each in (bit_price, 0.0))

    def total(palette: Palette) -> float:
        return squared_error(palette, values, h) + bit_price * palette.entropy_bits * values.size

    assert total(priced) < total(free)
    assert coded_bits(priced) < coded_bits(free)


def test_sensitive_weights_get_the_smaller_errors() -> None:
    values, h = lopsided(), sensitivity()
    plain, weighted = (clustered(values, PerTensor(), sensitivity=given) for given in (None, h))
    assert squared_error(weighted, values, h) < 0.97 * squared_error(plain, values, h)
    assert squared_error(weighted, values) > squared_error(plain, values)


def test_dead_inputs_do_not_matter() -> None:
    """Weights of sensitivity 0 change neither codebook nor error of the others; they cost no bits they need not."""
    values = lopsided()
    h = Sensitivity((np.arange(40) % 4 > 0).astype(np.float64).reshape(40, 1, 1))
    other = values.copy()
    other[::4] = 100 * np.random.default_rng(9).standard_normal((10, 12, 6))
    alive = h.of(values.shape) > 0
    for price in (0.0, 0.01):
        one, two = (clustered(v, PerTensor(), sensitivity=h, bit_price=price).expand()[alive] for v in (values, other))
        assert np.square(two - values[alive]).mean() < 1.3 * np.square(one - values[alive]).mean() + 1e-12


def test_refuses() -> None:
    values = lopsided()
    for components in (1, 257):
        with pytest.raises(ArgumentError, match=f"got {components}"):
            cluster(values, components, seed=0)
    wanted = r"granularity must be PerTensor\(\), PerChannel\(\), Vectors\(length\) or Best\(\), got 'auto'"
    with pytest.raises(ArgumentError, match=wanted):
        cluster(values, 4, "auto", seed=0)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="bit_price must be finite and >= 0, got -1"):
        cluster(values, 4, bit_price=-1.0, seed=0)
    with pytest.raises(ArgumentError, match=r"broadcast to the shape of the values \(40, 12, 6\), got \(7,\)"):
        cluster(values, 4, sensitivity=Sensitivity(np.ones(7)), seed=0)
    values[0, 0, :2] = np.nan, np.inf
    for granularity in ALL:
        with pytest.raises(ModelError, match="got 2 NaN or infinite"):
            cluster(values, 4, granularity, seed=0)


@pytest.mark.parametrize("granularity", ALL, ids=repr)
@pytest.mark.parametrize("exponent", [560, 1020, -560, -1060])
def test_weights_far_from_one_are_clustered_as_near_ones(granularity: Granularity, exponent: int) -> None:
    """Squares of such float64 numbers overflow or vanish. The least ones are denormal, so they lose digits first."""
    near = np.ldexp(lopsided().astype(np.float64), -4)  # all magnitudes are below 1
    far = np.ldexp(near, exponent)
    kept = granularity if isinstance(granularity, Vectors) else PerTensor()
    with np.errstate(all="raise", under="ignore"):
        found = cluster(far, 16, granularity, channel_axis=1, seed=0)
        again = np.ldexp(np.ldexp(far, -exponent), exponent)
    wanted = cluster(np.ldexp(again, -exponent), 16, kept, channel_axis=1, seed=0).palette
    assert found.mixture is None
    assert found.palette.expand().dtype == np.float64
    assert found.palette.indices.tobytes() == wanted.indices.tobytes()
    assert np.array_equal(found.palette.codebook, np.ldexp(wanted.codebook, exponent))


@pytest.mark.parametrize("granularity", ALL, ids=repr)
@pytest.mark.parametrize("outlier", [4e19, -3e38, 1e100])
def test_a_far_outlier_leaves_no_empty_cluster(granularity: Granularity, outlier: float) -> None:
    """Beside it all other weights are one point to float64, and k-means fills fewer clusters than it may."""
    values = lopsided().astype(np.float32 if abs(outlier) < 1e39 else np.float64)
    values[3, 2, 1] = outlier
    with np.errstate(all="raise", under="ignore"):
        found = cluster(values, 16, granularity, channel_axis=1, seed=0).palette.expand()
    assert np.isfinite(found).all()
    assert found[3, 2, 1] == pytest.approx(outlier, rel=1e-3)
    others = np.delete(found.reshape(-1), np.ravel_multi_index((3, 2, 1), values.shape))
    assert np.abs(others).max() <= abs(outlier) / 100
