"""The smallest file: which partition of the tensors, and which code for every stream of it.

The bytes of a stream are known once it is written out. Those of a file are not their sum: codes with equal programs
share functions, and the writer puts a function that is called once, or is small, in the place of its call. So each code
is written once, alone. Every set of encodings gets an estimate from that, in which every function counts in full. Only
the few selections that promise most are written out as a whole and measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sws_compress.codec.encodings.rows import RowCode
from sws_compress.codec.program import Code
from sws_compress.codec.transforms.unpack import unpack
from sws_compress.onnx_io.write.emission import Emission
from sws_compress.onnx_io.write.onnx_ops import OnnxOps
from sws_compress.onnx_io.write.recorded import Handle
from sws_compress.onnx_io.write.serialise import emission_bytes
from sws_compress.packing.streams import Stream

Selection = list[tuple[Stream, Code]]
"""The streams that are coded, each with the code it gets; all other tensors stay dense."""


MEASURED_PER_PARTITION = 3
"""Selections of each partition that are written out and measured.

Among 307 random perceptrons of one to six layers, the second selection beat the first in 29 (by up to 339 bytes), and
the third beat both in 10 (by up to 233 bytes). No later one was better.
"""


def smallest_selection(
    partitions: Sequence[Sequence[Stream]], opset: int, *, measured_per_partition: int = MEASURED_PER_PARTITION
) -> Selection:
    """The selection with the smallest file.

    Parameters
    ----------
    partitions : sequence of sequences of Stream
        Ways to divide the same tensors among streams; at least one.
    opset : int
        Version of the default operator set in which decoders are written, >= 13.
    measured_per_partition : int
        Number of selections that are written out for each partition, >= 1.

    Returns
    -------
    list of (Stream, Code)
        A stream is left out where its tensors are smaller dense.
    """
    costs = _Costs(opset)
    selections = [
        selection for streams in partitions for selection in _most_promising(streams, costs, measured_per_partition)
    ]
    dense = {name: stream.dense_bytes for stream in partitions[0] for name in stream.names}

    def file_bytes(selection: Selection) -> float:
        coded = {name for stream, _ in selection for name in stream.names}
        return sum(size for name, size in dense.items() if name not in coded) + emission_bytes(emit(selection, opset))

    return min(selections, key=file_bytes)


def emit(
    selection: Selection, opset: int, taken: Collection[str] = (), rows: Mapping[str, RowCode] | None = None
) -> Emission:
    """Nodes, initialisers and functions that decode a selection.

    Parameters
    ----------
    selection : list of (Stream, Code)
        The streams and their codes.
    opset : int
        Version of the default operator set, >= 13.
    taken : collection of str
        Names of values of the model, which must not be used again.
    rows : mapping of str to RowCode, optional
        Tables whose rows are looked up packed, by name.

    Returns
    -------
    Emission
        The decoded tensors have the names of the stream's tensors.
    """
    ops, outputs = _recorded(selection, opset, taken)
    for name, code in (rows or {}).items():
        ops.look_up(name, code.program, code.words, *code.arrays)
    return ops.finish(outputs)


def _recorded(selection: Selection, opset: int, taken: Collection[str] = ()) -> tuple[OnnxOps, dict[str, Handle]]:
    ops = OnnxOps(opset, taken)
    outputs: dict[str, Handle] = {}
    for stream, code in selection:
        outputs.update(zip(stream.names, unpack(ops, code, stream.shapes), strict=True))
    return ops, outputs


@dataclass(frozen=True)
class _Cost:
    """What one code of a stream takes in the file: bytes of its own, and the functions that it calls."""

    own_bytes: int
    functions: frozenset[Hashable]


class _Costs:
    """Costs of codes; each code is written out once, in however many selections it occurs."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._costs: dict[Code, _Cost] = {}
        self.function_bytes: dict[Hashable, int] = {}

    def of(self, stream: Stream, code: Code) -> _Cost:
        if code not in self._costs:
            ops, outputs = _recorded([(stream, code)], self._opset)
            new = [key for key in ops.function_keys if key not in self.function_bytes]
            emission = ops.finish(outputs, settle=False, unwritten=self.function_bytes)
            for key, function in zip(new, emission.functions, strict=True):
                alone = replace(emission, nodes=(), initializers=(), functions=(function,))
                self.function_bytes[key] = emission_bytes(alone)
            own_bytes = emission_bytes(replace(emission, functions=()))
            self._costs[code] = _Cost(own_bytes, frozenset(ops.function_keys))
        return self._costs[code]


def _most_promising(streams: Sequence[Stream], costs: _Costs, count: int) -> list[Selection]:
    """The ``count`` selections that take the fewest bytes by estimate.

    A selection follows from the set of encodings it may use: every stream gets the cheapest of them, or stays dense.
    Every set is tried. The estimate is the streams' own bytes, and those of each function once.
    """
    encodings = sorted({code.encoding for stream in streams for code in stream.codes})
    choices, codes = _choices(streams, encodings, costs)
    estimates: dict[tuple[int, ...], float] = {}
    for size in range(len(encodings) + 1):
        for allowed in itertools.combinations(range(1, len(encodings) + 1), size):
            columns = np.array([0, *allowed])
            picked = tuple(columns[choices[:, columns].argmin(axis=1)].tolist())  # ties: dense, then the first encoding
            if picked not in estimates:
                used = [costs.of(streams[row], codes[row, column]) for row, column in enumerate(picked) if column]
                functions = frozenset().union(*(cost.functions for cost in used))
                own_bytes = sum(choices[row, column] for row, column in enumerate(picked))
                estimates[picked] = float(own_bytes) + sum(costs.function_bytes[key] for key in functions)
    best = sorted(estimates, key=lambda picked: estimates[picked])[:count]
    return [[(streams[row], codes[row, column]) for row, column in enumerate(picked) if column] for picked in best]


def _choices(
    streams: Sequence[Stream], encodings: Sequence[str], costs: _Costs
) -> tuple[npt.NDArray[np.float64], dict[tuple[int, int], Code]]:
    """Bytes of every stream, dense (column 0) and in its cheapest code of each encoding (inf if none); those codes."""
    own_bytes = np.full((len(streams), 1 + len(encodings)), np.inf)
    codes: dict[tuple[int, int], Code] = {}
    for row, stream in enumerate(streams):
        own_bytes[row, 0] = stream.dense_bytes
        for code in stream.codes:
            column, cost = 1 + encodings.index(code.encoding), costs.of(stream, code).own_bytes
            if cost < own_bytes[row, column]:
                own_bytes[row, column], codes[row, column] = cost, code
    return own_bytes, codes
