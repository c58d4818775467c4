"""The result of a compression, as data, as plain values for JSON, and as a table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from sws_compress.messages import first_few, shown
from sws_compress.ort.differences import OutputDifference
from sws_compress.report.decisions import Decision
from sws_compress.report.distances import far_lines, percent_text, untold_lines
from sws_compress.report.file_parts import FileParts
from sws_compress.report.inspection import TensorRow, tensor_json
from sws_compress.report.printed import Printed
from sws_compress.report.tables import TensorsTable, summary

if TYPE_CHECKING:
    from torch import nn

    from sws_compress.mixture.mixture import Mixture

DENSE = "dense"
"""The encoding of a tensor that is in the file as it was."""

MAX_BITS_PER_WEIGHT = 64
"""Bits of the widest float. Where the whole file has more per compressed weight, it consists of other things."""


SCORES = "before a last softmax, sigmoid or argmax, they differ by"
"""What the error of the scores is that of."""

SMALL_RATIO = 2
"""Ratios below it have two decimals: 1.04x is not 1.0x."""

MAX_TENSOR_LINES = 24
"""Tensors that are listed: a screenful; ``inspect`` lists all."""


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
class CompressionResult(Printed):
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
        Sizes and the metric there, the largest first: all files that a search for ``max_drop`` has measured; of a
        trained network the file, and networks on the way that no smaller one was better than.
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
        return f"<CompressionResult {self.verdict}>"

    @property
    def output_error(self) -> float:
        """Largest `OutputDifference.error` of an output, relative to the original's; NaN where none was compared."""
        return max((output.error for output in self.outputs if output.untold is None), default=math.nan)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line if outputs are far from the original's (`far_lines`), and one for every output that tells nothing.

        A file that was searched for by the caller's metric has been judged by it.
        """
        far = () if self.curve and not self.trained else far_lines(self.outputs, self.score_error, trained=self.trained)
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

    def __rich__(self) -> RenderableType:
        return self.table()

    def table(self, more: Iterable[tuple[str, str]] = ()) -> RenderableType:
        """What the command line prints: the verdict, the tensors, and a summary of the whole file.

        Parameters
        ----------
        more : iterable of (str, str)
            Further lines of the summary, each a name and a value.

        Returns
        -------
        RenderableType
            What a rich console prints; ``print(result)`` shows it as text.
        """
        metric = [] if self.before is None else [("metric before, after", f"{self.before:.4g}, {_number(self.after)}")]
        per_weight = self.bits_per_weight
        bits = [] if per_weight is None else [("bits per weight", f"{per_weight:.3f}")]
        lines = [
            ("original", f"{self.dense_bytes:,} bytes"),
            (str(self.output), f"{self.file_bytes:,} bytes"),
            *([] if self.parts is None else [("bytes of", str(self.parts))]),
            ("ratio", ratio_text(self.ratio)),
            *metric,
            *(("metric of a file", f"{size.metric:.4g} at {size.file_bytes:,} bytes") for size in self.curve),
            *more,
            ("zeros", f"{100 * self.zeros:.1f} %"),
            *bits,
            *self.checks,
            *(("warning", warning) for warning in self.warnings),
            *(("note", note) for note in self.notes),
        ]
        tensors = TensorsTable(self.tensors, MAX_TENSOR_LINES)
        return Group(Text(self.verdict, "bold", overflow="fold"), tensors, summary(lines))

    @property
    def verdict(self) -> str:
        """The result in one line: the file, its size, the ratio, and what became of the metric."""
        metric = "" if self.before is None else f", metric {self.before:.4g} -> {_number(self.after)}"
        return f"{self.output}: {self.file_bytes:,} bytes, {ratio_text(self.ratio)} smaller{metric}"

    @property
    def checks(self) -> tuple[tuple[str, str], ...]:
        """What was compared with what, and the time: names and values of lines."""
        scores = [] if math.isnan(self.score_error) else [("scores", f"{SCORES} {percent_text(self.score_error)}")]
        time = ("time", f"{self.seconds:.1f} s")
        return (("checked", self._decoded()), ("outputs", self._outputs()), *scores, time)

    def _decoded(self) -> str:
        """What the file was compared with: the snapped network, whose weights it stores."""
        if math.isnan(self.decoded_difference):
            return "weights decoded exactly, network not run"
        if math.isinf(self.decoded_difference):
            return "weights decoded exactly, outputs not to a bound: rounding moves choices"
        if self.decoded_difference == 0:
            return "weights and outputs decoded exactly"
        return f"weights decoded exactly, outputs to {self.decoded_difference:.1e}"

    def _outputs(self) -> str:
        """How far the file is from the original network."""
        largest = self.output_error
        if math.isnan(largest):
            return "not compared with the original"
        original = "the network before training" if self.trained else "the original"
        inputs = "random" if self.random_inputs else "given"
        if largest == 0:
            return f"equal those of {original} (on {inputs} inputs)"
        compared = [output for output in self.outputs if output.untold is None]
        worst = max(compared, key=lambda output: output.error)
        in_or_by = "" if math.isinf(largest) else "by " if worst.differing_share is None else "in "
        by = f"{in_or_by}{_error(worst)}{' of their norm' if worst.differing_share is None and in_or_by else ''}"
        each = [f"{shown(output.name)} {_error(output)}" for output in compared]
        named = f": {first_few(each, ', ')}" if len(each) > 1 else ""
        return f"differ from {original} {by} (on {inputs} inputs{named})"

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


def _error(output: OutputDifference) -> str:
    if not math.isfinite(output.error):
        return "without bound"
    return f"{percent_text(output.error)}{'' if output.differing_share is None else ' of entries'}"


def ratio_text(ratio: float) -> str:
    """A ratio of sizes."""
    return f"{ratio:.{1 if ratio >= SMALL_RATIO else 2}f}x"


def _number(metric: float | None) -> str:
    """A metric; of a module that lacks weights of its file there is none."""
    return "not measured" if metric is None else f"{metric:.4g}"
