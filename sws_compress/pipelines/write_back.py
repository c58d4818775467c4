"""Snapped weights of an exported model, written back into a copy of the torch module.

The exporter keeps most parameters as they are, under their names. Others it transposes (linear layers on inputs of
three dimensions) or puts together in another order (the gates of recurrent layers); those are found by their values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
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
    initializers = source.model.graph.initializers
    floats = {name: tensor.numpy() for name in snapped if (tensor := initializers[name].const_value) is not None}
    found = set()
    for name, parameter in _tensors(network):
        held = parameter.detach().cpu().numpy()
        exported = initializers.get(name)
        if exported is not None and _same_bits(held, exported):
            origin, values = name, snapped.get(name)
        else:
            origin, values = _found(name, held, floats, snapped)
        if values is not None:
            _write(parameter, values)
            found.add(origin)
    missing = tuple(name for name in snapped if name not in found)
    if not missing:
        _check_outputs(source, answers_of(network, source), outputs)
    return WrittenBack(network, missing)


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


def _found(
    name: str, held: Array, floats: Mapping[str, Array], snapped: Mapping[str, Array]
) -> tuple[str, Array | None]:
    """Name of the initialiser that holds a parameter's rows, first the one of its own name, and their snapped values.

    Vectors are not looked for: they are not snapped.
    """
    if held.ndim >= 2:
        for origin in sorted(floats, key=lambda other: other != name):
            before, after = floats[origin], snapped[origin]
            if before.dtype != held.dtype or before.size < held.size:
                continue
            for swap in (False, True):
                if before.ndim < 2 and swap:
                    continue
                pair = (before.swapaxes(-1, -2), after.swapaxes(-1, -2)) if swap else (before, after)
                values = _rows_of(held, *pair)
                if values is not None:
                    return origin, values
    return "", None


def _rows_of(held: Array, before: Array, after: Array) -> Array | None:
    """``after`` in the places where ``before`` holds the rows of ``held``; None if one of them is not there."""
    length = held.shape[-1]
    if not length or before.shape[-1] != length:
        return None
    places = {row.tobytes(): place for place, row in enumerate(np.ascontiguousarray(before).reshape(-1, length))}
    found = [places.get(row.tobytes()) for row in np.ascontiguousarray(held).reshape(-1, length)]
    if None in found:
        return None
    rows: Array = after.reshape(-1, length)[np.array(found, np.intp)].reshape(held.shape)
    return rows


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
