"""Computed tables, as real models hold them, are told from weights."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.onnx_io.analyse.computed_tables import table_kind
from sws_compress.quantize.cluster import cluster


def rotary(length=256, width=64, *, repeated=True):
    frequencies = 10000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.outer(np.arange(length), frequencies)
    return np.cos(np.concatenate([angles, angles], axis=1) if repeated else angles).astype(np.float32)


def sinusoidal(length=300, width=96):
    """Alternating sines and cosines (Vaswani et al. 2017)."""
    angles = np.outer(np.arange(length), 10000.0 ** (-np.arange(0, width, 2) / width))
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(length, width).astype(np.float32)


def stft(size=256, *, window=True):
    """Convolution kernels (2 (n / 2 + 1), 1, n), real parts before imaginary ones, as in voice detectors."""
    angles = 2 * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(size)) / size
    shape = np.hanning(size + 1)[:-1] if window else 1.0
    return (np.concatenate([np.cos(angles), -np.sin(angles)]) * shape).astype(np.float32)[:, None]


def constant_q(lines=60, size=512):
    """Windowed tones at frequencies in geometric steps."""
    frequencies = 8 * 2 ** (np.arange(lines) / 12)
    return (np.hanning(size) * np.cos(np.outer(frequencies, 2 * np.pi * np.arange(size) / size))).astype(np.float32)


def padded_constant_q(lowest=1000, *, part=np.real):
    """Tones of 51 periods, each in a window of its own length, between zeros, as in basic-pitch."""
    rate, lines, size = 22_050, 36, 2048
    kernels = np.zeros((lines, size))
    for line, frequency in enumerate(lowest * 2 ** (np.arange(lines) / 36)):
        length = int(np.ceil(51.4 * rate / frequency))
        tone = np.hanning(length + 1)[:-1] * part(np.exp(2j * np.pi * frequency / rate * np.arange(length)))
        begin = (size - length) // 2
        kernels[line, begin : begin + length] = tone / np.abs(tone).sum()
    return kernels[:, None].astype(np.float32)


def low_pass(taps, cutoff=0.2, window=np.hamming):
    """The windowed sinc of a resampler."""
    return (np.sinc(2 * cutoff * (np.arange(taps) - (taps - 1) / 2)) * window(taps)).astype(np.float32)[None, None]


def hilbert(taps=65):
    """An antisymmetric filter."""
    places = np.arange(taps) - taps // 2
    return (np.hanning(taps) * (places % 2) / np.where(places, places, 1)).astype(np.float32)[None, None]


def mel(bands=40, bins=201):
    """Triangles, evenly spaced in mel."""
    points = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, 8000, bins)
    up = (frequencies - points[:-2, None]) / np.diff(points)[:-1, None]
    down = (points[2:, None] - frequencies) / np.diff(points)[1:, None]
    return np.maximum(0, np.minimum(up, down)).astype(np.float32)


def causal_mask(value):
    return np.where(np.triu(np.ones((128, 128), bool), 1), np.float32(value), np.float32(0))[None, None]


def dct(size=64):
    return np.cos(np.pi / size * np.outer(np.arange(size), np.arange(size) + 0.5)).astype(np.float32)


TABLES = {
    "rotary cosines": (rotary(), "a table of sinusoids"),
    "half rotary sines": (np.sin(np.arccos(rotary(repeated=False)))[None, None], "a table of sinusoids"),
    "rotary in half precision": (rotary().astype(np.float16), "a table of sinusoids"),
    "transposed rotary": (rotary(2048, 32).T, "a table of sinusoids"),
    "sinusoidal positions": (sinusoidal()[None], "a table of sinusoids"),
    "windowed stft": (stft(), "a table of sinusoids"),
    "dft": (stft(64, window=False), "a table of sinusoids"),
    "dct": (dct(), "a table of sinusoids"),
    "constant q": (constant_q(), "a spectral basis"),
    "padded constant q": (padded_constant_q(), "a spectral basis"),
    "short padded constant q": (padded_constant_q(4000, part=np.imag), "a spectral basis"),
    "padded constant q in half precision": (padded_constant_q(2000).astype(np.float16), "a spectral basis"),
    "low pass of 16 taps": (low_pass(16), "a symmetric filter"),
    "low pass of 65 taps in half precision": (low_pass(65).astype(np.float16), "a symmetric filter"),
    "low pass between zeros": (np.pad(low_pass(100, 0.05), ((0, 0), (0, 0), (3, 25))), "a symmetric filter"),
    "depthwise low pass": (np.repeat(low_pass(33), 8, axis=0), "a symmetric filter"),
    "low passes": (np.concatenate([low_pass(64, c) for c in (0.1, 0.2, 0.3)]), "a symmetric filter"),
    "low pass longer than others are looked at": (low_pass(1001, 0.1), "a symmetric filter"),
    "hilbert": (hilbert(), "a symmetric filter"),
    "mel": (mel(), "a filter bank"),
    "transposed mel": (mel(80, 257).T, "a filter bank"),
    "infinite causal mask": (causal_mask(-np.inf), "a mask"),
    "largest negative mask": (causal_mask(np.finfo(np.float32).min), "a mask"),
    "lower triangle of ones": (np.tril(np.ones((64, 64), np.float32)), "a mask"),
    "decays": (np.exp(-np.arange(200) / 30).astype(np.float32), "a monotone table"),
}


@pytest.mark.parametrize("name", TABLES)
def test_computed_tables(name):
    values, kind = TABLES[name]
    found = table_kind(values)
    if kind == "a monotone table":  # an exponential may also count as a ramp
        assert found is not None
    else:
        assert found == kind


def learned(kind):
    random = np.random.default_rng(3)
    if kind == "gaussian":
        return random.standard_normal((300, 200))
    if kind == "laplacian convolution":
        return random.laplace(size=(64, 32, 5, 5))
    if kind == "pruned":
        return random.standard_normal((300, 200)) * (random.random((300, 200)) < 0.05)
    if kind == "low rank":
        return random.standard_normal((200, 3)) @ random.standard_normal((3, 300))
    if kind == "smooth positions":  # like those of trained transformers: waves with a few per cent of noise
        return sinusoidal(512, 64) * 0.1 + 0.01 * random.standard_normal((512, 64))
    if kind == "band-pass filters":  # like those of learned front ends: windowed tones with noise
        return constant_q(60, 251) + 0.15 * random.standard_normal((60, 251))
    if kind == "positive":
        return np.abs(random.standard_normal((100, 90)))
    if kind == "ternary":
        return random.integers(-1, 2, (200, 64)) * 0.07
    if kind == "moving average":
        return np.convolve(random.standard_normal(5000), np.ones(8) / 8, "same").reshape(50, 100)
    if kind == "sixteen clusters":
        return cluster(random.standard_normal((100, 90)).astype(np.float32), 16, seed=0).palette.expand()
    if kind == "embedding with unused rows":
        return random.standard_normal((400, 32)) * (np.arange(400)[:, None] < 80)
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    ["gaussian", "laplacian convolution", "pruned", "low rank", "smooth positions", "band-pass filters", "positive",
     "ternary", "moving average", "sixteen clusters", "embedding with unused rows"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_learned_weights_are_no_tables(kind, dtype):
    assert table_kind(learned(kind).astype(dtype)) is None
    assert table_kind(learned(kind).T.astype(dtype)) is None


@pytest.mark.parametrize("taps", [16, 31, 64])
@pytest.mark.parametrize("kernels", [1, 4, 64])
@pytest.mark.parametrize("smoothness", [1, 5, 33])
def test_learned_kernels_are_no_tables_however_smooth(taps, kernels, smoothness):
    random = np.random.default_rng(taps + kernels + smoothness)
    noise = random.standard_normal((kernels, 1, taps + smoothness - 1))
    smooth = np.lib.stride_tricks.sliding_window_view(noise, smoothness, axis=2).mean(3)
    assert table_kind((smooth * random.choice([-1, 1], (kernels, 1, taps))).astype(np.float32)) is None
    if kernels > 1 or smoothness < 33:  # one very smooth kernel may rise all along
        assert table_kind(smooth.astype(np.float32)) is None
        assert table_kind((smooth * np.hanning(taps)).astype(np.float32)) is None


def test_nearly_symmetric_and_coarse_kernels_are_no_filters():
    random = np.random.default_rng(0)
    assert table_kind(low_pass(64) + 0.01 * random.standard_normal((1, 1, 64))) is None
    ternary = random.integers(-1, 2, (1, 1, 8)) * 0.07
    assert table_kind(np.concatenate([ternary, ternary[..., ::-1]], axis=2)) is None
    mixed = np.concatenate([low_pass(64), random.standard_normal((1, 1, 64))])
    assert table_kind(mixed) is None


def test_nothing_is_said_of_empty_constant_and_broken_tensors():
    assert table_kind(np.zeros((0, 5), np.float32)) is None
    assert table_kind(np.full((40, 50), 0.3, np.float32)) is None
    assert table_kind(np.full((40, 50), np.nan, np.float32)) is None
    assert table_kind(np.array(1.5, np.float32)) is None
