"""Ways to part the tensors of a model into streams of symbols."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.codec.load_cost import LoadCost, affordable
from sws_compress.codec.program import Code
from sws_compress.codec.transforms.unpack import scaled_candidates, tensor_candidates
from sws_compress.quantize.palette import MAX_CODEBOOK, Palette, bit_patterns

_SMALL = 4096
"""Elements up to which a tensor may share the stream of another."""


_MIDDLING = 1 << 19
"""Elements up to which a tensor may share one stream with all others."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Tensors that share one sequence of symbols, and the ways to code it; dense, they would have ``dense_bytes``."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    codes: tuple[Code, ...]
    dense_bytes: float


def stream_plans(model: ir.Model, palettes: Mapping[str, Palette], limit: LoadCost) -> Iterator[list[Stream]]:
    """Ways to part the tensors into streams, with the codes that cost at most ``limit`` a weight at load.

    Each alone; small ones with a larger one that the same node reads (a bias with its weight) if it has all their
    values; then the vectors still alone all together; all but large ones together; the same, the vectors still alone
    apart from the others.
    """
    known: dict[tuple[str, ...], Stream] = {}

    def streams(groups: Sequence[tuple[str, ...]]) -> list[Stream]:
        for group in groups:
            if group not in known:
                known[group] = _stream(group, palettes, limit)
        return [known[group] for group in groups]

    alone = [(name,) for name in palettes]
    yield streams(alone)
    joined = _join_companions(model, palettes)
    if len(joined) < len(alone):
        yield streams(joined)
    vectors = [group[0] for group in joined if len(group) == 1 and _is_vector(palettes[group[0]])]
    vectors.sort(key=lambda name: name.rpartition(".")[2])  # biases by biases: those of a kind share more values
    every = [name for group in joined for name in group]
    middling = [name for name in every if _shares(palettes[name]) and palettes[name].indices.size <= _MIDDLING]
    others = [name for name in middling if name not in vectors]
    for left, kinds in ((joined, [vectors]), (alone, [middling]), (alone, [others, vectors])):
        if pools := [pool for kind in kinds for pool in _pools(kind, palettes)]:
            pooled = {name for pool in pools for name in pool}
            yield streams([*(group for group in left if pooled.isdisjoint(group)), *pools])


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
    return _shares(palette) and palette.indices.size <= _SMALL


def _is_vector(palette: Palette) -> bool:
    return _poolable(palette) and len(palette.shape) == 1


def _shares(palette: Palette) -> bool:
    """Whether the symbols may lie in one stream with others: scalars that are not scaled."""
    return palette.dimension == 1 and palette.scales is None


def _holds(host: Palette, palette: Palette, values: set[int]) -> bool:
    """Whether ``palette`` may join the stream of ``host``: smaller, of the same type, with no value of its own."""
    if host.indices.size <= palette.indices.size or not _shares(host):
        return False
    return host.codebook.dtype == palette.codebook.dtype and values <= set(_bits(host).tolist())


def _bits(palette: Palette) -> npt.NDArray[np.unsignedinteger]:
    return bit_patterns(palette.codebook[np.flatnonzero(palette.counts)])


def _stream(names: Sequence[str], palettes: Mapping[str, Palette], limit: LoadCost) -> Stream:
    """``limit``: for a weight."""
    members = [palettes[name] for name in names]
    dtype = members[0].codebook.dtype
    scales = members[0].scales
    symbols, codebook = [_shaped(members[0], members[0].indices)], members[0].codebook
    if len(members) > 1:
        union = np.unique(np.concatenate([_bits(member) for member in members]))
        of_union = [np.searchsorted(union, bit_patterns(member.codebook)).astype(np.uint8) for member in members]
        joined = [number[member.indices] for number, member in zip(of_union, members, strict=True)]
        symbols, codebook = [_shaped(*pair) for pair in zip(members, joined, strict=True)], union.view(dtype)
    shapes = tuple(member.shape for member in members)
    limit = limit.scaled(sum(map(math.prod, shapes)))
    if scales is None:
        codes = tensor_candidates(symbols, codebook, limit)
    else:
        codes = scaled_candidates(symbols[0], codebook, scales.broadcast(shapes[0]), limit)
    return Stream(
        tuple(names),
        shapes,
        affordable(codes, limit),
        sum(dtype.itemsize * math.prod(member.shape) + 12 for member in members),
    )


def _shaped(palette: Palette, symbols: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Symbols in the shape of their tensor; those of vectors stay a list."""
    return symbols.reshape(palette.shape) if palette.dimension == 1 else symbols
