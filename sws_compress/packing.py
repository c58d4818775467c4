"""Palettes into a model: every tensor as the code that makes the file smallest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.codec.code import Code
from sws_compress.codec.cost import LoadCost, affordable, default_limit, load_cost
from sws_compress.codec.tensors import tensor_candidates, unpack
from sws_compress.errors import ArgumentError, ModelError
from sws_compress.graph import rewrite
from sws_compress.graph.mapped import forget
from sws_compress.graph.ops import Emission, Handle, OnnxOps
from sws_compress.graph.weights import FLOAT_TYPES, refuse_compressed
from sws_compress.mixture.snap import MAX_CODEBOOK, Palette, bit_patterns, palette_of

_SMALL = 4096
"""Elements up to which a tensor may share the stream of another."""

_SMALLEST_VECTOR = 8
"""Elements from which a vector is looked at: by itself it would not pay, in one stream with others it may."""

_MIDDLING = 1 << 19
"""Elements up to which a tensor may share one stream with all others."""

_MEASURED = 3
"""Plans of each partition that are written out: estimates leave out what is saved on functions called once."""


@dataclass(frozen=True)
class PackedTensor:
    """What became of one tensor. ``members``: all tensors in its stream, itself included; the rest is of that stream.

    ``table_bytes``: codebook and tables; ``load``: estimate.
    """

    name: str
    shape: tuple[int, ...]
    encoding: str
    members: tuple[str, ...]
    payload_bytes: int
    table_bytes: int = 0
    load: LoadCost | None = None


@dataclass(frozen=True)
class PackedModel:
    """The bytes of the file, the tensors that were replaced in it, and new names by old ones where names changed."""

    data: bytes
    tensors: tuple[PackedTensor, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Stream:
    """Tensors that share one sequence of symbols, and the ways to code it; dense, they would have ``dense_bytes``."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    codes: tuple[Code, ...]
    dense_bytes: float

    def within(self, limit: LoadCost) -> _Stream:
        """The same with the codes that cost at most ``limit`` a weight at load."""
        return replace(self, codes=affordable(self.codes, limit.scaled(sum(map(math.prod, self.shapes)))))


def find_palettes(model: ir.Model, *, smallest: int = 64, besides: Collection[str] = ()) -> Mapping[str, Palette]:
    """Palettes of the floating-point initialisers of ``smallest`` elements or more (of vectors, also smaller ones) with
    at most 256 distinct values.

    Those named in ``besides`` are not looked at.

    This is the lossless seam between training and packing: a dense model exported from snapped weights needs no more.
    Whatever else a tensor is (a mask, a table): packed exactly, it only gets smaller. Infinities and NaN stay dense.
    """
    found: dict[str, Palette] = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if name in besides or tensor is None:
            continue
        if tensor.size < (smallest if len(tensor.shape) != 1 else min(smallest, _SMALLEST_VECTOR)):
            continue
        if tensor.dtype not in FLOAT_TYPES or value.is_graph_output():
            continue
        palette = _exact_palette(tensor.numpy())
        forget(value)
        if palette is not None:
            found[name] = palette
    return found


def _exact_palette(values: npt.NDArray[Any]) -> Palette | None:
    try:
        return palette_of(values)
    except ModelError:
        return None


def pack(
    model: ir.Model,
    palettes: Mapping[str, Palette],
    *,
    load_limit: LoadCost | None = None,
    weight_names: bool = True,
) -> PackedModel:
    """Replace initialisers by palettes and write the model; ``model`` itself is not changed. As `packed_model`.

    Without ``weight_names`` what were initialisers of ``model`` have the shortest names in the file.
    """
    packed, tensors = packed_model(model, palettes, {}, load_limit=load_limit)
    renamed = {} if weight_names else rewrite.shorten(packed, set(model.graph.initializers))
    return PackedModel(rewrite.write(packed), tensors, renamed)


