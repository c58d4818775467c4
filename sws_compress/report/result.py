"""The figures of one compression, as data and as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TensorResult:
    """One weight tensor of a file.

    distinct_values    different values that occur
    encoding           name of the encoding, or "dense"
    entropy_bits       order-0 entropy per weight; None for a dense tensor
    file_bytes         bytes of the file that are there for this tensor alone: payload, codebook, tables, graph
    zeros              share of exact zeros, 0..1
    """

    name: str
    shape: tuple[int, ...]
    elements: int
    distinct_values: int
    encoding: str
    entropy_bits: float | None
    file_bytes: int
    zeros: float

    @property
    def compressed(self) -> bool:
        return self.encoding != "dense"

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.file_bytes / self.elements


@dataclass(frozen=True)
class CompressionResult:
    """What ``compress`` and ``export`` did; all sizes are of files on disk, in bytes.

    dense_bytes        the same network as a plain ONNX file
    file_bytes         the file that was written
    before, after      the user's metric on the float and on the snapped network; None without ``evaluate``
    largest_difference largest difference between outputs of the file and of the snapped network on sample inputs,
                       relative to the largest output
    """

    output: Path
    dense_bytes: int
    file_bytes: int
    tensors: tuple[TensorResult, ...]
    largest_difference: float
    seconds: float
    before: float | None = None
    after: float | None = None

    @property
    def ratio(self) -> float:
        return self.dense_bytes / self.file_bytes

    @property
    def weights(self) -> int:
        """Number of weights in compressed tensors."""
        return sum(tensor.elements for tensor in self.tensors if tensor.compressed)

    @property
    def zeros(self) -> float:
        """Share of exact zeros among the compressed weights, 0..1."""
        return sum(t.zeros * t.elements for t in self.tensors if t.compressed) / max(self.weights, 1)

    @property
    def bits_per_weight(self) -> float:
        """Bits of the whole file per compressed weight."""
        return 8 * self.file_bytes / max(self.weights, 1)

    def to_json(self) -> dict[str, Any]:
        """Plain values only, for ``json.dump``."""
        fields = dataclasses.asdict(self)
        fields["output"] = str(self.output)
        fields["tensors"] = [
            {**dataclasses.asdict(tensor), "shape": list(tensor.shape), "bits_per_weight": tensor.bits_per_weight}
            for tensor in self.tensors
        ]
        return {
            **fields,
            "ratio": self.ratio,
            "weights": self.weights,
            "zeros": self.zeros,
            "bits_per_weight": self.bits_per_weight,
        }
