"""The code of every stream with which the file is smallest, all in all."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sws_compress.codec.encodings.rows import RowCode
from sws_compress.codec.program import Code
from sws_compress.codec.transforms.unpack import unpack
from sws_compress.onnx_io.write import rewrite
from sws_compress.onnx_io.write.onnx_ops import Emission, OnnxOps
from sws_compress.onnx_io.write.recorded import Handle
from sws_compress.packing.streams import Stream

Plan = list[tuple[Stream, Code]]
"""The streams that are coded, each by one of its codes; the others stay dense."""


_MEASURED = 3
"""Plans of each partition that are written out: estimates leave out what is saved on functions called once."""


def best_plan(partitions: Sequence[Sequence[Stream]], opset: int) -> Plan:
    """The plan with the smallest file: of every partition the few that promise most are written out and measured."""
    costs = _Costs(opset)
    plans = [plan for streams in partitions for plan in _promising(streams, costs)]
    dense = {name: stream.dense_bytes for stream in partitions[0] for name in stream.names}

    def file_bytes(plan: Plan) -> float:
        packed = {name for stream, _ in plan for name in stream.names}
        left = sum(size for name, size in dense.items() if name not in packed)
        return left + rewrite.emission_bytes(emit(plan, opset))

    return min(plans, key=file_bytes)


@dataclass(frozen=True)
class _Cost:
    """Bytes of a stream beside what it shares with others, and the functions it shares."""

    own: int
    functions: frozenset[Hashable]


class _Costs:
    """Costs of codes, each written out once however many plans are weighed."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._costs: dict[Code, _Cost] = {}
        self.function_bytes: dict[Hashable, int] = {}

    def of(self, stream: Stream, code: Code) -> _Cost:
        if code not in self._costs:
            ops, outputs = _record([(stream, code)], self._opset)
            new = [key for key in ops.function_keys if key not in self.function_bytes]
            emission = ops.finish(outputs, settle=False, unwritten=self.function_bytes)
            for key, function in zip(new, emission.functions, strict=True):
                alone = replace(emission, nodes=(), initializers=(), functions=(function,))
                self.function_bytes[key] = rewrite.emission_bytes(alone)
            own = rewrite.emission_bytes(replace(emission, functions=()))
            self._costs[code] = _Cost(own, frozenset(ops.function_keys))
        return self._costs[code]


def _promising(streams: Sequence[Stream], costs: _Costs) -> list[Plan]:
    """The plans that cost least by estimate: every stream's own bytes, and every function once.

    A plan follows from the set of encodings it may use: the cheapest of them for every stream. However many sets there
    are, every code is written once, so that time is linear in the number of streams.
    """
    encodings = sorted({code.encoding for stream in streams for code in stream.codes})
    own = np.full((len(streams), len(encodings)), np.inf)
    codes: dict[tuple[int, int], Code] = {}
    for row, stream in enumerate(streams):
        for code in stream.codes:
            column, cost = encodings.index(code.encoding), costs.of(stream, code).own
            if cost < own[row, column]:
                own[row, column], codes[row, column] = cost, code
    dense = np.array([stream.dense_bytes for stream in streams], float).reshape(-1, 1)
    every = np.hstack([dense, own])  # dense first: it wins ties
    estimates: dict[tuple[int, ...], float] = {}
    for count in range(len(encodings) + 1):
        for allowed in itertools.combinations(range(len(encodings)), count):
            chosen = every[:, [0, *(column + 1 for column in allowed)]].argmin(axis=1)
            picked = tuple(-1 if choice == 0 else allowed[choice - 1] for choice in chosen.tolist())
            if picked not in estimates:
                used = [costs.of(streams[row], codes[row, column]) for row, column in enumerate(picked) if column >= 0]
                functions = frozenset().union(*(cost.functions for cost in used))
                shared = sum(costs.function_bytes[key] for key in functions)
                estimates[picked] = float(sum(every[row, column + 1] for row, column in enumerate(picked))) + shared
    best = sorted(estimates, key=lambda picked: estimates[picked])[:_MEASURED]
    return [[(streams[row], codes[row, column]) for row, column in enumerate(picked) if column >= 0] for picked in best]


def _record(plan: Plan, opset: int, taken: Collection[str] = ()) -> tuple[OnnxOps, dict[str, Handle]]:
    ops = OnnxOps(opset, taken)
    outputs: dict[str, Handle] = {}
    for stream, code in plan:
        outputs.update(zip(stream.names, unpack(ops, code, stream.shapes), strict=True))
    return ops, outputs


def emit(plan: Plan, opset: int, taken: Collection[str] = (), rows: Mapping[str, RowCode] | None = None) -> Emission:
    """What decodes the tensors of ``plan``, and what looks up the tables in ``rows``."""
    ops, outputs = _record(plan, opset, taken)
    for name, code in (rows or {}).items():
        ops.look_up(name, code.program, code.words, *code.arrays)
    return ops.finish(outputs)