def packed_model(
    model: ir.Model, palettes: Mapping[str, Palette], coded: Mapping[str, Code], *, load_limit: LoadCost | None = None
) -> tuple[ir.Model, tuple[PackedTensor, ...]]:
    """A copy of the model in which initialisers are replaced by palettes, or by codes made before.

    The codes of palettes are those with the smallest file, all in all; a tensor that no code makes smaller stays dense,
    with the values of its palette. Codes of palettes that would take more than their share of ``load_limit``, by
    number of weights, are not used (by default that of `default_limit`). Raises ArgumentError for a palette that fits
    no initialiser, ModelError for a model that was packed before.
    """
    refuse_compressed(model)
    for name, palette in palettes.items():
        _check_palette(model, name, palette)
    packed = model.clone()
    rewrite.strip(packed)
    for name, palette in palettes.items():
        value = packed.graph.initializers[name]
        value.const_value = ir.tensor(palette.expand(), name=name)
    opset = packed.opset_imports[""]
    taken = rewrite.value_names(packed)
    large = [_coded_stream(packed, name, code) for name, code in coded.items()]
    weights = sum(math.prod(palette.shape) for palette in palettes.values())
    share = (load_limit or default_limit(weights)).scaled(1 / max(1, weights))
    plans = _stream_plans(packed, palettes)
    chosen = _best_plan([[*(stream.within(share) for stream in streams), *large] for streams in plans], opset)
    emission = _emit(chosen, opset, taken)
    rewrite.insert(packed, emission, [name for stream, _ in chosen for name in stream.names])
    return packed, tuple(_describe(chosen))


def _coded_stream(model: ir.Model, name: str, code: Code) -> _Stream:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return _Stream((name,), (tuple(tensor.shape.numpy()),), (code,), math.inf)


def _check_palette(model: ir.Model, name: str, palette: Palette) -> None:
    value = model.graph.initializers.get(name)
    dtype = ir.DataType.from_numpy(palette.codebook.dtype)
    if value is None or value.const_value is None or value.const_value.dtype != dtype:
        raise ArgumentError(
            f"palette {name} must name a {palette.codebook.dtype} initialiser, got none: "
            "pass the model it was made from"
        )
    shape = tuple(value.const_value.shape.numpy())
    if shape != palette.shape:
        raise ArgumentError(
            f"palette {name} must have shape {shape}, got {palette.shape}: pass the model it was made from"
        )


_Plan = list[tuple[_Stream, Code]]


def _stream_plans(model: ir.Model, palettes: Mapping[str, Palette]) -> Iterator[list[_Stream]]:
    """Ways to part the tensors into streams: each alone; small ones with a larger one that the same node reads (a bias
    with its weight) if it has all their values; then the vectors still alone all together; all but large ones
    together."""
    groups = [(name,) for name in palettes]
    alone = {group: _stream(group, palettes) for group in groups}
    yield list(alone.values())
    joined = _join_companions(model, palettes)
    streams = alone | {group: _stream(group, palettes) for group in joined if group not in alone}
    if len(joined) < len(groups):
        yield [streams[group] for group in joined]
    lone = [group[0] for group in joined if len(group) == 1]
    vectors = [name for name in lone if _poolable(palettes[name]) and len(palettes[name].shape) == 1]
    vectors.sort(key=lambda name: name.rpartition(".")[2])  # biases by biases: those of a kind share more values
    if pools := _pools(vectors, palettes):
        pooled = {name for pool in pools for name in pool}
        yield [
            *(streams[group] for group in joined if group[0] not in pooled),
            *(_stream(pool, palettes) for pool in pools),
        ]
    every = [name for group in joined for name in group]
    middling = [name for name in every if palettes[name].dimension == 1 and palettes[name].indices.size <= _MIDDLING]
    if pools := _pools(middling, palettes):
        pooled = {name for pool in pools for name in pool}
        yield [
            *(alone[name,] for name in every if name not in pooled),
            *(_stream(pool, palettes) for pool in pools),
        ]


def _pools(names: Sequence[str], palettes: Mapping[str, Palette]) -> list[tuple[str, ...]]:
    """Tensors of one type, in order, as many together as have at most 256 values in all."""
    pools: list[tuple[list[str], npt.NDArray[np.unsignedinteger]]] = []
    for name in names:
        values = _bits(palettes[name])
        for index, (pool, known) in enumerate(pools):
            union = np.union1d(known, values)
            if palettes[pool[0]].codebook.dtype == palettes[name].codebook.dtype and len(union) <= MAX_CODEBOOK:
                pools[index] = ([*pool, name], union)
                break
        else:
            pools.append(([name], values))
    return [tuple(pool) for pool, _ in pools if len(pool) > 1]


