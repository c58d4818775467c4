"""Streams: tensors that share one sequence of symbols.

One code for several tensors needs one decoder, one codebook and one set of tables, which is most of what a small tensor
costs. Which tensors gain from it depends on their values, so several partitions are proposed and `search` compares the
files that they lead to.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.program import Code
from sws_compress.codec.transforms.unpack import tensor_candidates
from sws_compress.quantize.palette import Palette, bit_patterns, index_type
from sws_compress.terminal.progress_bar import OnProgress, silent
from sws_compress.thresholds import MAX_CODEBOOK

MAX_COMPANION_ELEMENTS = 4096
"""Larger tensors do not join the stream of the weight they stand beside: alone, their own tables pay."""


MAX_POOLED_ELEMENTS = 1 << 19
"""Larger tensors do not share one stream with all others: decoding it takes memory for all of them at once."""


HEADER_BYTES = 12
"""What a dense initialiser takes in the file beside its values and its name, about."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Tensors that share one sequence of symbols, and the codes it may get.

    Parameters
    ----------
    names : tuple of str
        The tensors, in the order in which their symbols follow each other.
    shapes : tuple of tuple of int
        The shape of each of them.
    codes : tuple of Code
        Every way to code the sequence.
    dense_bytes : float
        What the tensors would take in the file as they are; inf if they must not stay dense.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    codes: tuple[Code, ...]
    dense_bytes: float


def stream_partitions(
    model: ir.Model,
    palettes: Mapping[str, Palette],
    limit_per_weight: LoadCost,
    on_progress: OnProgress = silent,
    *,
    never_dense: Collection[str] = (),
) -> list[list[Stream]]:
    """Ways to divide the tensors of a model among streams.

    In this order, leaving out what divides nothing anew:

    1. every tensor alone;
    2. small tensors with a larger one that the same node reads (a bias with its weight), if it has all their values;
    3. the same, and the vectors that are still alone in streams of their own;
    4. all tensors of up to `MAX_POOLED_ELEMENTS` together;
    5. the same, but the vectors of 3 apart from the others.

    Streams hold tensors of one type with at most 256 values in all, so "together" may mean several streams.

    Parameters
    ----------
    model : ir.Model
        The graph, which says which nodes read a tensor.
    palettes : mapping of str to Palette
        The tensors by the names of their initialisers.
    limit_per_weight : LoadCost
        What loading one weight may cost on average. Codes that take long to make are left out where others load within
        that; a stream keeps codes that cost more.
    on_progress : callable
        Called as ``on_progress(description, done, total)`` before every stream.
    never_dense : collection of str
        Tensors that get a code, even where it is no smaller.

    Returns
    -------
    list of list of Stream
        The partitions: every tensor is in exactly one stream of each. A stream that several hold is one object.
    """
    partitions = list(_groupings(model, palettes))
    groups = dict.fromkeys(group for partition in partitions for group in partition)
    sizes = {group: sum(palettes[name].indices.size for name in group) for group in groups}
    total, done, known = sum(sizes.values()), 0, {}
    for group, size in sizes.items():
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        on_progress(f"packing {group[0]}{more}", done, total)
        stream = _stream(group, palettes, limit_per_weight)
        known[group] = stream if set(never_dense).isdisjoint(group) else replace(stream, dense_bytes=math.inf)
        done += size
    return [[known[group] for group in partition] for partition in partitions]


def _groupings(model: ir.Model, palettes: Mapping[str, Palette]) -> Iterator[list[tuple[str, ...]]]:
    """The partitions as names."""
    alone: list[tuple[str, ...]] = [(name,) for name in palettes]
    yield alone
    accompanied = _join_companions(model, palettes)
    if len(accompanied) < len(alone):
        yield accompanied
    vectors = [group[0] for group in accompanied if len(group) == 1 and _is_small_vector(palettes[group[0]])]
    vectors.sort(key=lambda name: name.rpartition(".")[2])  # biases beside biases: those of a kind share more values
    pooled = [name for group in accompanied for name in group if _may_be_pooled(palettes[name])]
    others = [name for name in pooled if name not in vectors]
    for rest, pools in (
        (accompanied, _pools(vectors, palettes)),
        (alone, _pools(pooled, palettes)),
        (alone, [*_pools(others, palettes), *_pools(vectors, palettes)]),
    ):
        if pools:
            taken = {name for pool in pools for name in pool}
            yield [*(group for group in rest if taken.isdisjoint(group)), *pools]


