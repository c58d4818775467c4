"""The last steps of every way: pack, check in ONNX Runtime, and only then replace the output file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import common as passes

from sws_compress.codec.load_cost import LoadCost
from sws_compress.errors import ArgumentError, VerificationError
from sws_compress.files import write_atomically
from sws_compress.onnx_io.from_torch import evaluating, from_torch
from sws_compress.onnx_io.write.idle_units import Pruning, prune_units
from sws_compress.onnx_io.write.serialise import plain_bytes
from sws_compress.ort.compare import OutputDifference, difference
from sws_compress.ort.decode import decoded_weights
from sws_compress.ort.session import check_runs, session
from sws_compress.packing.pack import PackedModel, find_palettes, pack
from sws_compress.pipelines.inspect import inspect_model
from sws_compress.quantize.palette import Palette
from sws_compress.report.inspection import TensorRow

if TYPE_CHECKING:
    from torch import nn


Array = npt.NDArray[Any]


AnyPath = str | os.PathLike[str]


OUTPUT_TOLERANCE = 1e-3
"""Largest relative difference between a runtime's and torch's outputs that rounding explains; weights must be equal."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How tensors are packed: ``load_limit``, what loading may cost (None: the default for their number of weights);
    ``weight_names``, whether the file keeps the names of weights, which no runtime needs; ``packed_rows``, whether
    embeddings stay packed while the model runs; ``prune_units``, whether snapped modules lose their idle units."""

    load_limit: LoadCost | None = None
    weight_names: bool = True
    packed_rows: bool = False
    prune_units: bool = True

    def pack(self, model: ir.Model, palettes: Mapping[str, Palette]) -> PackedModel:
        """As `sws_compress.packing.pack.pack`."""
        return pack(
            model,
            palettes,
            load_limit=self.load_limit,
            weight_names=self.weight_names,
            packed_rows=self.packed_rows,
        )

    def prune(self, model: ir.Model) -> Pruning:
        """Idle units are taken out of a module that was exported after its weights were snapped, in place."""
        return prune_units(model) if self.prune_units else Pruning({}, 0)


PACKING = Packing()


Embeddings = Literal["decoded", "packed"]


def packed_rows(embeddings: Embeddings) -> bool:
    """Whether embeddings stay packed; ArgumentError for another word."""
    if embeddings not in ("decoded", "packed"):
        raise ArgumentError(
            f"embeddings must be decoded or packed, got {embeddings!r}: packed takes less memory, and time at look-ups"
        )
    return embeddings == "packed"


@dataclass(frozen=True)
class Shipped:
    """The file that was written; fields as in ``report.result.CompressionResult``."""

    output: Path
    dense_bytes: int
    file_bytes: int
    tensors: tuple[TensorRow, ...]
    largest_difference: float
    notes: tuple[str, ...] = ()
    pruned_weights: int = 0


def ship(
    model: ir.Model,
    palettes: Mapping[str, Palette],
    target: Path,
    *,
    dense_bytes: int,
    check: Callable[[bytes], Sequence[OutputDifference]],
    packing: Packing = PACKING,
) -> Shipped:
    """Pack the initialisers of ``model`` that ``palettes`` names, verify, write to ``target``.

    ``check`` compares the outputs of the packed model with those of the snapped one. Raises VerificationError, and
    leaves ``target`` as it is, unless the ONNX checker and ONNX Runtime take the file, every weight decodes to its
    palette bit for bit, outputs agree within OUTPUT_TOLERANCE, and the file has fewer than ``dense_bytes``.
    """
    packed = packing.pack(model, palettes)
    check_runs(packed.data)
    names = {packed.renamed.get(name, name): name for name in model.graph.initializers}
    decoded = [packed.renamed.get(tensor.name, tensor.name) for tensor in packed.tensors]
    for name, values in decoded_weights(packed.data, decoded).items():
        wanted = palettes[names[name]].expand()
        if (values.dtype, values.shape) != (wanted.dtype, wanted.shape) or values.tobytes() != wanted.tobytes():
            raise VerificationError(f"{names[name]} must decode to the snapped weights, got others: report this")
    largest = max((difference.largest_relative for difference in check(packed.data)), default=0.0)
    if not largest <= OUTPUT_TOLERANCE:
        raise VerificationError(
            f"outputs must equal the snapped network's within {OUTPUT_TOLERANCE:g} of the largest, got {largest:.3g}: "
            "report this"
        )
    refuse_no_gain(len(packed.data), dense_bytes)
    rows = inspect_model(packed.data).rows
    tensors = tuple(replace(row, name=names.get(row.name, row.name)) for row in rows)
    write_atomically(target, packed.data)
    return Shipped(target, dense_bytes, os.path.getsize(target), tensors, largest, packed.notes)


def refuse_no_gain(file_bytes: int, dense_bytes: int) -> None:
    """VerificationError unless ``file_bytes`` are fewer than ``dense_bytes``."""
    if file_bytes >= dense_bytes:
        raise VerificationError(
            f"compressed file must be smaller than the original, got {file_bytes} bytes for {dense_bytes}: "
            "the model holds hardly any weights; ship it as it is"
        )


def ship_module(
    network: nn.Module,
    target: Path,
    examples: tuple[Any, ...],
    *,
    dense_bytes: int,
    packing: Packing = PACKING,
) -> Shipped:
    """Export a snapped module, pack whatever holds few distinct values, check against torch, write. As ``ship``."""
    model = from_torch(network, examples)
    names = [value.name for value in model.graph.inputs]
    feeds, expected = call_module(network, examples)

    def check(packed: bytes) -> list[OutputDifference]:
        runtime = session(packed)
        outputs = [output.name for output in runtime.get_outputs()]
        actual = runtime.run(outputs, dict(zip(names, feeds, strict=True)))
        return list(map(difference, outputs, expected, actual))

    pruning = packing.prune(model)
    shipped = ship(model, find_palettes(model), target, dense_bytes=dense_bytes, check=check, packing=packing)
    return replace(shipped, notes=(*pruning.notes, *shipped.notes), pruned_weights=pruning.weights)


def dense_onnx(model: nn.Module, examples: tuple[Any, ...]) -> bytes:
    """The module as a plain ONNX file, without the exporter's traces: what compressed sizes are compared with."""
    return plain_bytes(from_torch(model, examples))


