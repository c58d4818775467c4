"""Rows that stay packed: a look-up finds what Gather finds in the dense table, whatever the positions."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.codec.encodings.rows import encode_rows
from sws_compress.codec.interpreter import NumpyOps

POSITIONS = [
    np.array(3),
    np.array([-1, 0, 5], np.int32),
    np.zeros((2, 0), np.int64),
    np.arange(24).reshape(2, 3, 4) - 9,
]


def table(size, shape, dtype=np.float32, dimension=1, seed=0):
    """Symbols, a codebook whose second row is not used, and the dense table."""
    random = np.random.default_rng(seed)
    codebook = random.standard_normal((size, dimension)[: 1 + (dimension > 1)]).astype(dtype)
    symbols = random.choice(np.delete(np.arange(size), 1), int(np.prod(shape)) // dimension).astype(np.uint8)
    return symbols, codebook, codebook[symbols].reshape(shape)


@pytest.mark.parametrize("size", [3, 4, 6, 8, 11, 17, 18, 33, 65, 101, 129, 201, 256])
@pytest.mark.parametrize("shape", [(40, 37), (21, 5, 4), (23, 64), (30, 1)])
def test_looked_up_rows_are_those_of_the_dense_table(size, shape):
    symbols, codebook, dense = table(size, shape)
    code = encode_rows(symbols, codebook, shape)
    assert code.words.dtype == np.uint8
    assert code.words.shape[0] == shape[0]
    for positions in POSITIONS:
        found = code.look_up(NumpyOps(), positions)
        assert found.shape == dense[positions].shape
        assert found.tobytes() == dense[positions].tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_rows_have_the_type_of_the_codebook(dtype):
    symbols, codebook, dense = table(17, (40, 37), dtype)
    found = encode_rows(symbols, codebook, dense.shape).look_up(NumpyOps(), np.arange(40))
    assert (found.dtype, found.tobytes()) == (dense.dtype, dense.tobytes())


def test_a_symbol_may_stand_for_several_values_of_a_row():
    symbols, codebook, dense = table(17, (40, 12), dimension=3)
    assert encode_rows(symbols, codebook, (40, 12)).look_up(NumpyOps(), np.arange(40)).tobytes() == dense.tobytes()
    assert encode_rows(symbols, codebook, (48, 10)) is None


@pytest.mark.parametrize(
    ("values", "bits"), [(2, 1), (3, 1.6), (4, 2), (5, 8 / 3), (7, 3), (16, 4), (32, 16 / 3), (100, 8), (256, 8)]
)
def test_words_come_near_the_bits_that_symbols_need(values, bits):
    symbols = (np.arange(1000 * 1680) % values).astype(np.uint8)
    code = encode_rows(symbols, np.arange(values, dtype=np.float32), (1000, 1680))
    assert 8 * code.payload_bytes == pytest.approx(bits * symbols.size)


def test_a_short_table_gets_words_whose_own_table_is_small():
    """Words of 5 digits of base 3 would be read by a table of 1,215 values, more than all rows have."""
    symbols = (np.arange(60 * 15) % 3).astype(np.uint8)
    assert encode_rows(symbols, np.arange(3, dtype=np.float32), (60, 15)).arrays[3] <= 27
    symbols = (np.arange(20_000 * 15) % 3).astype(np.uint8)
    assert encode_rows(symbols, np.arange(3, dtype=np.float32), (20_000, 15)).arrays[3] == 243


def test_golden_bytes():
    """Base 3, five digits a byte, a row of seven: 0 1 2 0 1 | 2 0, lowest digit first."""
    symbols = np.resize(np.array([0, 1, 2, 0, 1, 2, 0, 2, 2, 2, 2, 2, 1, 1], np.uint8), 140_000)
    code = encode_rows(symbols, np.array([-1, 0, 4], np.float32), (20_000, 7))
    assert code.words[:2].tolist() == [[0 + 3 + 18 + 0 + 81, 2], [242, 1 + 3]]
    assert [array.tolist() for array in code.arrays[1:]] == [[1, 3, 9, 27, 81], 3, 243, [10], [7]]


@pytest.mark.parametrize(
    ("symbols", "shape"), [([0, 0, 0, 0], (2, 2)), ([0, 1, 0, 1], (4,)), ([], (0, 5)), ([1, 1], (2, 1))]
)
def test_tables_that_need_no_rows_or_have_none_are_given_up(symbols, shape):
    assert encode_rows(np.array(symbols, np.uint8), np.array([0, 1], np.float32), shape) is None
