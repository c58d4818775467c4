"""Palettes into a model: every tensor gets the code with which the file is smallest."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.codec.encodings.rows import RowCode, encode_rows
from sws_compress.codec.load_cost import LoadCost, default_limit
from sws_compress.codec.program import Code
from sws_compress.errors import ArgumentError, ModelError
from sws_compress.onnx_io.analyse.embeddings import Embedding, find_embeddings
from sws_compress.onnx_io.element_types import FLOAT_TYPES, INTEGER_TYPES
from sws_compress.onnx_io.external_data import forget
from sws_compress.onnx_io.format.mark import refuse_compressed
from sws_compress.onnx_io.write.insert import insert
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.onnx_io.write.strip import constant_names, shorten, strip, value_names
from sws_compress.packing.integers import FLOATS_IN_MEMORY, Memory, in_integers
from sws_compress.packing.search import Selection, emit, smallest_selection
from sws_compress.packing.streams import Stream, stream_partitions
from sws_compress.quantize.integer_palette import IntegerPalette
from sws_compress.quantize.palette import Palette, palette_of
from sws_compress.quantize.sinusoids import sinusoid_palette
from sws_compress.terminal.progress_bar import OnProgress, part_of_progress, silent
from sws_compress.thresholds import SMALLEST_EXACT_TENSOR, SMALLEST_EXACT_VECTOR, SMALLEST_PACKED_TABLE

BYTE_TYPES = (np.dtype(np.int8), np.dtype(np.uint8))
"""Types of weights that are integers in memory."""


@dataclass(frozen=True)
class PackedTensor:
    """One tensor that was replaced by a decoder.

    Parameters
    ----------
    name : str
        The initialiser that it was.
    shape : tuple of int
        Its shape.
    encoding : str
        Name of the encoding; "+scales" is added where a product with scales follows the decoder.
    members : tuple of str
        All tensors in the same stream, this one included.
    payload_bytes : int
        Bytes of the stream's symbols.
    table_bytes : int
        Bytes of the stream's codebook and tables.
    load : LoadCost, optional
        Estimated cost of decoding the stream when the model is loaded; None where there is no estimate.
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
    """A compressed model.

    Parameters
    ----------
    data : bytes
        The ONNX file.
    tensors : tuple of PackedTensor
        The initialisers that were replaced by decoders. All others are in the file as they were.
    renamed : mapping of str to str
        New names of initialisers by their old ones, where names changed.
    palettes : mapping of str to Palette
        What the initialisers decode to, by their old names.
    integers : mapping of str to IntegerPalette
        The weights that stay in integers.
    notes : tuple of str
        What the user should know besides, one line each.
    """

    data: bytes
    tensors: tuple[PackedTensor, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    palettes: Mapping[str, Palette] = field(default_factory=dict)
    integers: Mapping[str, IntegerPalette] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_palettes(
    model: ir.Model, *, smallest: int = SMALLEST_EXACT_TENSOR, besides: Collection[str] = ()
) -> Mapping[str, Palette]:
    """Palettes of the initialisers that hold at most 256 distinct values already, and of tables of sinusoids.

    This is the lossless seam between training and packing. A dense model exported from snapped weights needs nothing
    else, and neither does a model that another tool has clustered. It does not matter what a tensor is for (a mask, a
    table of positions): packed exactly, it only gets smaller. Tables of sinusoids, such as the bases of Fourier
    transforms, are packed to the rounding of their type (`sinusoid_palette`).

    Parameters
    ----------
    model : ir.Model
        A plain model; weights may lie in external files.
    smallest : int
        Elements that a tensor must have. Vectors of floats may be smaller, down to `SMALLEST_EXACT_VECTOR`, because
        they share streams.
    besides : collection of str
        Names of initialisers that are not looked at.

    Returns
    -------
    mapping of str to Palette
        Palettes by the names of the initialisers, floating-point ones and integers. Tensors with an infinite value or a
        NaN and those that are outputs of the model are left out.
    """
    found: dict[str, Palette] = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if name in besides or tensor is None or value.is_graph_output():
            continue
        if tensor.size < _smallest(tensor, smallest) or tensor.dtype not in FLOAT_TYPES + INTEGER_TYPES:
            continue
        palette = _exact_palette(tensor.numpy())
        forget(value)
        if palette is not None:
            found[name] = palette
    return found


def _smallest(tensor: ir.TensorProtocol, smallest: int) -> int:
    """Elements that a tensor must have: vectors of integers are shapes, axes and zero points, which graphs read."""
    vector = sum(length > 1 for length in tensor.shape.numpy()) == 1 and tensor.dtype in FLOAT_TYPES
    return min(smallest, SMALLEST_EXACT_VECTOR) if vector else smallest


def _exact_palette(values: npt.NDArray[Any]) -> Palette | None:
    try:
        return palette_of(values) or sinusoid_palette(values)
    except ModelError:
        return None


def pack(
    model: ir.Model,
    palettes: Mapping[str, Palette],
    *,
    load_limit: LoadCost | None = None,
    weight_names: bool = True,
    packed_rows: bool = False,
    memory: Memory = FLOATS_IN_MEMORY,
    on_progress: OnProgress = silent,
) -> PackedModel:
    """Replace initialisers by decoders of their palettes, and write the file.

    Parameters
    ----------
    model : ir.Model
        A plain model; it is not changed.
    palettes : mapping of str to Palette
        The values that initialisers are to have, by their names.
    load_limit : LoadCost, optional
        What loading the whole model may cost; by default `default_limit` of the number of weights.
    weight_names : bool
        Whether weights keep their names in the file. Otherwise they get the shortest ones, like dense constants that
        nobody calls weights: integers of a list, and single numbers.
    packed_rows : bool
        Whether embeddings stay packed while the model runs. A note names those that cannot.
    memory : Memory
        Whether weights stay in integers while the model runs.
    on_progress : callable
        Called as ``on_progress(description, done, total)``.

    Returns
    -------
    PackedModel
        The bytes of the file, and what became of every tensor.

    Raises
    ------
    ArgumentError
        If a palette does not fit the initialiser of its name.
    ModelError
        If the model was compressed before.
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
    held = in_integers(model, others, memory)
    packed, tensors = packed_model(
        held.model,
        held.palettes,
        coded,
        load_limit=load_limit,
        never_dense=held.products,
        on_progress=on_progress,
    )
    named = constant_names(held.model).difference(tensor.name for tensor in tensors)
    renamed = shorten(packed, named if weight_names else set(held.model.graph.initializers))
    decoded = {**palettes, **held.palettes}
    return PackedModel(to_bytes(packed), tensors, renamed, decoded, held.kept, (*notes, *held.notes))


def row_code(embedding: Embedding, palette: Palette) -> RowCode | None:
    """The code of an embedding whose rows stay packed until they are looked up.

    Parameters
    ----------
    embedding : Embedding
        The table, and whether anything but a look-up reads it.
    palette : Palette
        Its values.

    Returns
    -------
    RowCode or None
        None if the table must be decoded as a whole, has scales, or holds a single value.
    """
    if embedding.hindrance is not None or palette.scales is not None:
        return None
    return encode_rows(palette.indices, palette.codebook, palette.shape)


def embedding_notes(embeddings: Sequence[Embedding], coded: Collection[str]) -> Iterator[str]:
    """Why embeddings do not stay packed, for a user who asked for it.

    Parameters
    ----------
    embeddings : sequence of Embedding
        All embeddings of the model.
    coded : collection of str
        Names of those that stay packed.

    Yields
    ------
    str
        One line for each of the others, or one that says that there are none at all.
    """
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
    never_dense: Collection[str] = (),
    on_progress: OnProgress = silent,
) -> tuple[ir.Model, tuple[PackedTensor, ...]]:
    """A copy of a model in which decoders replace initialisers.

    The codes of palettes are those with which the whole file is smallest. A tensor that no code makes smaller stays
    dense, with the values of its palette.

    Parameters
    ----------
    model : ir.Model
        A plain model; it is not changed.
    palettes : mapping of str to Palette
        The values that initialisers are to have, by their names.
    coded : mapping of str to Code or RowCode
        Initialisers that have their codes already, by their names; none of them has a palette.
    load_limit : LoadCost, optional
        What loading all palettes may cost; by default `default_limit` of the number of their weights.
    never_dense : collection of str
        Tensors that get a code, even where it is no smaller.
    on_progress : callable
        Called as ``on_progress(description, done, total)``.

    Returns
    -------
    packed : ir.Model
        The copy, without anything a runtime does not need.
    tensors : tuple of PackedTensor
        The tensors that were replaced.

    Raises
    ------
    ArgumentError
        If a palette does not fit the initialiser of its name.
    ModelError
        If the model was compressed before.
    """
    refuse_compressed(model)
    for name, palette in palettes.items():
        _check_palette(model, name, palette)
    packed = model.clone()
    strip(packed)
    for name, palette in palettes.items():
        value = packed.graph.initializers[name]
        value.const_value = ir.tensor(palette.expand(), name=name)
    opset = packed.opset_imports[""]
    taken = value_names(packed)
    rows = {name: code for name, code in coded.items() if isinstance(code, RowCode)}
    fixed = [_coded_stream(packed, name, code) for name, code in coded.items() if not isinstance(code, RowCode)]
    tables = [_describe_rows(packed, name, code) for name, code in rows.items()]
    integers = sum(math.prod(each.shape) for each in palettes.values() if each.codebook.dtype in BYTE_TYPES)
    weights = sum(math.prod(palette.shape) for palette in palettes.values())
    limit = load_limit or default_limit(weights - integers, integers)
    coding, choosing = (part_of_progress(on_progress, *part) for part in ((0, 0.5), (0.5, 1)))
    streams = stream_partitions(packed, palettes, limit.scaled(1 / max(1, weights)), coding, never_dense=never_dense)
    whole = sum((code.load_cost for stream in fixed for code in stream.codes), limit)
    partitions = [[*partition, *fixed] for partition in streams]
    selection = smallest_selection(partitions, opset, limit=whole, on_progress=choosing)
    emission = emit(selection, opset, taken, rows)
    insert(packed, emission, [name for stream, _ in selection for name in stream.names])
    return packed, (*_describe(selection), *tables)


def _coded_stream(model: ir.Model, name: str, code: Code) -> Stream:
    """A stream with one code; it must not stay dense."""
    return Stream((name,), (_shape(model, name),), (code,), math.inf)


def _shape(model: ir.Model, name: str) -> tuple[int, ...]:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tuple(tensor.shape.numpy())


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


def _describe(selection: Selection) -> Iterator[PackedTensor]:
    for stream, code in selection:
        for name, shape in zip(stream.names, stream.shapes, strict=True):
            stored = (code.payload_bytes, code.table_bytes, code.load_cost)
            yield PackedTensor(name, shape, code.label, stream.names, *stored)


def _describe_rows(model: ir.Model, name: str, code: RowCode) -> PackedTensor:
    stored = (code.payload_bytes, code.table_bytes, code.load_cost)
    return PackedTensor(name, _shape(model, name), code.encoding, (name,), *stored)
