"""All weights of a model file as arrays, decoded where they are compressed."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from sws_compress.onnx_io.element_types import FLOAT_TYPES
from sws_compress.onnx_io.external_data import refuse_external
from sws_compress.onnx_io.format.decoders import compressed_names, decoded_names, decoding_nodes
from sws_compress.onnx_io.format.look_ups import look_ups
from sws_compress.onnx_io.format.mark import mark_of_proto
from sws_compress.onnx_io.format.scaled import scaled_names
from sws_compress.onnx_io.map_types import model_from_proto
from sws_compress.onnx_io.read.lift import lift_constants
from sws_compress.onnx_io.traversal import ancestors
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.session import Array


def all_weights(data: bytes) -> dict[str, Array]:
    """Every floating-point constant of a model.

    Parameters
    ----------
    data : bytes
        A model file without external data, compressed or not.

    Returns
    -------
    dict of str to ndarray
        Weights by name, in the order of the file.
    """
    proto = onnx.load_from_string(data)
    refuse_external(proto)
    mark = mark_of_proto(proto)
    if mark is None:
        model = model_from_proto(proto)
        lift_constants(model)
        tensors = {name: value.const_value for name, value in model.graph.initializers.items()}
        return {name: t.numpy() for name, t in tensors.items() if t is not None and t.dtype in FLOAT_TYPES}
    decoding = decoding_nodes(proto, mark)
    _, inside = ancestors(decoding, set(decoded_names(proto, decoding)))
    inside.update(name for calls in look_ups(proto).values() for name in calls[0].input[1:])
    dense = [t.name for t in proto.graph.initializer if t.data_type in FLOAT_TYPES and t.name not in inside]
    decoded = decoded_weights(data, [*compressed_names(proto, mark), *dense])
    return {name: array for name, array in decoded.items() if ir.DataType.from_numpy(array.dtype) in FLOAT_TYPES}


def unscaled_weights(data: bytes) -> dict[str, tuple[Array, Array]]:
    """The factors of the weights that are products of values and scales.

    Parameters
    ----------
    data : bytes
        A model file without external data, compressed or not.

    Returns
    -------
    dict of str to (ndarray, ndarray)
        Values and scales, float32, by the name of the weight; they broadcast to its shape.
    """
    proto = onnx.load_from_string(data)
    mark = mark_of_proto(proto)
    if mark is None:
        return {}
    decoding = decoding_nodes(proto, mark)
    products = scaled_names(decoding, decoded_names(proto, decoding))
    asked = dict.fromkeys(name for product in products.values() for name in (product.unscaled, product.factors))
    values = decoded_weights(data, asked)
    pairs = {name: (values[product.unscaled], values[product.factors]) for name, product in products.items()}
    return {name: pair for name, pair in pairs.items() if _are_scales(*pair)}


def _are_scales(values: Array, factors: Array) -> bool:
    """Whether ``factors`` are scales as decoders have them: float32, along one axis of ``values``, finite, not 0."""
    along = [size for size in factors.shape if size > 1]
    fits = factors.ndim == values.ndim and all(b in (1, a) for a, b in zip(values.shape, factors.shape, strict=True))
    single = values.dtype == np.float32 and factors.dtype == np.float32
    return bool(single and fits and len(along) <= 1 and np.isfinite(factors).all() and factors.all())
