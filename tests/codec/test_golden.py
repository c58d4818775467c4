"""The bytes of every encoding, fixed: files that were written must stay what docs/format.md says.

`python -m tests.codec.test_golden` writes the file anew; do that only with a new format version.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from sws_compress.codec import NumpyOps, candidates
from sws_compress.codec.choose import HalfCodebook

GOLDEN = Path(__file__).parents[1] / "golden" / "codes.json"
SYMBOLS = np.array([3, 3, 0, 3, 4, 3, 3, 2, 3, 1, 3, 3, 3, 0, 3, 3, 4, 3, 3, 3, 3, 3, 4, 3, 3, 2, 3], np.uint8)
CODEBOOK = np.array([-1.5, -0.0, 0.25, 0.0, 0.1], np.float32)


def fingerprint(code):
    arrays = [(array.dtype.name, list(array.shape), array.tobytes().hex()) for array in code.arrays]
    return {"codebook": code.codebook.tolist(), "payload": list(code.payload), "arrays": [list(a) for a in arrays]}


def name_of(sequence, code):
    """Of programs wrapped in another the inner one counts: both widths of a codebook hold the same bytes."""
    program = code.program.program if isinstance(code.program, HalfCodebook) else code.program
    programs = [program, *(getattr(program, part) for part in ("values", "words") if hasattr(program, part))]
    return f"{sequence} {code.encoding} by {' of '.join(type(one).__name__ for one in programs)}"


def current():
    sequences = {"scalar": (SYMBOLS, CODEBOOK), "constant": (SYMBOLS * 0, CODEBOOK[2:3])}
    return {
        name_of(name, code): fingerprint(code)
        for name, (symbols, codebook) in sequences.items()
        for code in candidates(symbols, codebook)
        if code.codebook.dtype == np.float32
    }


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
