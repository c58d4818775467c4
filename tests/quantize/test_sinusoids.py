"""Tables of sinusoids become one period of the cosine and a window, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft
from scipy.signal import get_window

from sws_compress.codec.encodings.progressions import encode_progressions
from sws_compress.quantize.sinusoids import sinusoid_palette
from tests.onnx_io.models import fourier_basis


def inverse_fourier(size, hop):
    """The synthesis basis of an STFT: the pseudo-inverse, in which the first and the last frequency weigh half."""
    basis = fourier_basis(size, dtype=np.float64)
    return (np.linalg.pinv(size / hop * basis).T * get_window("hann", size)).astype(np.float32)


def lapped(size):
    """The windowed basis of an MDCT."""
    n, k = np.arange(2 * size), np.arange(size)[:, None]
    waves = np.cos(np.pi / size * (n + 0.5 + size / 2) * (k + 0.5))
    return (np.sin(np.pi * (n + 0.5) / (2 * size)) * waves).astype(np.float32)


TABLES = {
    "DFT": fourier_basis(64),
    "Hann": fourier_basis(256, get_window("hann", 256)).reshape(258, 1, 256),
    "Hamming, 400": fourier_basis(400, get_window("hamming", 400)),
    "window shorter than the transform": fourier_basis(128, np.pad(get_window("hann", 100), 14)),
    "no multiple of four": fourier_basis(30, get_window("hann", 30)),
    "odd": fourier_basis(45, get_window("blackman", 45, fftbins=False)),
    "inverse": inverse_fourier(256, 64),
    "as a matrix for MatMul": fourier_basis(128).T.copy(),
    "DCT": fft.dct(np.eye(32), axis=0).astype(np.float32),
    "orthonormal DCT": fft.dct(np.eye(64), axis=0, norm="ortho").astype(np.float32),
    "its transpose": fft.dct(np.eye(64), axis=0, norm="ortho").T.astype(np.float32).copy(),
    "DCT of type 4": fft.dct(np.eye(32), axis=0, type=4).astype(np.float32),
    "MDCT": lapped(64),
    "float16": fourier_basis(128, get_window("hann", 128), np.float16),
    "float64": fourier_basis(128, get_window("hann", 128), np.float64),
    "tiny": fourier_basis(64) * np.float32(1e-30),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_come_back_to_rounding_and_are_progressions(name):
    table = TABLES[name]
    palette = sinusoid_palette(table)
    assert palette is not None
    assert palette.shape == table.shape
    back = palette.expand()
    assert back.dtype == table.dtype
    rounding = max(np.finfo(table.dtype).eps, np.finfo(np.float32).eps)
    largest = np.abs(table).max().astype(np.float64)
    assert np.abs(back.astype(np.float64) - table.astype(np.float64)).max() <= 2 * rounding * largest
    code = encode_progressions(palette.indices, palette.codebook.astype(np.float32))
    assert code is not None
    assert code.payload_bytes + code.table_bytes + palette.scales.values.nbytes < 0.5 * table.nbytes


def test_a_basis_of_256_samples_takes_two_kilobytes_and_a_window():
    palette = sinusoid_palette(TABLES["Hann"])
    code = encode_progressions(palette.indices, palette.codebook)
    assert (code.payload_bytes, code.table_bytes) == (2 * 2 * 258, 4 * 256)
    assert palette.scales.axis == 2
    assert np.allclose(palette.scales.values, get_window("hann", 256), atol=1e-7)


def positions(rows, columns):
    """Sinusoidal positions of a transformer: frequencies without a common period."""
    angles = np.arange(rows)[:, None] / 10000 ** (np.arange(0, columns, 2) / columns)
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(rows, columns).astype(np.float32)


random = np.random.default_rng(0)
OTHERS = {
    "Gaussian": random.standard_normal((64, 64)).astype(np.float32),
    "nearly a basis": (fourier_basis(64) + 1e-5 * random.standard_normal((66, 64))).astype(np.float32),
    "a basis whose lines have amplitudes of their own": fourier_basis(64) * random.random((66, 1), np.float32),
    "frequencies between the bins": np.cos(np.arange(64) * random.random((32, 1))).astype(np.float32),
    "positions": positions(128, 64),
    "zeros": np.zeros((64, 64), np.float32),
    "constant": np.ones((64, 64), np.float32),
    "one not a number": np.where(np.eye(66, 64) > 0, np.nan, fourier_basis(64)).astype(np.float32),
    "infinite": np.full((64, 64), np.inf, np.float32),
    "few lines": fourier_basis(64)[:3],
    "short lines": fourier_basis(8),
    "scalar": np.float32(1.0).reshape(()),
    "integers": np.ones((64, 64), np.int64),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_left_alone(name):
    assert sinusoid_palette(OTHERS[name]) is None
