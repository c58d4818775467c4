"""Snapped weights of an exported model, written back into a copy of the torch module.

The exporter keeps most parameters as they are, under their names. Others it transposes (linear layers on inputs of
three dimensions) or puts together in another order (the gates of recurrent layers); those are found by their values.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sws_compress.errors import VerificationError
from sws_compress.onnx_io.analyse.choices import first_choices
from sws_compress.ort.differences import difference
from sws_compress.ort.session import Array
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.metrics import metric_of
from sws_compress.pipelines.publish import OUTPUT_TOLERANCE
from sws_compress.pipelines.source import Source, answers_of, copied
from sws_compress.report.result import CompressionResult

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, eq=False)
class WrittenBack:
    """A copy of a module with its snapped weights.

    Parameters
    ----------
    network : nn.Module
        The copy.
    missing : tuple of str
        Snapped initialisers that are in no parameter of the copy.
    """

    network: nn.Module
    missing: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for every snapped weight that no tensor of the copy holds."""
        return tuple(
            f"{name} is computed in the module: it is snapped in the file, but not in the result's network"
            for name in self.missing
        )

    def added_to(self, result: CompressionResult, before: float | None, job: Job) -> CompressionResult:
        """The result with the copy, its notes, and the metric ``before`` and after.

        The metric after is None where the copy lacks snapped weights: it would be that of another network.
        """
        after = None if self.missing else metric_of(self.network, job)
        notes = (*result.notes, *self.notes)
        return replace(result, network=self.network, before=before, after=after, notes=notes)


def written_back(source: Source, module: nn.Module, snapped: Mapping[str, Array], outputs: list[Array]) -> WrittenBack:
    """Copy ``module`` and set its parameters to the snapped values.

    Parameters
    ----------
    source : Source
        The module as it was exported, with its float weights.
    module : nn.Module
        The module itself; it is not changed.
    snapped : mapping of str to ndarray
        Snapped values of initialisers, by name.
    outputs : list of ndarray
        What the snapped model answers to the example inputs.

    Raises
    ------
    VerificationError
        If all weights are written back, and the copy still answers something else.
    """
    network = copied(module)
    found = set()
    for holding in holdings(source, network, snapped):
        _write(holding.tensor, holding.of(snapped[holding.origin]))
        found.add(holding.origin)
    missing = tuple(name for name in snapped if name not in found)
    if not missing:
        _check_outputs(source, answers_of(network, source), outputs)
    return WrittenBack(network, missing)


@dataclass(frozen=True, eq=False)
class Holding:
    """A tensor of a module that holds values of an initialiser, perhaps others of it than its neighbours in memory.

    Parameters
    ----------
    origin : str
        Name of the initialiser.
    tensor : torch.Tensor
        The tensor.
    rows : ndarray, shape (rows,), or None
        Which rows of the initialiser, along its last axis, are those of the tensor; None for all in order.
    swapped : bool
        Whether the last two axes of the initialiser are swapped first.
    """

    origin: str
    tensor: torch.Tensor
    rows: npt.NDArray[np.intp] | None = None
    swapped: bool = False

    def of(self, values: Array) -> Array:
        """What of an array of the initialiser's shape lies in the tensor, in the shape of the tensor."""
        turned: Array = values.swapaxes(-1, -2) if self.swapped else values
        if self.rows is not None:
            turned = turned.reshape(-1, turned.shape[-1])[self.rows]
        return turned.reshape(tuple(self.tensor.shape))


def holdings(source: Source, network: nn.Module, names: Collection[str]) -> Iterator[Holding]:
    """Tensors of a module with the weights of ``source`` that hold values of initialisers.

    Parameters
    ----------
    source : Source
        The module as it was exported.
    network : nn.Module
        The module, or a copy of it.
    names : collection of str
        The initialisers.

    Yields
    ------
    Holding
        A tensor is looked at when it is asked for: what has been written by then is not found again.
    """
    initializers = source.model.graph.initializers
    values = {name: initializers[name].const_value for name in names}
    floats = {name: value.numpy() for name, value in values.items() if value is not None}
    for name, tensor in _tensors(network):
        held = tensor.detach().cpu().numpy()
        exported = initializers.get(name)
        if exported is None or not _same_bits(held, exported):
            found = _found(name, tensor, held, floats)
        else:
            found = Holding(name, tensor) if name in floats else None
        if found is not None:
            yield found


def held_as_they_are(source: Source, module: nn.Module) -> set[str]:
    """Initialisers that are a parameter or buffer of the module under their own name."""
    initializers = source.model.graph.initializers
    return {
        name
        for name, tensor in _tensors(module)
        if name in initializers and _same_bits(tensor.detach().cpu().numpy(), initializers[name])
    }


def _tensors(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers by their names before ``torch.compile``, tied ones once per name."""
    from sws_compress.train.select import plain_name

    for name, tensor in (*network.named_parameters(remove_duplicate=False), *network.named_buffers()):
        if tensor.is_floating_point():
            yield plain_name(name), tensor


def _same_bits(held: Array, exported: ir.Value) -> bool:
    tensor = exported.const_value
    return tensor is not None and tensor.nbytes == held.nbytes and tensor.numpy().tobytes() == held.tobytes()


def _found(name: str, tensor: torch.Tensor, held: Array, floats: Mapping[str, Array]) -> Holding | None:
    """The initialiser that holds the rows of a tensor, first the one of its own name.

    Vectors are not looked for: they are not snapped.
    """
    if held.ndim < 2:
        return None
    for origin in sorted(floats, key=lambda other: other != name):
        before = floats[origin]
        if before.dtype != held.dtype or before.size < held.size:
            continue
        for swapped in (False, True):
            if before.ndim < 2 and swapped:
                continue
            rows = _rows_of(held, before.swapaxes(-1, -2) if swapped else before)
            if rows is not None:
                return Holding(origin, tensor, rows, swapped)
    return None


def _rows_of(held: Array, before: Array) -> npt.NDArray[np.intp] | None:
    """The places where ``before`` holds the rows of ``held``; None if one of them is not there."""
    length = held.shape[-1]
    if not length or before.shape[-1] != length:
        return None
    places = {row.tobytes(): place for place, row in enumerate(np.ascontiguousarray(before).reshape(-1, length))}
    found = [places.get(row.tobytes()) for row in np.ascontiguousarray(held).reshape(-1, length)]
    return None if None in found else np.array(found, np.intp)


def _write(parameter: torch.Tensor, values: Array) -> None:
    import torch

    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)).view(parameter.shape))


def _check_outputs(source: Source, actual: list[Array], expected: list[Array]) -> None:
    """Compare what rounding cannot move by much: outputs that depend on no choice."""
    chosen = first_choices(source.model).dependent
    compared = zip(source.output_names, expected, actual, strict=True)
    found = (difference(name, left, right) for name, left, right in compared if name not in chosen)
    largest = max((each.largest_relative for each in found), default=0.0)
    if not largest <= OUTPUT_TOLERANCE:
        raise VerificationError(
            f"outputs must equal those of the module with the same weights within {OUTPUT_TOLERANCE:g} of the "
            f"largest, got {largest:.3g}: report this"
        )
