"""Palettes into a model: every tensor as the code that makes the file smallest."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.codec.choose import candidates
from sws_compress.codec.code import Code
from sws_compress.codec.tensors import unpack
from sws_compress.errors import ArgumentError
from sws_compress.graph import rewrite
from sws_compress.graph.ops import Emission, Handle, OnnxOps
from sws_compress.graph.weights import finite_values, refuse_compressed
from sws_compress.mixture.snap import Palette, palette_of

_SMALL = 4096
"""Elements up to which a tensor may share the stream of another."""


@dataclass(frozen=True)
class PackedTensor:
    """What became of one tensor. ``members``: all tensors in its stream, itself included."""

    name: str
    shape: tuple[int, ...]
    encoding: str
    members: tuple[str, ...]
    payload_bytes: int


@dataclass(frozen=True)
class PackedModel:
    """The bytes of the file, and the tensors that were replaced in it."""

    data: bytes
    tensors: tuple[PackedTensor, ...]


@dataclass(frozen=True, eq=False)
class _Stream:
    """Tensors that share one sequence of symbols, and the ways to code it."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    codes: tuple[Code, ...]

    @property
    def dense_bytes(self) -> int:
        return sum(4 * int(np.prod(shape)) + 12 for shape in self.shapes)


def find_palettes(model: ir.Model, *, smallest: int = 64) -> Mapping[str, Palette]:
    """Palettes of the float32 initialisers of at least ``smallest`` elements that hold at most 256 distinct values.

    This is the lossless seam between training and packing: a dense model exported from snapped weights needs no more.
    """
    found: dict[str, Palette] = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < smallest or value.is_graph_output():
            continue
        palette = palette_of(finite_values(value))
        if palette is not None:
            found[name] = palette
    return found


