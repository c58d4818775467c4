"""The bytes of every encoding are fixed: old files must stay readable as docs/format.md says.

`python -m tests.codec.test_golden` writes the golden file anew. Do that only with a new format version.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from sws_compress.codec import NumpyOps, candidates
from sws_compress.codec.encodings.buckets import Buckets, encode_buckets
from sws_compress.codec.encodings.progressions import encode_progressions
from sws_compress.codec.encodings.radix import encode_radix
from sws_compress.codec.encodings.strides import encode_strides
from sws_compress.codec.encodings.tunstall import WORD_BITS, encode_tunstall
from sws_compress.codec.transforms.dtypes import HalfCodebook

GOLDEN = Path(__file__).parents[1] / "golden" / "codes.json"
SYMBOLS = np.array([3, 3, 0, 3, 4, 3, 3, 2, 3, 1, 3, 3, 3, 0, 3, 3, 4, 3, 3, 3, 3, 3, 4, 3, 3, 2, 3], np.uint8)
CODEBOOK = np.array([-1.5, -0.0, 0.25, 0.0, 0.1], np.float32)


def long_sequence(size):
    """A lopsided sequence, long enough for the encodings of large tensors."""
    numbers = np.arange(70_001) ** 2
    return np.minimum(numbers % 1009 % size, numbers % 997 % size).astype(np.min_scalar_type(size - 1))


def content(array):
    return array.tobytes().hex() if array.nbytes < 1000 else hashlib.sha256(array.tobytes()).hexdigest()


def fingerprint(code):
    arrays = [(array.dtype.name, list(array.shape), content(array)) for array in code.arrays]
    codebook = code.codebook.tolist() if len(code.codebook) <= 256 else content(code.codebook)
    return {"codebook": codebook, "payload": list(code.payload), "arrays": [list(a) for a in arrays]}


def name_of(sequence, code):
    """Sequence, encoding, and types of the programs; the width of the codebook does not change the bytes."""
    program = code.program.program if isinstance(code.program, HalfCodebook) else code.program
    programs = [program, *(getattr(program, part) for part in ("values", "words") if hasattr(program, part))]
    symbols = "".join(f" of {one.symbols}" for one in programs if isinstance(one, Buckets))
    return f"{sequence} {code.encoding} by {' of '.join(type(one).__name__ for one in programs)}{symbols}"


def current():
    sequences = {"scalar": (SYMBOLS, CODEBOOK), "constant": (SYMBOLS * 0, CODEBOOK[2:3])}
    found = {
        name_of(name, code): fingerprint(code)
        for name, (symbols, codebook) in sequences.items()
        for code in candidates(symbols, codebook)
        if code.codebook.dtype == np.float32
    }
    for size in (7, 10, 100, 200):
        symbols, codebook = long_sequence(size), np.arange(size, dtype=np.float32) / 7
        strides = [encode_strides(symbols, codebook, entropy_ratio=ratio) for ratio in (None, 1.015)]
        for form, code in zip(("lean", "wide", "fine", "coarse"), (*words(symbols, codebook), *strides), strict=True):
            if code is not None:
                found[f"long {size} {form} {code.encoding}"] = fingerprint(code)
    for size, symbols in ((200, 1), (40, 2), (7, 3)):
        code = encode_buckets(long_sequence(size), np.arange(size, dtype=np.float32) / 7, symbols)
        found[f"long {size} in words of {symbols} {code.encoding}"] = fingerprint(code)
    symbols, codebook = long_sequence(600), (np.arange(600, dtype=np.float32) - 300) * np.float32(0.3)
    for code in candidates(symbols[:20_000], codebook):
        found[f"large {name_of('600', code)}"] = fingerprint(code)
    for name, columns in (("lines", 60), ("columns", 20)):
        places = np.arange(20)[:, None] * np.arange(60) % 60
        table = (places if columns == 60 else places.T).astype(np.uint8)
        cosine = np.cos(np.arange(60) * np.pi / 30).astype(np.float32)
        found[f"sinusoids in {name}"] = fingerprint(encode_progressions(table.reshape(-1), cosine))
    for size in (2, 7, 40):  # runs are leaves of Tunstall's tree, then nodes of the other tree
        for bits in WORD_BITS:
            code = encode_tunstall(long_sequence(size), np.arange(size, dtype=np.float32) / 7, bits)
            if code is not None:
                found[f"long {size} of {bits} bits {code.encoding}"] = fingerprint(code)
    return found


def words(symbols, codebook):
    return [encode_radix(symbols, codebook), encode_radix(symbols, codebook, most_bytes_per_symbol=np.inf)]


def test_bytes_are_those_on_record():
    assert current() == json.loads(GOLDEN.read_text())


def test_bytes_on_record_decode():
    on_record = json.loads(GOLDEN.read_text())
    for code in candidates(SYMBOLS, CODEBOOK):
        recorded = on_record[name_of("scalar", code)]
        stored = [
            np.frombuffer(bytes.fromhex(data), np.dtype(dtype).newbyteorder("<")).reshape(shape).astype(dtype)
            for dtype, shape, data in recorded["arrays"]
        ]
        codebook = np.array(recorded["codebook"], np.float32)
        rows = replace(code, codebook=codebook, arrays=tuple(stored)).decode(NumpyOps())
        assert rows.tobytes() == CODEBOOK[SYMBOLS].tobytes()


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(current(), indent=1) + "\n")
