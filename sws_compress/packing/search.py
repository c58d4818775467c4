"""The smallest file: which partition of the tensors, and which code for every stream of it.

The bytes of a stream are known once it is written out. Those of a file are not their sum: codes with equal programs
share functions, and the writer puts a function that is called once, or is small, in the place of its call. So each code
is written once, alone. Every set of encodings gets an estimate from that, in which every function counts in full. Only
the few selections that promise most are written out as a whole and measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sws_compress.codec.encodings.rows import RowCode
from sws_compress.codec.load_cost import FREE, UNLIMITED, LoadCost
from sws_compress.codec.program import Code
from sws_compress.codec.transforms.unpack import unpack
from sws_compress.onnx_io.write.emission import Emission
from sws_compress.onnx_io.write.onnx_ops import OnnxOps
from sws_compress.onnx_io.write.recorded import Handle
from sws_compress.onnx_io.write.serialise import emission_bytes
from sws_compress.packing.budget import Options, Picks
from sws_compress.packing.streams import Stream
from sws_compress.terminal.progress_bar import OnProgress, silent

Selection = list[tuple[Stream, Code]]
"""The streams that are coded, each with the code it gets; all other tensors stay dense."""

CHOOSING = "choosing codes"
"""What the progress says meanwhile."""

MEASURED_PER_PARTITION = 3
"""Selections of each partition that are written out and measured.

Among 307 random perceptrons of one to six layers, the second selection beat the first in 29 (by up to 339 bytes), and
the third beat both in 10 (by up to 233 bytes). No later one was better.
"""


def smallest_selection(
    partitions: Sequence[Sequence[Stream]],
    opset: int,
    *,
    limit: LoadCost = UNLIMITED,
    measured_per_partition: int = MEASURED_PER_PARTITION,
    on_progress: OnProgress = silent,
) -> Selection:
    """The selection with the smallest file.

    Parameters
    ----------
    partitions : sequence of sequences of Stream
        Ways to divide the same tensors among streams; at least one.
    opset : int
        Version of the default operator set in which decoders are written, >= 13.
    limit : LoadCost
        What loading all streams may cost. Where no selection is within it, loading is as cheap as can be. None leaves
        streams dense that a code makes smaller.
    measured_per_partition : int
        Number of selections that are written out for each partition, >= 1.
    on_progress : callable
        Called as ``on_progress(description, done, total)``.

    Returns
    -------
    list of (Stream, Code)
        A stream is left out where its tensors are smaller dense.
    """
    costs = _Costs(opset)
    steps = (1 + measured_per_partition) * len(partitions)
    selections: list[Selection] = []
    for i, streams in enumerate(partitions):
        on_progress(CHOOSING, i, steps)
        selections += _most_promising(streams, costs, measured_per_partition, limit)
    dense = {name: stream.dense_bytes for stream in partitions[0] for name in stream.names}

    measured = 0

    def file_bytes(selection: Selection) -> float:
        nonlocal measured
        on_progress(CHOOSING, len(partitions) + measured, steps)
        measured += 1
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


def _most_promising(streams: Sequence[Stream], costs: _Costs, count: int, limit: LoadCost) -> list[Selection]:
    """The ``count`` selections that take the fewest bytes by estimate.

    A selection follows from the set of encodings it may use: every stream gets the cheapest of them, or stays dense.
    Every set is tried. The estimate is the streams' own bytes, and those of each function once. Loading has the price
    at which all of them together are within the limit; sets that are not are left out if any is.
    """
    if not streams:
        return [[]]
    options = _options(streams, costs, limit)
    price = options.price()
    encodings = sorted({code.encoding for stream in streams for code in stream.codes})
    columns = _cheapest(streams, encodings, options, price)
    rows = np.arange(len(streams))
    prices = (options.own_bytes + price * options.shares)[rows[:, None], columns]
    prices[:, 1:][columns[:, 1:] == 0] = np.inf  # no code of that encoding
    estimates: dict[tuple[int, ...], tuple[bool, float]] = {}
    for size in range(len(encodings) + 1):
        for allowed in itertools.combinations(range(1, len(encodings) + 1), size):
            found = np.array([0, *allowed])
            picks = columns[rows, found[prices[:, found].argmin(axis=1)]]  # ties: dense, then the first encoding
            key = tuple(picks.tolist())
            if key not in estimates:
                used = [
                    costs.of(stream, stream.codes[pick - 1]) for stream, pick in zip(streams, key, strict=True) if pick
                ]
                functions = frozenset().union(*(cost.functions for cost in used))
                size_bytes = float(options.own_bytes[rows, picks].sum())
                size_bytes += sum(costs.function_bytes[function] for function in functions)
                estimates[key] = not options.within(picks), size_bytes
    known = [key for key in estimates if math.isfinite(estimates[key][1])]  # not dense what must not stay so
    best = sorted(known or estimates, key=lambda key: estimates[key])
    best = [key for key in best if estimates[key][0] == estimates[best[0]][0]][:count]
    filled = [np.array(key) if price == 0 else _filled(streams, costs, options, np.array(key)) for key in best]
    return [
        [(stream, stream.codes[pick - 1]) for stream, pick in zip(streams, picks.tolist(), strict=True) if pick]
        for picks in filled
    ]


def _options(streams: Sequence[Stream], costs: _Costs, limit: LoadCost) -> Options:
    """Every stream dense, then in each of its codes."""
    rows = []
    for stream in streams:
        codes = [(float(costs.of(stream, code).own_bytes), code.load_cost) for code in stream.codes]
        rows.append([_dense(stream, codes), *codes])
    return Options.of(rows, limit)


def _dense(stream: Stream, codes: Sequence[tuple[float, LoadCost]]) -> tuple[float, LoadCost]:
    """A stream as it is: no faster than the fastest code that is smaller, so that no limit keeps tensors dense."""
    smaller = [load for own_bytes, load in codes if own_bytes < stream.dense_bytes]
    return stream.dense_bytes, min(smaller, key=lambda load: (load.seconds, load.peak_bytes), default=FREE)


def _cheapest(streams: Sequence[Stream], encodings: Sequence[str], options: Options, price: float) -> Picks:
    """Column of the cheapest option of every stream in each encoding, behind that of dense; 0 if there is none."""
    prices = options.own_bytes + price * options.shares
    columns = np.zeros((len(streams), 1 + len(encodings)), np.intp)
    for row, stream in enumerate(streams):
        for column, code in enumerate(stream.codes, start=1):
            place = 1 + encodings.index(code.encoding)
            if not columns[row, place] or prices[row, column] < prices[row, columns[row, place]]:
                columns[row, place] = column
    return columns


def _filled(streams: Sequence[Stream], costs: _Costs, options: Options, picks: Picks) -> Picks:
    """Picks that use up what is left of the limit, where that pays for the functions that none of them calls yet."""
    functions = [
        [frozenset[Hashable](), *(costs.of(stream, code).functions for code in stream.codes)] for stream in streams
    ]
    called = frozenset[Hashable]().union(*(row[pick] for row, pick in zip(functions, picks.tolist(), strict=True)))
    own_bytes = options.own_bytes.copy()
    for row, calls in enumerate(functions):
        own_bytes[row, : len(calls)] += [sum(costs.function_bytes[key] for key in found - called) for found in calls]
    return replace(options, own_bytes=own_bytes).filled(picks)
