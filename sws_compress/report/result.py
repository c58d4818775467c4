"""Results of one compression, inspection, comparison or expansion, as data and as plain values for JSON."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sws_compress.ort.differences import OutputDifference
from sws_compress.ort.weight_differences import WeightDifference
from sws_compress.report.decisions import Decision
from sws_compress.report.distances import far_lines, untold_lines
from sws_compress.report.file_parts import FileParts
from sws_compress.report.inspection import ModelParts, TensorRow

if TYPE_CHECKING:
    from torch import nn

    from sws_compress.mixture.mixture import Mixture

DENSE = "dense"
"""The encoding of a tensor that is in the file as it was."""

MAX_BITS_PER_WEIGHT = 64
"""Bits of the widest float. Where the whole file has more per compressed weight, it consists of other things."""


def tensor_json(row: TensorRow) -> dict[str, Any]:
    """Plain values of one tensor, for JSON."""
    return {**dataclasses.asdict(row), "shape": list(row.shape), "elements": row.size, "file_bits": row.file_bits}


@dataclass(frozen=True)
class Inspection:
    """What a model file is made of.

    Parameters
    ----------
    path : Path
        The file.
    disk_bytes : int
        Its size with all files of external data, in bytes.
    parts : ModelParts
        Its weights and their bytes.
    """

    path: Path
    disk_bytes: int
    parts: ModelParts

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
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
    """Outputs of a compressed model beside those of the original, on the same inputs, and the weights of large ones.

    Parameters
    ----------
    original, compressed : Path
        The two files.
    original_bytes, compressed_bytes : int
        Their sizes, in bytes.
    outputs : tuple of OutputDifference
        The largest difference of every output; empty if ONNX Runtime could not run both models, which a note tells.
    tolerance : float
        The largest `OutputDifference.deviation` that passes.
    random_inputs : bool
        Whether the inputs were drawn at random rather than given.
    weights : tuple of WeightDifference
        The weights that both files of a large model have.
    notes : tuple of str
        What the user should know besides, one line each.
    """

    original: Path
    compressed: Path
    original_bytes: int
    compressed_bytes: int
    outputs: tuple[OutputDifference, ...]
    tolerance: float
    random_inputs: bool = False
    weights: tuple[WeightDifference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no output deviates by more than `tolerance` or is never finite, and some output is not empty.

        Where outputs were not compared, whether no weight differs by more.
        """
        if self.weights and not self.outputs:
            return all(weight.relative_error <= self.tolerance for weight in self.weights)
        within = all(output.deviation <= self.tolerance for output in self.outputs)
        return within and any(output.untold is None for output in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **dataclasses.asdict(self),
            "original": str(self.original),
            "compressed": str(self.compressed),
            "passed": self.passed,
            "inputs": "random" if self.random_inputs else "given",
        }


@dataclass(frozen=True)
class ExpansionResult:
    """A plain model that was made from a compressed one.

    Parameters
    ----------
    output : Path
        The file that was written.
    compressed_bytes : int
        Size of the compressed model, in bytes.
    file_bytes : int
        Size of the plain model, in bytes.
    expanded : tuple of str
        Names of the weights that were decoded.
    notes : tuple of str
        What is not plain in it, one line each.
    """

    output: Path
    compressed_bytes: int
    file_bytes: int
    expanded: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**dataclasses.asdict(self), "output": str(self.output)}


@dataclass(frozen=True)
class MeasuredSize:
    """A file that was tried for a goal of the metric.

    Parameters
    ----------
    file_bytes : int
        Its size.
    metric : float
        The caller's metric of it.
    """

    file_bytes: int
    metric: float