def _join_companions(model: ir.Model, palettes: Mapping[str, Palette]) -> list[tuple[str, ...]]:
    """Groups in which every small tensor joins the first larger one of the same node that has all its values."""
    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in palettes}
    small = {name: palette for name, palette in palettes.items() if _poolable(palette)}
    for name, palette in sorted(small.items(), key=lambda item: item[1].indices.size):
        values = set(_bits(palette).tolist())
        for host in _companions(model, name):
            if host in groups and _holds(palettes[host], palette, values):
                groups[host] += groups.pop(name)
                break
    return list(groups.values())


def _companions(model: ir.Model, name: str) -> list[str]:
    """Names of the other values that are read by a node which reads the initialiser ``name``."""
    readers = [node for node, _ in model.graph.initializers[name].uses()]
    return [value.name for node in readers for value in node.inputs if value is not None and value.name]


def _poolable(palette: Palette) -> bool:
    return palette.dimension == 1 and palette.indices.size <= _SMALL


def _holds(host: Palette, palette: Palette, values: set[int]) -> bool:
    """Whether ``palette`` may join the stream of ``host``: smaller, of the same type, with no value of its own."""
    if host.indices.size <= palette.indices.size or host.dimension > 1:
        return False
    return host.codebook.dtype == palette.codebook.dtype and values <= set(_bits(host).tolist())


def _bits(palette: Palette) -> npt.NDArray[np.unsignedinteger]:
    return bit_patterns(palette.codebook[np.flatnonzero(palette.counts)])


def _stream(names: Sequence[str], palettes: Mapping[str, Palette]) -> _Stream:
    members = [palettes[name] for name in names]
    dtype = members[0].codebook.dtype
    symbols, codebook = [_shaped(members[0], members[0].indices)], members[0].codebook
    if len(members) > 1:
        union = np.unique(np.concatenate([_bits(member) for member in members]))
        of_union = [np.searchsorted(union, bit_patterns(member.codebook)).astype(np.uint8) for member in members]
        joined = [number[member.indices] for number, member in zip(of_union, members, strict=True)]
        symbols, codebook = [_shaped(*pair) for pair in zip(members, joined, strict=True)], union.view(dtype)
    return _Stream(
        tuple(names),
        tuple(member.shape for member in members),
        tensor_candidates(symbols, codebook),
        sum(dtype.itemsize * math.prod(member.shape) + 12 for member in members),
    )


def _shaped(palette: Palette, symbols: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Symbols in the shape of their tensor; those of vectors stay a list."""
    return symbols.reshape(palette.shape) if palette.dimension == 1 else symbols


def _best_plan(partitions: Sequence[Sequence[_Stream]], opset: int) -> _Plan:
    """The plan with the smallest file: of every partition the few that promise most are written out and measured."""
    costs = _Costs(opset)
    plans = [plan for streams in partitions for plan in _promising(streams, costs)]
    dense = {name: stream.dense_bytes for stream in partitions[0] for name in stream.names}

    def file_bytes(plan: _Plan) -> float:
        packed = {name for stream, _ in plan for name in stream.names}
        left = sum(size for name, size in dense.items() if name not in packed)
        return left + rewrite.emission_bytes(_emit(plan, opset))

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

    def of(self, stream: _Stream, code: Code) -> _Cost:
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


def _promising(streams: Sequence[_Stream], costs: _Costs) -> list[_Plan]:
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


def _record(plan: _Plan, opset: int, taken: Collection[str] = ()) -> tuple[OnnxOps, dict[str, Handle]]:
    ops = OnnxOps(opset, taken)
    outputs: dict[str, Handle] = {}
    for stream, code in plan:
        outputs.update(zip(stream.names, unpack(ops, code, stream.shapes), strict=True))
    return ops, outputs


def _emit(plan: _Plan, opset: int, taken: Collection[str] = ()) -> Emission:
    ops, outputs = _record(plan, opset, taken)
    return ops.finish(outputs)


def _describe(plan: _Plan) -> Iterator[PackedTensor]:
    for stream, code in plan:
        for name, shape in zip(stream.names, stream.shapes, strict=True):
            stored = (code.payload_bytes, code.table_bytes, load_cost(code))
            yield PackedTensor(name, shape, code.encoding, stream.names, *stored)
