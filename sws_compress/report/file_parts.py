"""The bytes of a file by what they are there for: one number for each kind of thing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sws_compress.onnx_io.analyse.tensor_kinds import FLOAT
from sws_compress.report.inspection import TensorRow


@dataclass(frozen=True)
class FileParts:
    """All bytes of a model file; every one counts once.

    Parameters
    ----------
    weight_bytes : int
        Symbols of the packed weights, and integers that are packed.
    codebook_bytes : int
        Values that these symbols stand for.
    vector_bytes : int
        Biases, norms and other vectors of floats, packed or not: symbols, values and numbers.
    dense_bytes : int
        All other tensors of two elements or more that are in the file as they were.
    graph_bytes : int
        Everything else: nodes of the network and of decoders, names, shapes, and the frames around them.

    Examples
    --------
    >>> row = TensorRow("w", (64, 64), "huffman", 4, 0.5, 1.7, 900, 0.75, codebook_bytes=8, decoder_bytes=92)
    >>> FileParts.of([row], 1200)
    FileParts(weight_bytes=800, codebook_bytes=8, vector_bytes=0, dense_bytes=0, graph_bytes=392)
    """

    weight_bytes: int
    codebook_bytes: int
    vector_bytes: int
    dense_bytes: int
    graph_bytes: int

    @classmethod
    def of(cls, rows: Iterable[TensorRow], file_bytes: int) -> FileParts:
        """Parts of a file of ``file_bytes``, whose tensors ``rows`` are."""
        weights = codebooks = vectors = dense = 0
        for row in rows:
            stored = row.file_bytes - row.decoder_bytes
            if _is_vector(row):
                vectors += stored
            elif row.encoding == "dense":
                dense += stored
            else:
                weights += stored - row.codebook_bytes
                codebooks += row.codebook_bytes
        return cls(weights, codebooks, vectors, dense, file_bytes - weights - codebooks - vectors - dense)

    @property
    def named(self) -> tuple[tuple[str, int], ...]:
        """The parts, each by its name."""
        return (
            ("weights", self.weight_bytes),
            ("codebooks", self.codebook_bytes),
            ("biases and norms", self.vector_bytes),
            ("dense", self.dense_bytes),
            ("graph", self.graph_bytes),
        )

    def __str__(self) -> str:
        """The parts that take any bytes, on one line."""
        return ", ".join(f"{name} {size:,}" for name, size in self.named if size)


def _is_vector(row: TensorRow) -> bool:
    """Whether a tensor of floats has one dimension longer than 1, or none."""
    return row.kind == FLOAT and sum(length > 1 for length in row.shape) <= 1
