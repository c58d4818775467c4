"""Graphs of modules that take the weights of the module's copies: every initialiser is traced to its parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common as passes

from sws_compress.errors import ModelError
from sws_compress.onnx_io.from_torch import from_torch, is_computed
from sws_compress.onnx_io.write.serialise import plain_bytes
from sws_compress.pipelines.source import Source, copied

if TYPE_CHECKING:
    import torch
    from torch import nn

Bits = npt.NDArray[np.uint32]

Origins = npt.NDArray[np.int32] | slice

_HASHED_BITS = 31
"""Bits of a mark that tell its number: the sign, 7 bits of the exponent, and the mantissa."""

_MULTIPLIER = 0x9E3779B1
"""An odd number, so that multiplication permutes the numbers below 2^31: 2^32 over the golden ratio."""

_INVERSE = pow(_MULTIPLIER, -1, 1 << _HASHED_BITS)

_MASK = (1 << _HASHED_BITS) - 1

_LEAST_EXPONENT = 64
"""Biased exponents of marks are so many at least, and below 192: from 2^-63 to 2^64."""

_CONSTANT = -1


@dataclass(frozen=True, eq=False)
class Filling:
    """A graph whose initialisers hold numbers of a module, moved: joined, split, transposed, or as they are.

    Parameters
    ----------
    model : ir.Model
        The graph. What it holds besides numbers of the module are constants.
    origins : dict of str to ndarray, int32, or slice
        Initialisers by name: for every element the number of the module's float32 that it is, or -1 for a constant.
        A slice stands for consecutive numbers.
    count : int
        Float32 of the module.
    others : bytes
        Parameters and buffers of other types, which the graph holds as constants.
    """

    model: ir.Model
    origins: Mapping[str, Origins]
    count: int
    others: bytes

    def of(self, network: nn.Module) -> ir.Model | None:
        """The graph with the numbers of a copy of the module; None if the copy differs in what the graph holds fixed.

        Equal tensors are joined, as the exporter does: settled norms are alike.
        """
        numbers = _numbers(network)
        if len(numbers) != self.count or _others(network) != self.others:
            return None
        model = self.model.clone()
        for name, origins in self.origins.items():
            value = model.graph.initializers[name]
            assert value.const_value is not None
            shape, bits = value.const_value.shape.numpy(), numbers[origins]
            if not isinstance(origins, slice) and (constant := origins == _CONSTANT).any():
                bits = np.where(constant, value.const_value.numpy().view(np.uint32), bits)
            value.const_value = ir.tensor(bits.view(np.float32).reshape(shape), name=name)
        passes.DeduplicateInitializersPass()(model)
        return model


def filling_of(source: Source, snapped: Collection[str]) -> Filling | None:
    """The graph of ``source.module``, to be filled with the weights of its copies.

    A copy of the module is exported whose numbers all differ, so that they tell where they went. It is trusted if
    filling it with the numbers of the module makes the file that exporting the module made. The graph of ``source``
    itself serves if every parameter is an initialiser of it.

    Parameters
    ----------
    source : Source
        The module as it was exported.
    snapped : collection of str
        As those of `from_torch`.

    Returns
    -------
    Filling or None
        None if the graph holds what was computed from parameters.
    """
    assert source.module is not None
    whole = _as_they_are(source)
    if whole is not None:
        return whole
    try:
        marked = copied(source.module)
        _write_marks(marked)
        model = from_torch(marked, source.examples, snapped=snapped)
    except ModelError:
        return None
    count = len(_numbers(marked))
    found = {name: _numbers_of(values, count) for name, values in _singles(model)}
    origins = {name: _compact(numbers) for name, numbers in found.items() if (numbers != _CONSTANT).any()}
    filling = Filling(model, origins, count, _others(marked))
    filled = filling.of(source.module)
    return filling if filled is not None and plain_bytes(filled) == plain_bytes(source.model) else None


def _as_they_are(source: Source) -> Filling | None:
    """The graph of ``source`` if every parameter and buffer is an initialiser of it, under its own name.

    Equal bytes are not enough: absolute values are equal as long as all weights are positive.
    """
    assert source.module is not None
    initializers = source.model.graph.initializers
    origins, first = dict[str, Origins](), 0
    for name, tensor in _float_tensors(source.module):
        value, held = initializers.get(name), tensor.detach().cpu().numpy()
        if value is None or value.const_value is None or is_computed(value):
            return None
        if value.const_value.numpy().tobytes() != held.tobytes():
            return None
        if held.dtype == np.float32:
            origins[name] = slice(first, first + held.size)
            first += held.size
    return Filling(source.model, origins, first, _others(source.module))


def _compact(numbers: npt.NDArray[np.int32]) -> Origins:
    """Numbers of an initialiser, as a slice if they are consecutive."""
    flat = numbers.reshape(-1)
    whole = flat[0] != _CONSTANT and (np.diff(flat) == 1).all()
    return slice(int(flat[0]), int(flat[-1]) + 1) if whole else numbers


def _float_tensors(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers by their plain names, without counters of batches."""
    from sws_compress.train.select import plain_name

    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point() or tensor.numel() > 1:
            yield plain_name(name), tensor


def _numbers(network: nn.Module) -> Bits:
    """All float32 of a module end to end."""
    arrays = [tensor.detach().cpu().numpy() for _, tensor in _float_tensors(network)]
    singles = [array.reshape(-1).view(np.uint32) for array in arrays if array.dtype == np.float32]
    return np.concatenate(singles) if singles else np.zeros(0, np.uint32)


def _others(network: nn.Module) -> bytes:
    """All else that a module holds."""
    import torch

    others = [tensor for _, tensor in _float_tensors(network) if tensor.dtype != torch.float32]
    return b"".join(tensor.detach().cpu().numpy().tobytes() for tensor in others)


def _write_marks(network: nn.Module) -> None:
    """Give every float32 of a module a value that no other has, in place."""
    import torch

    first = 0
    with torch.no_grad():
        for _, tensor in _float_tensors(network):
            if tensor.dtype == torch.float32:
                values = _marks(first, tensor.numel()).view(np.float32)
                tensor.copy_(torch.from_numpy(values).view(tensor.shape))
                first += tensor.numel()


def _marks(first: int, count: int) -> Bits:
    """Marks of consecutive numbers, shape (count,): distinct finite float32 of both signs and all magnitudes."""
    hashed = np.arange(first, first + count, dtype=np.uint64) * np.uint64(_MULTIPLIER) & np.uint64(_MASK)
    sign, rest = hashed >> np.uint64(30), hashed & np.uint64((1 << 30) - 1)
    return ((sign << np.uint64(31)) + rest + np.uint64(_LEAST_EXPONENT << 23)).astype(np.uint32)


def _numbers_of(values: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int32]:
    """Numbers of `_marks`, in the shape of ``values``; `_CONSTANT` for what is none of the first ``count``."""
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64)
    sign, rest = bits >> np.uint64(31), bits & np.uint64((1 << 31) - 1)
    rest = rest - np.uint64(_LEAST_EXPONENT << 23)  # smaller ones wrap round, far above
    hashed = (sign << np.uint64(30)) + rest
    numbers = hashed * np.uint64(_INVERSE) & np.uint64(_MASK)
    known = (rest < np.uint64(1 << 30)) & (numbers < np.uint64(count))
    return np.where(known, numbers.astype(np.int64), _CONSTANT).astype(np.int32)


def _singles(model: ir.Model) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """The float32 initialisers of a graph."""
    for name, value in model.graph.initializers.items():
        if value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT:
            yield name, value.const_value.numpy()
