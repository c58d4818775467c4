"""Models too large to hold in memory: weights are packed, written and checked one after the other.

A weight of `Limits.alone_elements` or more becomes a radix code as soon as it is clustered, and goes to a file beside
the output. Whatever is smaller is packed as in any other model. The result is checked as far as memory allows: by the
ONNX checker, by loading it in ONNX Runtime (which decodes nothing then), and by decoding every weight from the bytes
that were written, alone, in ONNX Runtime. What is left out is running the whole network.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from sws_compress.codec.encodings.rows import RowCode
from sws_compress.codec.program import Code
from sws_compress.codec.transforms.unpack import radix_tensor
from sws_compress.errors import VerificationError
from sws_compress.files import Draft, draft
from sws_compress.onnx_io.analyse.embeddings import Embedding
from sws_compress.onnx_io.external_data import is_external, offset_and_length
from sws_compress.onnx_io.format.byte_shares import decoder_bytes
from sws_compress.onnx_io.format.mark import ROWS
from sws_compress.onnx_io.read.on_disk import bytes_on_disk, external_files
from sws_compress.onnx_io.write.external import (
    LARGEST_FILE_BYTES,
    DataFile,
    inline_bytes,
    moved_to,
    with_external_data,
    write_inline,
)
from sws_compress.ort.decode import decoded_apart
from sws_compress.ort.session import check_loads
from sws_compress.packing.pack import PackedTensor, embedding_notes, find_palettes, packed_model, row_code
from sws_compress.pipelines.publish import Shipped, refuse_no_gain
from sws_compress.quantize.palette import Palette
from sws_compress.report.inspection import TensorRow

Array = npt.NDArray[Any]


FOLDED_BYTES = 1 << 30
"""What a node may make at most for ONNX Runtime (since 1.27) to compute it once, at load."""


_PIECE = 1 << 21


@dataclass(frozen=True)
class _Snapped:
    """What is remembered of a palette: enough to recognise its tensor, and to report it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    digest: bytes
    distinct_values: int
    zeros: float
    entropy_bits: float
    """Of a weight."""

    @classmethod
    def of(cls, palette: Palette) -> _Snapped:
        digest = _digest(lambda part: palette.part(part.start, part.stop), math.prod(palette.shape))
        distinct = int(np.count_nonzero(palette.counts))
        dtype = palette.codebook.dtype
        return cls(palette.shape, dtype, digest, distinct, palette.zeros, palette.entropy_bits / palette.dimension)

    def is_of(self, values: Array) -> bool:
        if (values.shape, values.dtype) != (self.shape, self.dtype):
            return False
        flat = values.reshape(-1)
        return _digest(lambda part: flat[part], flat.size) == self.digest


def _digest(piece: Callable[[slice], Array], count: int) -> bytes:
    """Of ``count`` values by their bits, made or read piece by piece on all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = (slice(start, min(start + _PIECE, count)) for start in range(0, count, _PIECE))
        digests = pool.map(lambda part: hashlib.sha256(np.ascontiguousarray(piece(part)).data).digest(), parts)
        return b"".join(digests)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What counts as large.

    model_bytes         of floating-point tensors, above which a model is streamed: up to there all encodings of all
                        weights, the runtime's sessions and the copies between them fit in some 4 GB
    alone_elements      from which a weight is coded alone, at once: choosing among encodings would take minutes, and
                        gigabytes
    file_bytes          above which tensors go to a file beside the model
    """

    model_bytes: int = 256 << 20
    alone_elements: int = 1 << 16
    file_bytes: int = LARGEST_FILE_BYTES


class CodedWeights:
    """Palettes as they come: large ones are coded and written to ``data``, others kept.

    ``embeddings`` are those that shall stay packed, where they can; None if none is asked for.
    """

    def __init__(self, data: DataFile, limits: Limits, embeddings: Sequence[Embedding] | None = None) -> None:
        self.data = data
        self.palettes: dict[str, Palette] = {}
        self.codes: dict[str, Code | RowCode] = {}
        self.snapped: dict[str, _Snapped] = {}
        self.limits = limits
        self.embeddings = embeddings

    def add(self, name: str, palette: Palette) -> None:
        embedding = next((one for one in self.embeddings or () if one.name == name), None)
        rows = None if embedding is None else row_code(embedding, palette)
        if rows is not None:
            self.codes[name] = replace(rows, words=self.data.add(rows.words))
            self.snapped[name] = _Snapped.of(palette)
            return
        code = None
        if math.prod(palette.shape) >= self.limits.alone_elements:
            code = _radix(palette)
        if code is None:
            self.palettes[name] = palette
        else:
            arrays = [self.data.add(array) if i in code.payload else array for i, array in enumerate(code.arrays)]
            self.codes[name] = replace(code, arrays=tuple(arrays))
            self.snapped[name] = _Snapped.of(palette)


def _radix(palette: Palette) -> Code | None:
    factors = None if palette.scales is None else palette.scales.broadcast(palette.shape)
    return radix_tensor(palette.indices, palette.codebook, factors=factors)


