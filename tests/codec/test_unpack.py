"""Tensors of a code: several in one stream, and vectors."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.codec import NumpyOps, candidates
from sws_compress.codec.transforms.unpack import radix_tensor, tensor_candidates, unpack
from sws_compress.errors import ArgumentError
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


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_scales_multiply_in_float32(dtype):
    symbols, codebook = drawn(12 * 5, [1, 8, 2]).reshape(12, 5), np.array([-1, 0, 2.5], dtype)
    factors = np.linspace(1, 1.3, 12).astype(np.float32)[:, None]
    wanted = (codebook.astype(np.float32)[symbols] * factors).astype(dtype)
    alone = radix_tensor(symbols.reshape(-1), codebook, factors=factors)
    for code in (*tensor_candidates([symbols], codebook, factors=factors), alone):
        (tensor,) = unpack(NumpyOps(), code, ((12, 5),))
        assert (tensor.dtype, tensor.tobytes()) == (wanted.dtype, wanted.tobytes())
        assert code.label == f"{code.encoding}+scales"
    assert radix_tensor(symbols.reshape(-1), codebook).label == "radix"


def test_scales_are_stored_in_half_where_that_is_exact_and_saves_a_cast():
    symbols, codebook = drawn(40 * 5, [1, 8, 2]).reshape(40, 5), np.array([-1, 0, 2.5], np.float32)
    for count, value, half in ((40, 1.5, True), (40, 1.1, False), (8, 1.5, False)):
        factors = np.full((count, 1), value, np.float32)
        codes = tensor_candidates([symbols[:count]], codebook, factors=factors)
        (dtype,) = {code.scales.factors.dtype for code in codes}
        assert (dtype == np.float16) == half


def test_scales_of_a_codebook_that_float32_does_not_hold_are_refused():
    symbols, factors = np.array([[0, 1]], np.uint8), np.ones((1, 1), np.float32)
    for make in (
        lambda: tensor_candidates([symbols], np.array([0.1, 1]), factors=factors),
        lambda: radix_tensor(symbols.reshape(-1), np.array([0.1, 1]), factors=factors),
    ):
        with pytest.raises(ArgumentError, match="with scales must be exact in float32"):
            make()
