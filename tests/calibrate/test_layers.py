"""Layers: factors of outputs, trials, and weights coded at a price."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from sws_compress.calibrate import moments
from sws_compress.calibrate.drift import Drift
from sws_compress.calibrate.grids import price_of
from sws_compress.calibrate.layers import TRIAL_NOISE, Layer
from sws_compress.calibrate.moments import InputMoment
from sws_compress.entropy import entropy_bits


def layer_of(*, groups: int = 1, outputs: int = 24, size: int = 16, scaled: bool = True, seed: int = 0) -> Layer:
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((300, groups, size)) * random.uniform(0.2, 3, (groups, size))
    rows = random.standard_normal((groups, outputs, size)) * random.uniform(0.2, 1, (groups, outputs, 1))
    return Layer(rows, InputMoment.of(inputs).shrunk(), scaled)


def changes_of(layer: Layer, price: float) -> npt.NDArray[np.float64]:
    coded = layer.coded(price)
    changes: npt.NDArray[np.float64] = coded.codebook[coded.indices] * coded.factors[..., None] - layer.rows
    return changes


def test_weak_outputs_get_finer_steps() -> None:
    layer = layer_of()
    energy = np.einsum("god,gde,goe->go", layer.rows, layer.moment, layer.rows)
    np.testing.assert_allclose(
        layer.factors[0] / energy[0] ** 0.25, (layer.factors[0] / energy[0] ** 0.25)[0], rtol=1e-3
    )


def test_without_scales_all_factors_are_one() -> None:
    assert (layer_of(scaled=False).factors == 1).all()
    assert (layer_of(scaled=False).costs == 1).all()


def test_groups_with_strong_inputs_get_finer_steps() -> None:
    one = layer_of(groups=2)
    stronger = Layer(one.rows, one.moment * np.array([1.0, 100.0])[:, None, None], scaled=True)
    ratio = stronger.factors[1] / stronger.factors[0] * (one.factors[0] / one.factors[1])
    # g falls to 100^(-1/2) and the curvature rises to 100 times
    np.testing.assert_allclose(ratio, 10**-0.5, rtol=1e-2)


@pytest.mark.parametrize("groups", [1, 3])
def test_trials_have_their_energy(groups: int) -> None:
    layer = layer_of(groups=groups)
    changes = layer.trial(seed=1)
    assert layer.error(changes) == pytest.approx(TRIAL_NOISE * layer.energy)
    np.testing.assert_array_equal(changes, layer.trial(seed=1))
    assert (changes != layer.trial(seed=2)).any()


def test_dead_layers_are_tried_without_noise() -> None:
    layer = Layer(np.zeros((1, 4, 3)), np.eye(3)[None], scaled=True)
    assert not layer.trial(seed=0).any()
    assert not layer.coded(1.0).indices.any()


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("groups", [1, 3])
def test_errors_are_what_the_price_predicts(groups: int, scaled: bool) -> None:
    """White inputs: a weight costs price / (2 ln 2), a twelfth of the squared step; cheap symbols add some."""
    white = np.broadcast_to(4 * np.eye(16), (groups, 16, 16))
    layer = replace(layer_of(groups=groups, outputs=60, scaled=scaled), moment=white).at_level(3.0)
    price = price_of(0.1 * float(layer.divided.std()), layer.sensitivity)
    expected = layer.rows.size * price / (2 * np.log(2))
    assert 0.95 * expected <= 3.0 * layer.error(changes_of(layer, price)) <= 1.35 * expected


def test_all_entries_are_used_and_in_order() -> None:
    coded = layer_of().coded(1e-2)
    assert np.unique(coded.indices).tolist() == list(range(len(coded.codebook)))
    assert (np.diff(coded.codebook) > 0).all()
    assert coded.indices.dtype == np.uint8


def test_a_greater_level_makes_smaller_errors() -> None:
    layer = layer_of()
    price = price_of(0.5 * float(layer.divided.std()), layer.sensitivity)
    coarse, fine = (layer.error(changes_of(layer.at_level(level), price)) for level in (1.0, 25.0))
    assert fine < coarse / 15


def test_wide_layers_are_coded_as_well_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    inputs = (random.standard_normal((40, 1, 90)) @ random.standard_normal((90, 90)) + 2).astype(np.float32)
    rows = random.standard_normal((1, 70, 90))
    found = []
    for wide in (1000, 1):
        monkeypatch.setattr(moments, "WIDE_INPUTS", wide)
        moment = InputMoment.of(inputs[:5]).include(inputs[5:]).shrunk()
        drift = Drift.of(inputs[:5], 0.9 * inputs[:5]).include(inputs[5:], 0.9 * inputs[5:])
        layer = Layer(rows.astype(moment.dtype), moment, scaled=True)
        layer = layer.with_rows(drift.followed(layer.rows, layer.feedback))
        coded = layer.coded(layer.energy * 1e-6)
        changes = coded.codebook[coded.indices] * coded.factors[..., None] - layer.rows
        found.append((layer.energy, layer.error(changes), coded.step, entropy_bits(np.bincount(coded.indices.ravel()))))
    assert moment.dtype == layer.rows.dtype == np.float32
    np.testing.assert_allclose(found[1], found[0], rtol=0.02)