@dataclass(frozen=True, repr=False)
class CompressionResult:
    """What `compress` or `export` did. All sizes are of files on disk, in bytes.

    Parameters
    ----------
    output : Path
        The file that was written.
    dense_bytes : int
        Size of the same network as a plain ONNX file.
    file_bytes : int
        Size of the file that was written.
    tensors : tuple of TensorRow
        The weights in the file.
    decoded_difference : float
        Largest difference between the file's outputs and those of the snapped network, relative to the largest value of
        each output: rounding, because all weights are equal. NaN where only weights were compared.
    seconds : float
        Time that it took.
    outputs : tuple of OutputDifference
        Every output of the file beside that of the original network on the same inputs. Empty where they were not
        compared.
    score_error : float
        Relative error of what is read out at the outputs: the values before a last softmax, sigmoid or argmax, which
        hide it. On the same inputs, or on smooth random ones as well; NaN where it was not measured.
    random_inputs : bool
        Whether these inputs were drawn at random rather than given.
    trained : bool
        Whether the network was trained, which moves outputs on purpose.
    before, after : float, optional
        The caller's metric for the float network and for the snapped one; None without `evaluate`.
    curve : tuple of MeasuredSize
        All files that a search for ``max_drop`` has measured, the largest first.
    decisions : tuple of Decision
        Why every weight got its bits, where it was decided without training and in memory.
    network : nn.Module, optional
        The snapped torch module; the one that was passed in is not changed. None for ONNX models.
    cure : str
        What to ask for instead where outputs are far from the original's.
    notes : tuple of str
        What the user should know besides, one line each.
    parts : FileParts, optional
        The bytes of the file by kind; None where dense tensors are not listed: streamed files, LowBit.
    pruned_weights : int
        Weights that are not in the file, because they belonged to idle units.
    mixtures : dict of str to Mixture
        The final mixture of every tensor that was clustered, by its name.
    """

    output: Path
    dense_bytes: int
    file_bytes: int
    tensors: tuple[TensorRow, ...]
    decoded_difference: float
    seconds: float
    outputs: tuple[OutputDifference, ...] = ()
    score_error: float = math.nan
    random_inputs: bool = False
    trained: bool = False
    before: float | None = None
    after: float | None = None
    curve: tuple[MeasuredSize, ...] = ()
    decisions: tuple[Decision, ...] = ()
    network: nn.Module | None = field(default=None, repr=False, compare=False)
    cure: str = ""
    notes: tuple[str, ...] = ()
    parts: FileParts | None = None
    pruned_weights: int = 0
    mixtures: dict[str, Mixture] = field(default_factory=dict, repr=False, compare=False)

    def __repr__(self) -> str:
        metric = "" if self.before is None else f", metric {self.before:.4g} -> {self.after:.4g}"
        sizes = f"{self.dense_bytes:,} -> {self.file_bytes:,} bytes, {self.ratio:.1f}x smaller"
        return f"<CompressionResult {self.output}: {sizes}{metric}>"

    @property
    def output_error(self) -> float:
        """Largest `OutputDifference.error` of an output, relative to the original's; NaN where none was compared."""
        return max((output.error for output in self.outputs if output.untold is None), default=math.nan)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line if outputs are far from the original's (`far_lines`), and one for every output that tells nothing.

        A file that was searched for by the caller's metric has been judged by it.
        """
        far = () if self.curve else far_lines(self.outputs, self.score_error, trained=self.trained)
        inputs = "; judge by real inputs (--inputs)" if self.random_inputs else ""
        return (*(f"{line}: {self.cure}{inputs}" for line in far), *untold_lines(self.outputs))

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than the plain one."""
        return self.dense_bytes / self.file_bytes

    @property
    def weights(self) -> int:
        """Number of weights that were compressed or pruned."""
        return self.pruned_weights + sum(tensor.size for tensor in self._compressed)

    @property
    def zeros(self) -> float:
        """Share of these weights that are exactly zero or pruned, 0..1."""
        zeros = sum(tensor.zeros * tensor.size for tensor in self._compressed)
        return (self.pruned_weights + zeros) / max(self.weights, 1)

    @property
    def bits_per_weight(self) -> float | None:
        """Bits of the whole file for each of these weights; None above `MAX_BITS_PER_WEIGHT`."""
        bits = 8 * self.file_bytes / max(self.weights, 1)
        return bits if bits <= MAX_BITS_PER_WEIGHT else None

    @property
    def _compressed(self) -> tuple[TensorRow, ...]:
        return tuple(tensor for tensor in self.tensors if tensor.encoding != DENSE)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON; without the network and the mixtures."""
        return {
            "output": str(self.output),
            "dense_bytes": self.dense_bytes,
            "file_bytes": self.file_bytes,
            "ratio": self.ratio,
            "weights": self.weights,
            "pruned_weights": self.pruned_weights,
            "zeros": self.zeros,
            "bits_per_weight": self.bits_per_weight,
            "parts": None if self.parts is None else dataclasses.asdict(self.parts),
            "decoded_difference": self.decoded_difference,
            "outputs": [dataclasses.asdict(output) for output in self.outputs],
            "output_error": self.output_error,
            "score_error": self.score_error,
            "inputs": "random" if self.random_inputs else "given",
            "warnings": list(self.warnings),
            "seconds": self.seconds,
            "before": self.before,
            "after": self.after,
            "decisions": [
                {**dataclasses.asdict(each), "bits_per_weight": each.bits_per_weight} for each in self.decisions
            ],
            "curve": [dataclasses.asdict(size) for size in self.curve],
            "notes": list(self.notes),
            "tensors": [tensor_json(tensor) for tensor in self.tensors],
        }
