"""Words of a fixed number of symbols, read by an independent decoder."""

from __future__ import annotations

import numpy as np
import pytest

from sws_compress.codec import NumpyOps
from sws_compress.codec.encodings.radix import Radix, RadixTable, digits_that_fit, encode_radix
from tests.codec import reference
from tests.codec.sequences import assert_decodes, by_encoding, codebook_of, drawn


@pytest.mark.parametrize("size", [2, 3, 5, 6, 7, 15, 16, 17, 255, 256])
def test_radix_words_read_by_division(size):
    symbols = drawn(1003, np.ones(size))
    symbols[:size] = np.arange(size)
    code = by_encoding(symbols, codebook_of(size))["radix"]
    per_word = code.program.digits_per_word
    assert reference.decode_radix(code.arrays[0], size, per_word, symbols.size) == symbols.tolist()
    assert size**per_word <= (256 if code.arrays[0].dtype == np.uint8 else 2**31)
    assert code.payload_bytes <= -(-symbols.size // digits_that_fit(size, 256))


def test_radix_uses_a_table_for_long_sequences_and_the_same_bytes():
    symbols = drawn(1 << 16, np.ones(16))
    long, short = (by_encoding(part, codebook_of(16))["radix"] for part in (symbols, symbols[:-1]))
    assert isinstance(long.program, RadixTable)
    assert isinstance(short.program, Radix)
    assert long.arrays[0].tobytes()[:-1] == short.arrays[0].tobytes()[:-1]
    assert_decodes(symbols, codebook_of(16))
    assert_decodes(symbols, np.random.default_rng(1).standard_normal((16, 2)).astype(np.float32))


@pytest.mark.parametrize("options", [{}, {"most_bytes_per_symbol": np.inf}], ids=["in little memory", "shortest"])
@pytest.mark.parametrize("size", [2, 3, 5, 7, 8, 10, 20, 32, 64, 100, 128, 200, 256])
def test_radix_words_of_several_bytes(size, options):
    """The shortest words take what bit planes would take: b bits for K = 2^b."""
    symbols = drawn((1 << 16) + 3, np.ones(size))
    code = encode_radix(symbols, codebook_of(size), **options)
    words = code.arrays[0].reshape(code.arrays[0].shape[0], -1).tolist()
    numbers = [sum(byte << 8 * place for place, byte in enumerate(word)) for word in words]
    per_word = -(-symbols.size // len(numbers))
    assert reference.decode_radix(np.array(numbers), size, per_word, symbols.size) == symbols.tolist()
    assert code.decode(NumpyOps()).tobytes() == codebook_of(size)[symbols].tobytes()
    if options and size in (2, 8, 32, 64, 128):
        assert code.payload_bytes <= -(-symbols.size // per_word) * per_word * np.log2(size) / 8
