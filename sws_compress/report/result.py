"""The figures of one compression, inspection or comparison, as data and as plain values for JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sws_compress.ort.compare import OutputDifference
from sws_compress.report.inspection import ModelParts, TensorRow

if TYPE_CHECKING:
    from torch import nn

    from sws_compress.mixture.mixture import Mixture

DENSE = "dense"


def tensor_json(row: TensorRow) -> dict[str, Any]:
    """One row of the table of tensors."""
    return {**dataclasses.asdict(row), "shape": list(row.shape), "elements": row.size, "file_bits": row.file_bits}


@dataclass(frozen=True)
class Inspection:
    """What the model file at ``path`` is made of; ``disk_bytes`` with external data."""

    path: Path
    disk_bytes: int
    parts: ModelParts

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "disk_bytes": self.disk_bytes,
            "shared_bytes": self.parts.shared_bytes,
            "graph_bytes": self.parts.graph_bytes,
            "format_version": self.parts.format_version,
            "decoding": dataclasses.asdict(self.parts.decoding),
            "tensors": [tensor_json(row) for row in self.parts.rows],
        }


@dataclass(frozen=True)
class Verification:
    """Outputs of two models on the same inputs; passed if no relative difference exceeds ``tolerance``."""

    original: Path
    compressed: Path
    original_bytes: int
    compressed_bytes: int
    outputs: tuple[OutputDifference, ...]
    tolerance: float

    @property
    def passed(self) -> bool:
        return all(output.largest_relative <= self.tolerance for output in self.outputs)

    def to_json(self) -> dict[str, Any]:
        return {
            **dataclasses.asdict(self),
            "original": str(self.original),
            "compressed": str(self.compressed),
            "passed": self.passed,
        }


@dataclass(frozen=True)
class ExpansionResult:
    """The plain file that was written. ``expanded``: names of the weights that were decoded for it."""

    output: Path
    compressed_bytes: int
    file_bytes: int
    expanded: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "output": str(self.output)}


@dataclass(frozen=True)
class CompressionResult:
    """What ``compress`` or ``export`` did; all sizes are of files on disk, in bytes.

    dense_bytes           the same network as a plain ONNX file
    file_bytes            the file that was written
    largest_difference    of the file's outputs from those of the snapped network on sample inputs, relative; NaN for a
                          model so large that only its weights were compared
    notes                 what else its user should know, a line each
    pruned_weights        weights that are not in the file, because they belonged to idle units
    before, after         the caller's metric on the float and on the snapped network; None without ``evaluate``
    network               the snapped torch module (the one that was passed in is not changed); None for ONNX models
    mixtures              the final mixture of every compressed tensor that was clustered, by its name
    """

    output: Path
    dense_bytes: int
    file_bytes: int
    tensors: tuple[TensorRow, ...]
    largest_difference: float
    seconds: float
    before: float | None = None
    after: float | None = None
    network: nn.Module | None = field(default=None, repr=False, compare=False)
    notes: tuple[str, ...] = ()
    pruned_weights: int = 0
    mixtures: dict[str, Mixture] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ratio(self) -> float:
        return self.dense_bytes / self.file_bytes

    @property
    def weights(self) -> int:
        """Number of weights that were compressed or pruned."""
        return self.pruned_weights + sum(tensor.size for tensor in self._compressed)

    @property
    def zeros(self) -> float:
        """Share of exact zeros among these weights, pruned ones included, 0..1."""
        zeros = sum(tensor.zeros * tensor.size for tensor in self._compressed)
        return (self.pruned_weights + zeros) / max(self.weights, 1)

    @property
    def bits_per_weight(self) -> float:
        """Bits of the whole file for each of these weights."""
        return 8 * self.file_bytes / max(self.weights, 1)

    @property
    def _compressed(self) -> tuple[TensorRow, ...]:
        return tuple(tensor for tensor in self.tensors if tensor.encoding != DENSE)

    def to_json(self) -> dict[str, Any]:
        return {
            "output": str(self.output),
            "dense_bytes": self.dense_bytes,
            "file_bytes": self.file_bytes,
            "ratio": self.ratio,
            "weights": self.weights,
            "pruned_weights": self.pruned_weights,
            "zeros": self.zeros,
            "bits_per_weight": self.bits_per_weight,
            "largest_difference": self.largest_difference,
            "seconds": self.seconds,
            "before": self.before,
            "after": self.after,
            "notes": list(self.notes),
            "tensors": [tensor_json(tensor) for tensor in self.tensors],
        }
