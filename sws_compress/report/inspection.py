"""What a model file holds, tensor by tensor, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sws_compress.onnx_io.analyse.weights import Skipped
from sws_compress.ort.decode import NOTHING_DECODED, Decoding


@dataclass(frozen=True)
class TensorRow:
    """One floating-point tensor of a file.

    encoding           name of the encoding, or "dense"; with scales, or of vectors, that is said as well
    distinct_values    different bit patterns that occur, before scales; of vectors, rows of d weights
    zeros              share of zeros, 0..1
    entropy_bits       order-0 entropy of these per weight
    file_bytes         nodes, initialisers and shapes that are in the file for this tensor alone: payload, codebook,
                       graph (of a stream that several tensors share, the part by elements)
    file_share         the same as a share of the file, 0..1
    """

    name: str
    shape: tuple[int, ...]
    encoding: str
    distinct_values: int
    zeros: float
    entropy_bits: float
    file_bytes: int
    file_share: float

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def file_bits(self) -> float:
        """Bits of the file per weight."""
        return 8 * self.file_bytes / max(self.size, 1)


@dataclass(frozen=True)
class ModelParts:
    """All weights; bytes of what the decoders share (functions, literals); bytes of the rest (the network's own graph).

    ``format_version`` is None for a plain model; only of one it is said what compression would leave alone, and why
    (``skipped``). ``decoding`` is what a runtime does at load.
    """

    rows: tuple[TensorRow, ...]
    file_bytes: int
    shared_bytes: int
    graph_bytes: int
    format_version: str | None
    skipped: tuple[Skipped, ...] = ()
    decoding: Decoding = NOTHING_DECODED

    @property
    def compressed(self) -> bool:
        return self.format_version is not None
