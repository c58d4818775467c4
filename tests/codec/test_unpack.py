"""Tensors of a code: several in one stream, and vectors."""

from __future__ import annotations

import numpy as np

from sws_compress.codec import NumpyOps, candidates
from sws_compress.codec.transforms.unpack import unpack
from tests.codec.sequences import drawn


def test_several_tensors_in_one_stream():
    symbols, codebook = drawn(7 * 5 + 4 + 3, [1, 8, 2]), np.array([-1, 0, 2], np.float32)
    for code in candidates(symbols, codebook):
        parts = unpack(NumpyOps(), code, ((7, 5), (4,), (3, 1)))
        assert [part.shape for part in parts] == [(7, 5), (4,), (3, 1)]
        assert np.concatenate([part.reshape(-1) for part in parts]).tobytes() == codebook[symbols].tobytes()


def test_vectors_become_tensors():
    symbols = drawn(30, [1, 8, 2])
    codebook = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    for code in candidates(symbols, codebook):
        (tensor,) = unpack(NumpyOps(), code, ((10, 12),))
        assert tensor.tobytes() == codebook[symbols].reshape(10, 12).tobytes()
