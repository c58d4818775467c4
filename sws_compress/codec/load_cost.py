"""What decoding costs when a model is loaded, by estimate.

The constants are fits to `benchmarks/encodings/load.py`: one thread, ONNX Runtime 1.32, 9 million weights. All that a
runtime computes while it folds stays in memory until it is done, so bytes count every intermediate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sws_compress.codec.encodings.blocks import Blocks
from sws_compress.codec.encodings.classes import Classes
from sws_compress.codec.encodings.huffman import Huffman
from sws_compress.codec.encodings.radix import Radix, RadixTable, table_bytes
from sws_compress.codec.encodings.sparse import Sparse, SparseValues
from sws_compress.codec.encodings.strides import Strides
from sws_compress.codec.encodings.tunstall import Tunstall
from sws_compress.codec.interpreter import Array
from sws_compress.codec.numbers import head_bytes
from sws_compress.codec.program import Code, Program, Wrapped
from sws_compress.errors import ArgumentError

_NANOSECONDS_PER_WEIGHT = 25.0


_BYTES_PER_WEIGHT = 15.0


_BYTES_PER_DIVIDED_WEIGHT = 12.0


_NANOSECONDS_PER_NUMBER = 90.0


_NANOSECONDS_PER_VISIT = 70.0


_BYTES_PER_VISIT = 26.0


_BYTES_PER_UNFINISHED = 16.0


_NANOSECONDS_PER_PLANE_BIT = 60.0


_BYTES_PER_PLANE_BIT = 39.0


_BYTES_PER_WORD = {8: 4.0, 12: 13.0}


_NANOSECONDS_PER_PLACE = 5.0


_BYTES_PER_PLACE = 6.0


_WIDE = 1.6
"""Factor where 64 bits are needed."""


_NANOSECONDS_PER_GAP = 400.0


_NANOSECONDS_PER_CLASS_GAP = 1200.0


_BYTES_PER_STREAM_BIT = 26.0


_BYTES_PER_GAP = 100.0


@dataclass(frozen=True)
class LoadCost:
    """Seconds on one thread, and bytes of memory at the peak.

    Estimates, as good as the machine is like that of the measurements; of a whole model the sum over its tensors.
    """

    seconds: float
    peak_bytes: float

    def __add__(self, other: LoadCost) -> LoadCost:
        return LoadCost(self.seconds + other.seconds, self.peak_bytes + other.peak_bytes)

    def scaled(self, factor: float) -> LoadCost:
        """Times ``factor`` > 0; what is unlimited stays so."""
        return LoadCost(factor * self.seconds, factor * self.peak_bytes)

    def within(self, other: LoadCost) -> bool:
        return self.seconds <= other.seconds and self.peak_bytes <= other.peak_bytes


def load_budget(text: str) -> LoadCost:
    """What loading may cost: seconds ("2s"), megabytes ("300MB"), or both ("2s,300MB"); "none" for no limit.

    Raises ArgumentError for anything else.
    """
    numbers = {"s": math.inf, "MB": math.inf}
    for part in [] if text == "none" else text.split(","):
        found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(s|MB)\s*", part)
        if found is None:
            raise ArgumentError(
                f"load budget must be seconds, megabytes or both, got {text!r}: write it like 2s, 300MB, or 2s,300MB"
            )
        numbers[found[2]] = float(found[1])
    return LoadCost(numbers["s"], 1e6 * numbers["MB"])


_FREE = LoadCost(seconds=0.5, peak_bytes=64e6)
"""What any model may cost at load."""


_PER_WEIGHT = LoadCost(seconds=1 / 6e6, peak_bytes=47.0)
"""What each weight may cost beyond that: MiniLM, the largest real network measured, then takes less than six times the
memory of the dense model to load, with 16 components as with 256 (docs/format.md)."""


def default_limit(weights: int) -> LoadCost:
    """What loading a model of so many weights may cost unless told otherwise."""
    return _FREE + _PER_WEIGHT.scaled(weights)


def load_cost(code: Code) -> LoadCost:
    """The cost of decoding ``code`` at load, the weights themselves included."""
    weights = code.count * (code.codebook[0].size if code.codebook.ndim > 1 else 1)
    plain = LoadCost(1e-9 * _NANOSECONDS_PER_WEIGHT * weights, _BYTES_PER_WEIGHT * weights)
    if code.scales is not None:
        plain += LoadCost(0.0, (4.0 + code.scales.dtype.itemsize * (code.scales.dtype != np.float32)) * weights)
    return plain + _decoding(code.program, code.arrays)


def affordable(codes: Sequence[Code], limit: LoadCost) -> tuple[Code, ...]:
    """The codes within ``limit``; where there is none, the one that loads fastest."""
    costs = {code: load_cost(code) for code in codes}
    found = tuple(code for code in codes if costs[code].within(limit))
    return found if found or not codes else (min(codes, key=lambda code: costs[code].seconds),)


def _decoding(program: Program, arrays: Sequence[Array]) -> LoadCost:
    """Beyond what every code needs to write its weights."""
    if isinstance(program, Wrapped):
        return _decoding(program.program, arrays)
    if isinstance(program, Blocks):
        return _decoding(program.words, arrays[3:])
    if isinstance(program, Radix):
        each = _BYTES_PER_DIVIDED_WEIGHT if program.digits_per_word > 1 else 4.0
        return LoadCost(0.0, each * arrays[0].size * program.digits_per_word)
    if isinstance(program, RadixTable):
        return LoadCost(0.0, table_bytes(arrays))
    if isinstance(program, Strides):
        return _walking(program)
    if isinstance(program, Tunstall):
        words = arrays[0].size
        places = words * arrays[-1].size
        held = _BYTES_PER_WORD[program.bits] * words + _BYTES_PER_PLACE * places
        return LoadCost(1e-9 * _NANOSECONDS_PER_PLACE * places, held)
    if isinstance(program, Huffman):
        bits = 8.0 * arrays[0].size * (_WIDE if program.wide else 1.0)
        return LoadCost(1e-9 * _NANOSECONDS_PER_PLANE_BIT * bits, _BYTES_PER_PLANE_BIT * bits)
    if isinstance(program, Classes):
        gaps, lanes = int(arrays[1][0]), arrays[8].size
        each = _BYTES_PER_GAP + 16 * lanes
        return LoadCost(
            1e-9 * _NANOSECONDS_PER_CLASS_GAP * gaps, _BYTES_PER_STREAM_BIT * 8 * arrays[0].size + each * gaps
        )
    if isinstance(program, Sparse | SparseValues):
        gaps = 8 * arrays[1].shape[0]
        bits = 8 * (arrays[0].size + arrays[1].size)
        found = LoadCost(1e-9 * _NANOSECONDS_PER_GAP * gaps, _BYTES_PER_STREAM_BIT * bits + _BYTES_PER_GAP * gaps)
        return found + _decoding(program.values, arrays[5:]) if isinstance(program, SparseValues) else found
    return LoadCost(0.0, 0.0)


def _walking(program: Strides) -> LoadCost:
    """Of all symbols the head, a position, a question and the result; of the unfinished ones what the levels take."""
    first, *others = program.levels
    total = first.finished + first.unfinished
    each = head_bytes(first.bits) + 9.0
    visits = sum(level.finished + level.unfinished for level in others)
    bits = sum(level.bits * (level.finished + level.unfinished) for level in others)
    return LoadCost(
        1e-9 * (_NANOSECONDS_PER_NUMBER * total + _NANOSECONDS_PER_VISIT * visits),
        each * total + _BYTES_PER_UNFINISHED * first.unfinished + _BYTES_PER_VISIT * visits + 3.5 * bits,
    )