def _pools(names: Sequence[str], palettes: Mapping[str, Palette]) -> list[tuple[str, ...]]:
    """Groups of two tensors or more: each tensor joins the first of its type that then holds at most 256 values."""
    pools: list[tuple[list[str], npt.NDArray[np.unsignedinteger]]] = []
    for name in names:
        values = _used_values(palettes[name])
        for index, (pool, known) in enumerate(pools):
            union = np.union1d(known, values)
            if palettes[pool[0]].codebook.dtype == palettes[name].codebook.dtype and len(union) <= MAX_CODEBOOK:
                pools[index] = ([*pool, name], union)
                break
        else:
            pools.append(([name], values))
    return [tuple(pool) for pool, _ in pools if len(pool) > 1]


def _join_companions(model: ir.Model, palettes: Mapping[str, Palette]) -> list[tuple[str, ...]]:
    """Groups in which every small tensor follows the first larger one of the same node that has all its values."""
    groups: dict[str, tuple[str, ...]] = {name: (name,) for name in palettes}
    small = {name: palette for name, palette in palettes.items() if _is_small(palette)}
    for name, palette in sorted(small.items(), key=lambda item: item[1].indices.size):
        values = set(_used_values(palette).tolist())
        for host in _companions(model, name):
            if host in groups and _has_all_values(palettes[host], palette, values):
                groups[host] += groups.pop(name)
                break
    return list(groups.values())


def _companions(model: ir.Model, name: str) -> list[str]:
    """Names of all values that are read by a node which reads the initialiser ``name``."""
    readers = [node for node, _ in model.graph.initializers[name].uses()]
    return [value.name for node in readers for value in node.inputs if value is not None and value.name]


def _shares_streams(palette: Palette) -> bool:
    """Whether the symbols may follow those of other tensors: they stand for single weights, without scales."""
    return palette.dimension == 1 and palette.scales is None


def _is_small(palette: Palette) -> bool:
    return _shares_streams(palette) and palette.indices.size <= MAX_COMPANION_ELEMENTS


def _is_small_vector(palette: Palette) -> bool:
    return _is_small(palette) and sum(length > 1 for length in palette.shape) == 1


def _may_be_pooled(palette: Palette) -> bool:
    return _shares_streams(palette) and palette.indices.size <= MAX_POOLED_ELEMENTS


def _has_all_values(host: Palette, palette: Palette, values: set[int]) -> bool:
    """Whether ``host`` is larger, of the same type, and has all ``values`` of ``palette``."""
    if host.indices.size <= palette.indices.size or not _shares_streams(host):
        return False
    return host.codebook.dtype == palette.codebook.dtype and values <= set(_used_values(host).tolist())


def _used_values(palette: Palette) -> npt.NDArray[np.unsignedinteger]:
    """Bit patterns of the codebook entries that occur."""
    return bit_patterns(palette.codebook[np.flatnonzero(palette.counts)])


def _stream(names: Sequence[str], palettes: Mapping[str, Palette], limit_per_weight: LoadCost) -> Stream:
    members = [palettes[name] for name in names]
    shapes = tuple(member.shape for member in members)
    limit = limit_per_weight.scaled(sum(map(math.prod, shapes)))
    symbols, codebook = _joined(members)
    scales = members[0].scales
    factors = None if scales is None else scales.broadcast(shapes[0])
    codes = tensor_candidates(symbols, codebook, limit, factors=factors)
    element_bytes = ir.DataType.from_numpy(codebook.dtype).itemsize  # half a byte for int4, where NumPy has a whole one
    dense_bytes = sum(math.ceil(element_bytes * math.prod(shape)) + HEADER_BYTES for shape in shapes)
    return Stream(tuple(names), shapes, codes, dense_bytes)


def _joined(members: Sequence[Palette]) -> tuple[list[npt.NDArray[np.unsignedinteger]], npt.NDArray[np.floating]]:
    """The symbols of every member, as indices into one codebook, and that codebook."""
    if len(members) == 1:
        return [_shaped(members[0], members[0].indices)], members[0].codebook
    union = np.unique(np.concatenate([_used_values(member) for member in members]))
    symbols = []
    for member in members:
        index_in_union = np.searchsorted(union, bit_patterns(member.codebook)).astype(index_type(union.size))
        symbols.append(_shaped(member, index_in_union[member.indices]))
    return symbols, union.view(members[0].codebook.dtype)


def _shaped(palette: Palette, symbols: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.unsignedinteger]:
    """Symbols in the shape of their tensor; those that stand for several weights stay a list."""
    return symbols.reshape(palette.shape) if palette.dimension == 1 else symbols
