"""Palettes into a model: every tensor as the code that makes the file smallest."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from sws_compress.codec.encodings.rows import RowCode, encode_rows
from sws_compress.codec.load_cost import LoadCost, default_limit, load_cost
from sws_compress.codec.program import Code
from sws_compress.errors import ArgumentError, ModelError
from sws_compress.onnx_io.analyse.embeddings import Embedding, find_embeddings
from sws_compress.onnx_io.float_types import FLOAT_TYPES
from sws_compress.onnx_io.format.mark import refuse_compressed
from sws_compress.onnx_io.mapped import forget
from sws_compress.onnx_io.write import rewrite
from sws_compress.packing.search import Plan, best_plan, emit
from sws_compress.packing.streams import Stream, stream_plans
from sws_compress.quantize.palette import Palette, palette_of
from sws_compress.thresholds import SMALLEST_EXACT_TENSOR, SMALLEST_EXACT_VECTOR, SMALLEST_PACKED_TABLE


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
    """The bytes of the file, the tensors that were replaced in it, new names by old ones where names changed, and what
    else its user should know, a line each.
    """

    data: bytes
    tensors: tuple[PackedTensor, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_palettes(
    model: ir.Model, *, smallest: int = SMALLEST_EXACT_TENSOR, besides: Collection[str] = ()
) -> Mapping[str, Palette]:
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
        if tensor.size < (smallest if len(tensor.shape) != 1 else min(smallest, SMALLEST_EXACT_VECTOR)):
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
    packed_rows: bool = False,
) -> PackedModel:
    """Replace initialisers by palettes and write the model; ``model`` itself is not changed. As `packed_model`.

    Without ``weight_names`` what were initialisers of ``model`` have the shortest names in the file. With
    ``packed_rows`` embeddings stay packed, and a note tells of every one that cannot.
    """
    coded: dict[str, Code | RowCode] = {}
    notes: tuple[str, ...] = ()
    if packed_rows:
        embeddings = find_embeddings(model)
        for embedding in embeddings:
            if embedding.name in palettes and (code := row_code(embedding, palettes[embedding.name])) is not None:
                coded[embedding.name] = code
        notes = tuple(embedding_notes(embeddings, coded))
    others = {name: palette for name, palette in palettes.items() if name not in coded}
    packed, tensors = packed_model(model, others, coded, load_limit=load_limit)
    renamed = {} if weight_names else rewrite.shorten(packed, set(model.graph.initializers))
    return PackedModel(rewrite.write(packed), tensors, renamed, notes)


def row_code(embedding: Embedding, palette: Palette) -> RowCode | None:
    """The embedding as rows that stay packed; None where they cannot, with scales, or where one value needs no rows."""
    if embedding.hindrance is not None or palette.scales is not None:
        return None
    return encode_rows(palette.indices, palette.codebook, palette.shape)


def embedding_notes(embeddings: Sequence[Embedding], coded: Collection[str]) -> Iterator[str]:
    """What is told to somebody who asked for embeddings that stay packed."""
    if not embeddings:
        yield f"no embedding stays packed: Gather reads no table of {SMALLEST_PACKED_TABLE:,} elements or more"
    for embedding in embeddings:
        if embedding.hindrance is not None:
            yield f"{embedding.name} does not stay packed: it {embedding.hindrance}, which needs it decoded as a whole"
        elif embedding.name not in coded:
            yield f"{embedding.name} does not stay packed: it has scales, one value, or more than 256"


def packed_model(
    model: ir.Model,
    palettes: Mapping[str, Palette],
    coded: Mapping[str, Code | RowCode],
    *,
    load_limit: LoadCost | None = None,
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
    rows = {name: code for name, code in coded.items() if isinstance(code, RowCode)}
    large = [_coded_stream(packed, name, code) for name, code in coded.items() if not isinstance(code, RowCode)]
    tables = [_describe_rows(packed, name, code) for name, code in rows.items()]
    weights = sum(math.prod(palette.shape) for palette in palettes.values())
    share = (load_limit or default_limit(weights)).scaled(1 / max(1, weights))
    plans = stream_plans(packed, palettes, share)
    chosen = best_plan([[*streams, *large] for streams in plans], opset)
    emission = emit(chosen, opset, taken, rows)
    rewrite.insert(packed, emission, [name for stream, _ in chosen for name in stream.names])
    return packed, (*_describe(chosen), *tables)


def _coded_stream(model: ir.Model, name: str, code: Code) -> Stream:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return Stream((name,), (tuple(tensor.shape.numpy()),), (code,), math.inf)


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


def _describe(plan: Plan) -> Iterator[PackedTensor]:
    for stream, code in plan:
        for name, shape in zip(stream.names, stream.shapes, strict=True):
            stored = (code.payload_bytes, code.table_bytes, load_cost(code))
            encoding = code.encoding + ("" if code.scales is None else "+scales")
            yield PackedTensor(name, shape, encoding, stream.names, *stored)


def _describe_rows(model: ir.Model, name: str, code: RowCode) -> PackedTensor:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    shape, load = tuple(tensor.shape.numpy()), LoadCost(0.0, code.payload_bytes)
    return PackedTensor(name, shape, code.program.encoding, (name,), code.payload_bytes, code.table_bytes, load)