class Template:
    """The graph of a module, exported once: the weights of the module's copies are put into it to measure their files.

    Raises ModelError when the module cannot be exported.
    """

    def __init__(self, model: nn.Module, examples: tuple[Any, ...], packing: Packing = PACKING) -> None:
        self._examples = examples
        self._packing = packing
        self._model = from_torch(model, examples)
        self.dense_bytes = len(plain_bytes(self._model))

    def packed_bytes(self, network: nn.Module) -> int:
        """Bytes of the file that the module as it is would make."""
        model = self._filled(network) or from_torch(network, self._examples)
        self._packing.prune(model)
        return len(self._packing.pack(model, find_palettes(model)).data)

    def _filled(self, network: nn.Module) -> ir.Model | None:
        """None where the exporter has put parameters together, or dropped one: equal ones are stored once."""
        from sws_compress.train.select import plain_name

        model = self._model.clone()
        initializers = model.graph.initializers
        for full_name, parameter in [*network.named_parameters(), *network.named_buffers()]:
            name = plain_name(full_name)
            value = initializers.get(name)
            if value is None or value.const_value is None or list(value.const_value.shape) != list(parameter.shape):
                if name not in initializers and parameter.numel() <= 1:
                    continue  # a counter of batches
                return None
            value.const_value = ir.tensor(parameter.detach().cpu().numpy(), name=name)
        passes.DeduplicateInitializersPass()(model)  # as the exporter does: settled norms are alike
        return model


def call_module(network: nn.Module, examples: tuple[Any, ...]) -> tuple[list[Array], list[Array]]:
    """Inputs and outputs of one call in evaluation mode, flattened to arrays in the order of the exported graph."""
    import torch
    from torch.utils import _pytree as pytree

    with evaluating(network), torch.no_grad():
        outputs = network(*examples)

    def arrays(tree: Any) -> list[Array]:
        return [leaf.detach().cpu().numpy() for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    return arrays(examples), arrays(outputs)
