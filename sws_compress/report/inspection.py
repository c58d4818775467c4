"""The parts of a model file, tensor by tensor, as data."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from sws_compress.onnx_io.analyse.tensor_kinds import FLOAT
from sws_compress.onnx_io.analyse.weights import Skipped
from sws_compress.onnx_io.format.held import FLOATS
from sws_compress.ort.decode import NOTHING_DECODED, Decoding


@dataclass(frozen=True)
class TensorRow:
    """One tensor of a model file.

    Parameters
    ----------
    name : str
        Name of the weight.
    shape : tuple of int
        Its shape when decoded.
    encoding : str
        Name of the encoding, or "dense". Scales are named too ("huffman+scales").
    distinct_values : int
        Number of different bit patterns before scales are applied; where one index stands for d weights, number of
        different rows of d weights.
    zeros : float
        Share of weights that are exactly zero, 0..1.
    entropy_bits : float
        Order-0 entropy of these values, in bits per weight.
    file_bytes : int
        Bytes that are in the file for this tensor alone: payload, codebook, decoder and shapes. A stream that several
        tensors share is divided among them by their number of weights.
    file_share : float
        The same as a share of the file, 0..1.
    kind : str
        What it is there for (`onnx_io.analyse.tensor_kinds`): "float", "quantised" or "integers".
    codebook_bytes : int
        Those of ``file_bytes`` that are values of a codebook, or scales.
    decoder_bytes : int
        Those of ``file_bytes`` that are nodes, small integers, names and frames.
    route : str
        How a runtime holds it (`onnx_io.format.held`): "floats", or as integers for a "product", "dequantised" at every
        run, or "rows" that are looked up.
    held_bytes : int
        Bytes that a runtime holds of it while the model runs; 0 if that is not known.
    """

    name: str
    shape: tuple[int, ...]
    encoding: str
    distinct_values: int
    zeros: float
    entropy_bits: float
    file_bytes: int
    file_share: float
    kind: str = FLOAT
    codebook_bytes: int = 0
    decoder_bytes: int = 0
    route: str = FLOATS
    held_bytes: int = 0

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
    """All bytes of a model file: those of its weights, of what their decoders share, and of the rest.

    Parameters
    ----------
    rows : tuple of TensorRow
        The weights.
    file_bytes : int
        Size of the model, in bytes.
    shared_bytes : int
        Bytes that decoders share: functions and literals. 0 for a plain model.
    graph_bytes : int
        Bytes of everything else: the network's own graph, with its small integers.
    format_version : str or None
        Version of the compressed format; None for a plain model.
    skipped : tuple of Skipped
        Weights that compression would leave alone, each with the reason. Empty for a compressed model.
    decoding : Decoding
        Time and memory that decoding takes when the model is loaded.
    """

    rows: tuple[TensorRow, ...]
    file_bytes: int
    shared_bytes: int
    graph_bytes: int
    format_version: str | None
    skipped: tuple[Skipped, ...] = ()
    decoding: Decoding = NOTHING_DECODED

    def bytes_of(self, kind: str) -> int:
        """Bytes of all rows of a kind."""
        return sum(row.file_bytes for row in self.rows if row.kind == kind)

    @property
    def compressed(self) -> bool:
        """Whether this package wrote the file."""
        return self.format_version is not None


def tensor_json(row: TensorRow) -> dict[str, Any]:
    """Plain values of one tensor, for JSON."""
    return {**dataclasses.asdict(row), "shape": list(row.shape), "elements": row.size, "file_bits": row.file_bits}
