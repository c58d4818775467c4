"""All weights of a model file as arrays, decoded where they are compressed, a few at a time."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sws_compress.onnx_io.element_types import FLOAT_TYPES
from sws_compress.onnx_io.external_data import StoredModel, forget
from sws_compress.onnx_io.format.decoders import Decoder, find_decoders
from sws_compress.onnx_io.format.mark import mark_of_proto
from sws_compress.onnx_io.format.scaled import Scaled, scaled_names
from sws_compress.onnx_io.read.on_disk import lifted
from sws_compress.ort.decode import NOTHING_DECODED, Decoding, decoded, decoded_shapes, measured_decoding
from sws_compress.ort.session import Array

TOGETHER_ELEMENTS = 1 << 24
"""Elements that are decoded together: every part of a file takes sessions of its own, and most models are small."""


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """A floating-point constant of a model file.

    Parameters
    ----------
    name : str
        Its name.
    values : ndarray
        Its elements; mapped from the file where they are external.
    unscaled, scales : ndarray or None
        The two factors of a decoded weight that is a product.
    """

    name: str
    values: Array
    unscaled: Array | None = None
    scales: Array | None = None

    @property
    def factors(self) -> tuple[Array, Array] | None:
        """Values and scales, if these are scales as decoders have them: float32, along one axis, finite, not 0."""
        if self.unscaled is None or self.scales is None:
            return None
        values, scales = self.unscaled, self.scales
        along = [size for size in scales.shape if size > 1]
        fits = scales.ndim == values.ndim and all(b in (1, a) for a, b in zip(values.shape, scales.shape, strict=True))
        single = values.dtype == np.float32 and scales.dtype == np.float32
        return (values, scales) if single and fits and len(along) <= 1 and _are_factors(scales) else None


def _are_factors(scales: Array) -> bool:
    return bool(np.isfinite(scales).all() and scales.all())


class StoredWeights:
    """The floating-point constants of a model, compressed or not, read or decoded a few at a time.

    Parameters
    ----------
    model : StoredModel
        The model.
    together_elements : int
        Weights that are decoded together, in elements (`decoded_parts`).
    """

    def __init__(self, model: StoredModel, *, together_elements: int = TOGETHER_ELEMENTS) -> None:
        mark = mark_of_proto(model.proto)
        self._model, self._together_elements = model, together_elements
        self._decoders = {} if mark is None else find_decoders(model.proto, mark)
        self._plain: dict[str, ir.Value] = {}
        self._dense: list[str] = []
        if mark is None:
            initializers = lifted(model).graph.initializers
            self._plain = {name: value for name, value in initializers.items() if _is_float(value)}
        else:
            self._dense = dense_names(model, self._decoders)

    @property
    def compressed(self) -> tuple[str, ...]:
        """Names of those that are decoded."""
        return tuple(self._decoders)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the file; what is decoded comes first."""
        return (*self._decoders, *self._dense, *self._plain)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name, without decoding anything; those that `decoded_shapes` leaves out are missing."""
        plain = {name: tuple(_tensor(value).shape.numpy()) for name, value in self._plain.items()}
        return plain or decoded_shapes(self._model, self.names)

    def get(self, name: str) -> StoredWeight | None:
        """One of them; None if there is none of that name."""
        return next(self.each((name,)), None)

    def each(self, names: Collection[str] | None = None) -> Iterator[StoredWeight]:
        """Those called ``names``, by default all; decoded ones come first, part by part.

        Whoever keeps none of them needs the memory of one part.
        """
        wanted = [name for name in self.names if names is None or name in names]
        asked = [name for name in wanted if name in self._decoders]
        for weights, _ in decoded_parts(self._model, self._decoders, asked, together_elements=self._together_elements):
            while weights:
                weight = weights.pop(0)
                if ir.DataType.from_numpy(weight.values.dtype) in FLOAT_TYPES:  # integers are packed, too
                    yield weight
                del weight  # not to be held while the next part is decoded
        stored = {tensor.name: tensor for tensor in self._model.proto.graph.initializer}
        for name in wanted[len(asked) :]:
            if name in self._plain:
                values = _tensor(self._plain[name]).numpy()
                forget(self._plain[name])  # the array alone keeps it mapped
                yield StoredWeight(name, values)
                del values
            else:
                yield StoredWeight(name, self._model.values(stored[name]))


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    assert value.const_value is not None  # it is an initialiser
    return value.const_value


def _is_float(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.dtype in FLOAT_TYPES


def dense_names(model: StoredModel, decoders: Mapping[str, Decoder]) -> list[str]:
    """The floating-point initialisers of a compressed model that no decoder reads."""
    inside = {name for part in decoders.values() for name in part.values}
    return [t.name for t in model.proto.graph.initializer if t.data_type in FLOAT_TYPES and t.name not in inside]


def decoded_parts(
    model: StoredModel,
    decoders: Mapping[str, Decoder],
    names: Sequence[str],
    *,
    together_elements: int = TOGETHER_ELEMENTS,
    measured: bool = False,
    trusted: bool = False,
) -> Iterator[tuple[list[StoredWeight], Decoding]]:
    """Weights of a compressed model, decoded part by part in ONNX Runtime.

    Parameters
    ----------
    model : StoredModel
        The model.
    decoders : mapping of str to Decoder
        Those of `find_decoders`.
    names : sequence of str
        Weights among them.
    together_elements : int
        Parts are decoded together up to so many elements. Weights that share nodes are always together.
    measured : bool
        Whether to measure the decoding.
    trusted : bool
        As in `decoded`.

    Yields
    ------
    weights : list of StoredWeight
        Weights that are decoded together.
    decoding : Decoding
        What that takes at load, if it is ``measured``.
    """
    makers = {node.output[0]: node for node in model.proto.graph.node if node.output}
    for part in _parts(model, decoders, names, together_elements):
        nodes = [makers[output] for name in part for output in decoders[name].nodes if output in makers]
        products: Mapping[str, Scaled] = scaled_names(nodes, part)
        asked = dict.fromkeys(part)
        asked |= dict.fromkeys(name for product in products.values() for name in (product.unscaled, product.factors))
        if measured:
            values, decoding = measured_decoding(model, asked)
        else:
            values, decoding = decoded(model, asked, trusted=trusted), NOTHING_DECODED
        weights = []
        for name in part:
            pair = (products[name].unscaled, products[name].factors) if name in products else ()
            weights.append(StoredWeight(name, values[name], *(values[factor] for factor in pair)))
        del values
        yield weights, decoding
        del weights  # not to be held while the next part is decoded


def _parts(
    model: StoredModel, decoders: Mapping[str, Decoder], names: Sequence[str], together_elements: int
) -> Iterator[list[str]]:
    """``names`` in lists that are decoded together, in order of the first of each group that shares nodes."""
    shapes = decoded_shapes(model, names)
    part: list[str] = []
    elements = 0
    for group in _sharing(decoders, names):
        own = sum(math.prod(shapes[name]) if name in shapes else together_elements + 1 for name in group)
        if part and elements + own > together_elements:
            yield part
            part, elements = [], 0
        part += group
        elements += own
    if part:
        yield part


def _sharing(decoders: Mapping[str, Decoder], names: Sequence[str]) -> list[list[str]]:
    """``names`` in groups whose decoders have no node in common with those of another group."""
    owner: dict[str, list[str]] = {}
    group_of: dict[str, list[str]] = {}
    for name in names:
        group = [name]
        group_of[name] = group
        for node in decoders[name].nodes:
            other = owner.setdefault(node, group)
            other = group_of[other[0]]
            if other is not group:
                small, group = sorted((group, other), key=len)
                group += small
                group_of.update(dict.fromkeys(small, group))
    rank = {name: number for number, name in enumerate(names)}
    found = {id(group): group for group in (group_of[name] for name in names)}
    return [sorted(group, key=rank.__getitem__) for group in found.values()]
