"""Weights of a streamed model: each is coded as it comes, and only a fingerprint of its values is kept."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sws_compress.codec.encodings.rows import RowCode
from sws_compress.codec.program import Code
from sws_compress.codec.transforms.unpack import radix_tensor
from sws_compress.onnx_io.analyse.embeddings import Embedding
from sws_compress.onnx_io.write.external import DataFile
from sws_compress.ort.session import Array
from sws_compress.packing.pack import row_code
from sws_compress.pipelines.job import Limits
from sws_compress.quantize.palette import Palette

PIECE_VALUES = 1 << 21
"""Values hashed together; pieces are hashed on all cores."""


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a palette: enough to recognise its tensor and to report it.

    Parameters
    ----------
    shape : tuple of int
        Shape of the tensor.
    dtype : numpy.dtype
        Its type.
    digest : bytes
        SHA-256 of its values, piece by piece.
    distinct_values : int
        Codebook entries that occur.
    zeros : float
        Share of zeros, 0 to 1.
    entropy_bits : float
        Order-0 entropy per weight.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    digest: bytes
    distinct_values: int
    zeros: float
    entropy_bits: float

    @classmethod
    def of(cls, palette: Palette) -> Fingerprint:
        """The fingerprint of the tensor that a palette stands for."""
        digest = _digest(lambda part: palette.part(part.start, part.stop), math.prod(palette.shape))
        distinct = int(np.count_nonzero(palette.counts))
        dtype = palette.codebook.dtype
        return cls(palette.shape, dtype, digest, distinct, palette.zeros, palette.entropy_bits / palette.dimension)

    def is_of(self, values: Array) -> bool:
        """Whether ``values`` are the same, bit for bit."""
        if (values.shape, values.dtype) != (self.shape, self.dtype):
            return False
        flat = values.reshape(-1)
        return _digest(lambda part: flat[part], flat.size) == self.digest


def _digest(piece: Callable[[slice], Array], count: int) -> bytes:
    """SHA-256 of the bits of ``count`` values, which ``piece`` makes or reads; one digest per piece."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = (slice(start, min(start + PIECE_VALUES, count)) for start in range(0, count, PIECE_VALUES))
        digests = pool.map(lambda part: hashlib.sha256(np.ascontiguousarray(piece(part)).data).digest(), parts)
        return b"".join(digests)


class CodedWeights:
    """Palettes as they come: large ones are coded and written to a file, small ones are kept.

    Parameters
    ----------
    data : DataFile
        Where the arrays of codes go.
    limits : Limits
        From which size on a weight is coded at once.
    embeddings : sequence of Embedding, optional
        Embeddings that shall stay packed, where they can.

    Attributes
    ----------
    palettes : dict of str to Palette
        Weights that were not coded yet.
    codes : dict of str to Code or RowCode
        Weights that were coded; their arrays are mapped from ``data``.
    prints : dict of str to Fingerprint
        Fingerprints of the coded weights.
    """

    def __init__(self, data: DataFile, limits: Limits, embeddings: Sequence[Embedding] | None = None) -> None:
        self.data = data
        self.palettes: dict[str, Palette] = {}
        self.codes: dict[str, Code | RowCode] = {}
        self.prints: dict[str, Fingerprint] = {}
        self.limits = limits
        self.embeddings = embeddings

    @property
    def names(self) -> Collection[str]:
        """All weights that were added."""
        return self.codes.keys() | self.palettes.keys()

    def add(self, name: str, palette: Palette) -> None:
        """Code a palette now if it is large or a packed embedding; else keep it."""
        embedding = next((one for one in self.embeddings or () if one.name == name), None)
        rows = None if embedding is None else row_code(embedding, palette)
        if rows is not None:
            self.codes[name] = replace(rows, words=self.data.add(rows.words))
            self.prints[name] = Fingerprint.of(palette)
            return
        code = _radix(palette) if math.prod(palette.shape) >= self.limits.alone_elements else None
        if code is None:
            self.palettes[name] = palette
        else:
            self._write(name, palette, code)

    def add_if_smaller(self, name: str, palette: Palette, stored_bytes: int) -> None:
        """Code a large palette now if it then takes less than ``stored_bytes``, its bytes as they are."""
        code = _radix(palette)
        if code is not None and code.payload_bytes + code.table_bytes < stored_bytes:
            self._write(name, palette, code)

    def _write(self, name: str, palette: Palette, code: Code) -> None:
        arrays = [self.data.add(array) if i in code.payload else array for i, array in enumerate(code.arrays)]
        self.codes[name] = replace(code, arrays=tuple(arrays))
        self.prints[name] = Fingerprint.of(palette)


def _radix(palette: Palette) -> Code | None:
    """The palette as radix words, with its scales; None where they are no smaller."""
    factors = None if palette.scales is None else palette.scales.broadcast(palette.shape)
    return radix_tensor(palette.indices, palette.codebook, factors=factors)
