"""Initialisers with equal bytes, stored once.

onnx-ir has passes for this, which do not fit models larger than memory: DeduplicateInitializersPass keeps a copy of
every tensor, DeduplicateHashedInitializersPass reads every tensor in full and leaves it mapped; both log a warning for
every initialiser that is an input or output. Here most tensors are told apart by a sample, and each is unmapped once it
was looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.onnx_io.external_data import forget

_SAMPLED_ELEMENTS = 1024
"""Elements that are compared before a tensor is read in full."""


def merge_equal(graph: ir.Graph) -> None:
    """Replace every initialiser by the first one with the same type, shape and bytes, in place.

    Inputs, outputs and strings stay.
    """
    kinds: dict[Any, list[ir.Value]] = {}
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype == ir.DataType.STRING or value.is_graph_input() or value.is_graph_output():
            continue
        kinds.setdefault((tensor.dtype, tuple(tensor.shape.numpy())), []).append(value)
    for digest in (_sample_digest, _full_digest):
        kinds = {key: values for key, values in kinds.items() if len(values) > 1}
        kinds = _parted(kinds, digest)
    for first, *others in kinds.values():
        for other in others:
            other.replace_all_uses_with(first)
            graph.initializers.pop(str(other.name))


def _parted(kinds: Mapping[Any, list[ir.Value]], digest: Callable[[ir.Value], bytes]) -> dict[Any, list[ir.Value]]:
    """The groups of ``kinds``, each parted by the digests of its values."""
    parts: dict[Any, list[ir.Value]] = {}
    for key, values in kinds.items():
        for value in values:
            parts.setdefault((key, digest(value)), []).append(value)
            forget(value)
    return parts


def _sample_digest(value: ir.Value) -> bytes:
    flat = _array(value).reshape(-1)
    return flat[:: max(1, flat.size // _SAMPLED_ELEMENTS)].tobytes()


def _full_digest(value: ir.Value) -> bytes:
    array = np.ascontiguousarray(_array(value))
    return hashlib.blake2b(array.reshape(-1).view(np.uint8).data).digest()


def _array(value: ir.Value) -> npt.NDArray[Any]:
    assert value.const_value is not None
    return value.const_value.numpy()