def pack(model: ir.Model, palettes: Mapping[str, Palette]) -> PackedModel:
    """Replace initialisers by palettes and write the model; ``model`` itself is not changed.

    The codes are those with the smallest file, all in all; a tensor that no code makes smaller stays dense, with the
    values of its palette. Raises ArgumentError for a palette that fits no initialiser, ModelError for a model
    that was packed before.
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
    chosen = min(
        (_best_codes(streams, opset) for streams in _stream_plans(packed, palettes)),
        key=lambda plan: _file_bytes(plan, opset, palettes),
    )
    emission = _emit(chosen, opset, taken)
    rewrite.insert(packed, emission, [name for stream, _ in chosen for name in stream.names])
    return PackedModel(rewrite.write(packed), tuple(_describe(chosen)))


def _check_palette(model: ir.Model, name: str, palette: Palette) -> None:
    value = model.graph.initializers.get(name)
    if value is None or value.const_value is None or value.const_value.dtype != ir.DataType.FLOAT:
        raise ArgumentError(
            f"palette {name} must name a float32 initialiser, got none: pass the model it was made from"
        )
    shape = tuple(value.const_value.shape.numpy())
    if shape != palette.shape:
        raise ArgumentError(
            f"palette {name} must have shape {shape}, got {palette.shape}: pass the model it was made from"
        )


_Plan = list[tuple[_Stream, Code]]


def _stream_plans(model: ir.Model, palettes: Mapping[str, Palette]) -> Iterator[list[_Stream]]:
    """Ways to part the tensors into streams: each alone; small ones with a larger one that the same node reads (a bias
    with its weight) if it has all their values; and then the vectors still alone all together."""
    groups = [(name,) for name in palettes]
    alone = {group: _stream(group, palettes) for group in groups}
    yield list(alone.values())
    joined = _join_companions(model, palettes)
    streams = alone | {group: _stream(group, palettes) for group in joined if group not in alone}
    if len(joined) < len(groups):
        yield [streams[group] for group in joined]
    lone = tuple(group[0] for group in joined if len(group) == 1 and _poolable(palettes[group[0]]))
    vectors = tuple(name for name in lone if len(palettes[name].shape) == 1)
    if len(vectors) > 1 and len(_union([palettes[name] for name in vectors])) <= 256:
        yield [*(streams[group] for group in joined if group[0] not in vectors), _stream(vectors, palettes)]


def _join_companions(model: ir.Model, palettes: Mapping[str, Palette]) -> list[tuple[str, ...]]:
    """Groups in which every small tensor joins the first larger one of the same node that has all its values."""
    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in palettes}
    small = {name: palette for name, palette in palettes.items() if _poolable(palette)}
    for name, palette in sorted(small.items(), key=lambda item: item[1].indices.size):
        values = set(_bits(palette).tolist())
        for host in _companions(model, name):
            larger = host in groups and palettes[host].indices.size > palette.indices.size
            if larger and palettes[host].dimension == 1 and values <= set(_bits(palettes[host]).tolist()):
                groups[host] += groups.pop(name)
                break
    return list(groups.values())


def _companions(model: ir.Model, name: str) -> list[str]:
    """Names of the other values that are read by a node which reads the initialiser ``name``."""
    readers = [node for node, _ in model.graph.initializers[name].uses()]
    return [value.name for node in readers for value in node.inputs if value is not None and value.name]


def _poolable(palette: Palette) -> bool:
    return palette.dimension == 1 and palette.indices.size <= _SMALL


def _bits(palette: Palette) -> npt.NDArray[np.uint32]:
    return palette.codebook[np.unique(palette.indices)].view(np.uint32)


def _union(palettes: Sequence[Palette]) -> npt.NDArray[np.uint32]:
    return np.unique(np.concatenate([_bits(palette) for palette in palettes]))


def _stream(names: Sequence[str], palettes: Mapping[str, Palette]) -> _Stream:
    members = [palettes[name] for name in names]
    shapes = tuple(palette.shape for palette in members)
    if len(members) == 1:
        return _Stream(tuple(names), shapes, candidates(members[0].indices, members[0].codebook))
    union = _union(members)
    symbols = [np.searchsorted(union, member.codebook.view(np.uint32))[member.indices] for member in members]
    return _Stream(tuple(names), shapes, candidates(np.concatenate(symbols).astype(np.uint8), union.view(np.float32)))


def _best_codes(streams: Sequence[_Stream], opset: int) -> _Plan:
    """One code a stream: for every set of encodings the cheapest each, then the set with the smallest file."""
    own = {stream: [(_own_bytes(stream, code, opset), code) for code in stream.codes] for stream in streams}
    encodings = sorted({code.encoding for stream in streams for code in stream.codes})
    plans: list[tuple[int, _Plan]] = []
    for allowed in itertools.chain.from_iterable(
        itertools.combinations(encodings, count) for count in range(len(encodings) + 1)
    ):
        plan: _Plan = []
        dense = 0
        for stream, costs in own.items():
            choices = [(cost, code) for cost, code in costs if code.encoding in allowed]
            cost, code = min(choices, key=lambda choice: choice[0], default=(stream.dense_bytes, None))
            if code is None or cost >= stream.dense_bytes:
                dense += stream.dense_bytes
            else:
                plan.append((stream, code))
        plans.append((dense + rewrite.emission_bytes(_emit(plan, opset)), plan))
    return min(plans, key=lambda plan: plan[0])[1]


def _own_bytes(stream: _Stream, code: Code, opset: int) -> int:
    """Bytes of a stream beside what it shares with others of its encoding."""
    emission = _emit([(stream, code)], opset, settle=False)
    return rewrite.emission_bytes(replace(emission, functions=()))


def _file_bytes(plan: _Plan, opset: int, palettes: Mapping[str, Palette]) -> int:
    """Bytes of the decode nodes and of the tensors that stay dense."""
    packed = {name for stream, _ in plan for name in stream.names}
    dense = sum(
        4 * palette.indices.size * palette.dimension for name, palette in palettes.items() if name not in packed
    )
    return dense + rewrite.emission_bytes(_emit(plan, opset))


def _emit(plan: _Plan, opset: int, taken: Collection[str] = (), *, settle: bool = True) -> Emission:
    ops = OnnxOps(opset, taken)
    outputs: dict[str, Handle] = {}
    for stream, code in plan:
        outputs.update(zip(stream.names, unpack(ops, code, stream.shapes), strict=True))
    return ops.finish(outputs, settle=settle)


def _describe(plan: _Plan) -> Iterator[PackedTensor]:
    for stream, code in plan:
        for name, shape in zip(stream.names, stream.shapes, strict=True):
            yield PackedTensor(name, shape, code.encoding, stream.names, code.payload_bytes)
