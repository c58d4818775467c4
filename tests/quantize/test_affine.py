"""The affine mixture: laws of its EM, a brute-force oracle on tiny blocks, exactness on grids."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize import affine
from sws_compress.quantize.affine import Grids, affine_cluster, assign_to_grids, fit_blocks, grid_em_step
from sws_compress.quantize.affine_palette import AffinePalette
from sws_compress.quantize.granularity import PerBlock
from sws_compress.quantize.weight_scales import BlockScales


def lopsided(shape, seed=0):
    """Heavy tails, off centre, rows of very different size."""
    random = np.random.default_rng(seed)
    values = 0.03 * random.standard_t(4, shape) + 0.01
    return (values * np.geomspace(0.01, 100, shape[0])[:, None]).astype(np.float32)


def squared_error(values, palette, sensitivities=1.0):
    return float((sensitivities * (palette.expand().astype(np.float64) - values) ** 2).sum())


def slow_best_error(block, bits, sensitivities, zeros):
    """Least error of one block over all assignments that are monotone in w, by regression for every cut: float64."""
    best = np.inf
    order = np.argsort(block)
    w, h = block[order].astype(np.float64), sensitivities[order]
    for labels in itertools.combinations_with_replacement(range(1 << bits), len(block)):
        for zero in zeros:
            for d in (np.array(labels) - zero, np.array(labels[::-1]) - zero):
                square = (h * d * d).sum()
                scale = (h * w * d).sum() / square if square else 0.0
                best = min(best, float((h * (w - scale * d) ** 2).sum()))
    return best


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_no_blocks_error_rises_in_any_step(bits, symmetric):
    random = np.random.default_rng(1)
    blocks = lopsided((40, 32)).astype(np.float64)
    h = random.exponential(size=blocks.shape)
    scales = (np.abs(blocks).max(axis=1) / 3).astype(np.float32).astype(np.float64)
    zeros = np.full(40, float(1 << (bits - 1))) if symmetric else random.integers(0, 1 << bits, 40).astype(float)
    step = assign_to_grids(blocks, Grids(scales, zeros), bits=bits, sensitivities=h)
    first = step.squared_errors
    for _ in range(15):
        before, step = step.squared_errors, grid_em_step(blocks, step, bits=bits, symmetric=symmetric, sensitivities=h)
        assert (step.squared_errors <= before).all()
        assert np.array_equal(step.grids.scales, step.grids.scales.astype(np.float32))
    assert (step.squared_errors < first).mean() > 0.9


@pytest.mark.parametrize(("symmetric", "size"), [(False, 3), (True, 4)])
def test_nearly_the_best_of_all_grids_on_tiny_blocks(symmetric, size):
    random = np.random.default_rng(2)
    blocks = random.standard_normal((3, size)) + 0.3
    h = random.uniform(0.2, 3, blocks.shape)
    fitted = fit_blocks(blocks, bits=4, symmetric=symmetric, sensitivities=h).squared_errors
    zeros = [8] if symmetric else range(16)
    oracle = np.array([slow_best_error(block, 4, weight, zeros) for block, weight in zip(blocks, h, strict=True)])
    energy = (h * blocks**2).sum(axis=1)
    assert (fitted >= oracle - 1e-9 * energy).all()
    assert (fitted - oracle <= 0.004 * energy).all()


@pytest.mark.parametrize(("bits", "block_size"), [(4, 16), (4, 100), (8, 32)])
def test_weights_on_a_grid_come_back(bits, block_size):
    random = np.random.default_rng(3)
    k = random.integers(0, 1 << bits, (7, 53))
    k[:, ::block_size], k[:, 1::block_size] = 0, (1 << bits) - 1  # grids are known by their ends
    zeros = random.integers(1, (1 << bits) - 1, (7, 1))
    values = ((k - zeros) * np.float32(0.375)).astype(np.float32)
    palette = affine_cluster(values, bits=bits, granularity=PerBlock(block_size))
    assert np.abs(palette.expand() - values).max() < 1e-5 * np.abs(values).max()


def test_scaling_and_mirroring_the_weights_scales_and_mirrors_the_grids():
    values = lopsided((9, 70))
    plain = affine_cluster(values, bits=4, granularity=PerBlock(32))
    scaled = affine_cluster(values * np.float32(8), bits=4, granularity=PerBlock(32))
    assert np.array_equal(scaled.indices, plain.indices)
    assert np.array_equal(scaled.scales.values, 8 * plain.scales.values)
    mirrored = affine_cluster(-values, bits=4, granularity=PerBlock(32))
    assert squared_error(-values, mirrored) == pytest.approx(squared_error(values, plain), rel=0.02)


def test_rows_and_blocks_are_fitted_apart():
    values = lopsided((9, 70))
    whole = affine_cluster(values, bits=8, granularity=PerBlock(32))
    order = np.random.default_rng(4).permutation(9)
    assert np.array_equal(
        affine_cluster(values[order], bits=8, granularity=PerBlock(32)).expand(), whole.expand()[order]
    )
    tail = affine_cluster(values[:, 64:], bits=8, granularity=PerBlock(32))
    assert np.array_equal(tail.expand(), whole.expand()[:, 64:])


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_blocks_run_along_the_axis(axis):
    values = np.random.default_rng(5).standard_normal((6, 10, 7)).astype(np.float32)
    palette = affine_cluster(values, bits=4, granularity=PerBlock(4), axis=axis)
    moved = affine_cluster(np.moveaxis(values, axis, -1), bits=4, granularity=PerBlock(4))
    assert np.array_equal(palette.expand(), np.moveaxis(moved.expand(), -1, axis))
    assert palette.expand().shape == values.shape


def test_expand_is_one_float32_product_per_weight():
    palette = affine_cluster(lopsided((5, 40)), bits=8, granularity=PerBlock(16))
    for i, j in itertools.product(range(5), range(40)):
        step = np.float32(int(palette.indices[i, j]) - int(palette.zeros[i, j // 16]))
        assert palette.expand()[i, j] == np.float32(step * palette.scales.values[i, j // 16])


def test_sensitive_inputs_get_the_smaller_errors():
    values = lopsided((50, 64), seed=6)
    h = np.where(np.arange(64) % 4 == 0, 25.0, 0.1)
    plain = affine_cluster(values, bits=4, granularity=PerBlock(32))
    weighted = affine_cluster(values, bits=4, granularity=PerBlock(32), sensitivity=Sensitivity(h))
    assert squared_error(values, weighted, h) < 0.8 * squared_error(values, plain, h)
    assert np.array_equal(
        affine_cluster(values, bits=4, granularity=PerBlock(32), sensitivity=Sensitivity(np.ones(64))).indices,
        plain.indices,
    )


def test_longer_grids_and_more_bits_are_better_and_symmetry_costs():
    values = lopsided((30, 256), seed=7)
    errors = {
        (bits, size): squared_error(values, affine_cluster(values, bits=bits, granularity=PerBlock(size)))
        for bits in (4, 8)
        for size in (32, 256)
    }
    assert errors[8, 256] < errors[4, 32] < errors[4, 256]
    symmetric = affine_cluster(values, bits=4, granularity=PerBlock(32), symmetric=True)
    assert symmetric.symmetric
    assert squared_error(values, symmetric) > errors[4, 32]


@pytest.mark.parametrize("fill", [0.0, 3.0, -1e-42, 3.4e38])
def test_constant_and_extreme_blocks(fill):
    values = np.full((2, 40), fill, np.float32)
    expanded = affine_cluster(values, bits=4, granularity=PerBlock(32)).expand()
    assert np.isfinite(expanded).all()
    if fill < 1e38:
        assert np.abs(expanded - values).max() <= 1e-6 * abs(fill) + 1e-37


def test_what_is_refused():
    values = np.ones((4, 40), np.float32)
    with pytest.raises(ArgumentError, match="bits must be 4 or 8, got 5"):
        affine_cluster(values, bits=5, granularity=PerBlock(32))
    with pytest.raises(ArgumentError, match="size of blocks must be >= 1, got 0"):
        affine_cluster(values, bits=4, granularity=PerBlock(0))
    with pytest.raises(ArgumentError, match=r"axis must be an axis of shape \(4, 40\), got 2"):
        affine_cluster(values, bits=4, granularity=PerBlock(32), axis=2)
    with pytest.raises(ArgumentError, match="sensitivities must broadcast to the shape"):
        affine_cluster(values, bits=4, granularity=PerBlock(32), sensitivity=Sensitivity(np.ones(4)))
    with pytest.raises(ArgumentError, match="not be empty"):
        affine_cluster(values[:0], bits=4, granularity=PerBlock(32))
    with pytest.raises(ModelError, match="1 NaN or infinite"):
        affine_cluster(np.where(np.arange(40) == 3, np.nan, values[:1]), bits=4, granularity=PerBlock(32))
    good = affine_cluster(values, bits=4, granularity=PerBlock(32))
    with pytest.raises(ArgumentError, match="indices must be < 16, got 31"):
        AffinePalette(good.indices | np.uint8(16), good.scales, good.zeros, 4, 1, (4, 40))
    with pytest.raises(ArgumentError, match=r"scales must have shape \(4, 2\), got \(4, 1\)"):
        AffinePalette(good.indices, BlockScales(good.scales.values[:, :1], PerBlock()), good.zeros, 4, 1, (4, 40))


@pytest.mark.parametrize(("bits", "share"), [(4, 0.98), (8, 0.9)])
def test_many_starts_leave_less_error_than_one(bits, share, monkeypatch):
    values = lopsided((30, 256), seed=8)
    many = squared_error(values, affine_cluster(values, bits=bits, granularity=PerBlock(32)))
    monkeypatch.setitem(affine.START_LENGTHS, bits, np.ones(1))
    one = squared_error(values, affine_cluster(values, bits=bits, granularity=PerBlock(32)))
    assert many < share * one