def ship_streamed(
    model: ir.Model,
    weights: CodedWeights,
    target: Path,
    *,
    dense_bytes: int,
    on_checked: Callable[[str, int], None],
) -> Shipped:
    """Put the coded weights into ``model``, verify, write to ``target``.

    Up to ``Limits.file_bytes`` everything is in that one file; else the tensors are in another beside it, whose name
    begins with the target's. ``on_checked`` is called with the name and the number of elements of every weight that was
    found to decode to its palette bit for bit. Raises VerificationError, and leaves what was there before as it is,
    unless all checks pass (see the module) and the output has fewer than ``dense_bytes``.
    """
    known = weights.codes.keys() | weights.palettes.keys()
    palettes = {**find_palettes(model, besides=known), **weights.palettes}
    packed, tensors = packed_model(model, palettes, weights.codes)
    snapped = weights.snapped | {
        tensor.name: _Snapped.of(palettes[tensor.name]) for tensor in tensors if tensor.name in palettes
    }
    proto = with_external_data(packed, weights.data)
    inline = inline_bytes(proto) <= weights.limits.file_bytes
    with draft(target) as file:
        offsets = _write(proto, weights.data, file, inline=inline)
        file_bytes = os.path.getsize(file.path) + (0 if inline else weights.data.bytes)
        refuse_no_gain(file_bytes, dense_bytes)
        check_loads(file.path)
        with (file if inline else weights.data).path.open("rb") as stream:
            for names in _together(tensors, weights.codes):
                _check_decoded(proto, names, stream, offsets, snapped, on_checked)
        rows = tuple(_rows(proto, tensors, snapped, file_bytes))
        _publish(proto, weights.data, file, inline=inline)
    notes = [*_notes(tensors, snapped)]
    if weights.embeddings is not None:
        notes += embedding_notes(weights.embeddings, [tensor.name for tensor in tensors if tensor.encoding == ROWS])
    return Shipped(target, dense_bytes, bytes_on_disk(target), rows, math.nan, tuple(notes))


def _write(proto: onnx.ModelProto, data: DataFile, file: Draft, *, inline: bool) -> Mapping[str, int]:
    """Write the model for now; returns where the bytes of its large tensors begin, in this file or in ``data``."""
    if not inline:
        file.write(proto.SerializeToString(deterministic=True))
        file.flush()
        return {tensor.name: offset_and_length(tensor)[0] for tensor in proto.graph.initializer if is_external(tensor)}
    with data.path.open("rb") as stream:
        offsets = write_inline(proto, stream, file)
    file.flush()
    return offsets


def _publish(proto: onnx.ModelProto, data: DataFile, file: Draft, *, inline: bool) -> None:
    """Replace the target. Its data file gets a name that the old target does not use: renaming the model decides."""
    target = file.target
    names = [path.name for path in data_files(target)]
    used = _names_in_use(target)
    if inline:
        file.publish()
    else:
        free = next((name for name in names if name not in used), names[0])
        moved_to(proto, free)
        with draft(target) as renamed:
            renamed.write(proto.SerializeToString(deterministic=True))
            data.publish(target.with_name(free))
            try:
                renamed.publish()
            except BaseException:
                target.with_name(free).unlink()
                raise
    for name in used.intersection(names):
        with suppress(OSError):
            target.with_name(name).unlink()


def data_files(target: Path) -> tuple[Path, Path]:
    """The files beside ``target`` that its tensors may be in, in turns; they are overwritten like the target itself."""
    return target.with_name(f"{target.name}.data"), target.with_name(f"{target.name}.2.data")


def _names_in_use(target: Path) -> set[str]:
    """Files beside the model at ``target`` that it keeps tensors in; none if it is no model."""
    try:
        return {path.name for path in external_files(target)}
    except Exception:  # whatever is there is to be replaced
        return set()


def _together(tensors: tuple[PackedTensor, ...], codes: Mapping[str, Code | RowCode]) -> Iterator[list[str]]:
    """Weights to decode at once: those coded alone one by one, then all others."""
    yield from ([tensor.name] for tensor in tensors if tensor.name in codes)
    if others := [tensor.name for tensor in tensors if tensor.name not in codes]:
        yield others


def _check_decoded(
    proto: onnx.ModelProto,
    names: list[str],
    stream: BinaryIO,
    offsets: Mapping[str, int],
    snapped: Mapping[str, _Snapped],
    on_checked: Callable[[str, int], None],
) -> None:
    def load(tensor: onnx.TensorProto) -> bytes:
        stream.seek(offsets[tensor.name])
        return stream.read(offset_and_length(tensor)[1])

    for name, values in decoded_apart(proto, names, load).items():
        if not snapped[name].is_of(values):
            raise VerificationError(f"{name} must decode to the snapped weights, got others: report this")
        on_checked(name, values.size)


def _rows(
    proto: onnx.ModelProto, tensors: tuple[PackedTensor, ...], snapped: Mapping[str, _Snapped], file_bytes: int
) -> Iterator[TensorRow]:
    """Rows of what was packed; dense tensors are not listed."""
    own = decoder_bytes(proto, {tensor.name: math.prod(tensor.shape) for tensor in tensors})
    for tensor in tensors:
        known = snapped[tensor.name]
        yield TensorRow(
            tensor.name,
            tensor.shape,
            tensor.encoding,
            known.distinct_values,
            known.zeros,
            known.entropy_bits,
            own[tensor.name],
            own[tensor.name] / file_bytes,
        )


def _notes(tensors: tuple[PackedTensor, ...], snapped: Mapping[str, _Snapped]) -> Iterator[str]:
    for tensor in tensors:
        decoded_bytes = math.prod(tensor.shape) * snapped[tensor.name].dtype.itemsize
        if decoded_bytes > FOLDED_BYTES and tensor.encoding != ROWS:
            yield (
                f"{tensor.name} takes {decoded_bytes:,} bytes decoded, more than the {FOLDED_BYTES:,} that ONNX "
                "Runtime 1.27 and newer decode at load: they will at every inference; split it by rows first"
            )
