"""The file that a network would make while it is still being trained, and its size."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from sws_compress.file_options import FileOptions
from sws_compress.module_modes import evaluating
from sws_compress.onnx_io.analyse.left_dense import MANY_VALUES, Unchanged, dense_tensors, named
from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.packing.pack import PackedModel, find_palettes
from sws_compress.pipelines.moved_parameters import Filling, filling_of
from sws_compress.pipelines.publish import packed_as, reduced_as
from sws_compress.pipelines.source import Source, copied

if TYPE_CHECKING:
    from torch import nn

    from sws_compress.train.request import FineTuned
    from sws_compress.train.select import ParameterGroup


@dataclass(frozen=True)
class Least:
    """The smallest file of a network: with zeros in all weights that are trained.

    Parameters
    ----------
    file_bytes : int
        Its bytes.
    dense : tuple of Unchanged
        Its floating-point tensors that are not packed, the largest first.
    """

    file_bytes: int
    dense: tuple[Unchanged, ...]

    @property
    def parts(self) -> str:
        """What takes the bytes, to be read after their number."""
        dense_bytes = sum(each.stored_bytes for each in self.dense)
        if 2 * dense_bytes < self.file_bytes:
            return "for its graph and what is not trained"
        cure = "choose them with parameters=" if any(each.reason == MANY_VALUES for each in self.dense) else ""
        return f"{dense_bytes} of them for tensors left dense ({named(self.dense)})" + (f": {cure}" if cure else "")


class Template:
    """The graph of a module, exported once, that takes the weights of the module's copies.

    Parameters
    ----------
    source : Source
        The module as it was exported.
    options : FileOptions
        How files are packed.
    snapped : collection of str
        The parameters and buffers that hold few values in the copies.
    """

    def __init__(self, source: Source, options: FileOptions, snapped: Collection[str]) -> None:
        self._source, self._options, self._snapped = source, options, snapped

    @cached_property
    def _filling(self) -> Filling | None:
        """The graph as it takes weights; None where the exporter computes other weights from them."""
        return None if self._source.module is None else filling_of(self._source, self._snapped)

    def model_of(self, network: nn.Module) -> ir.Model:
        """The model with the weights of ``network``; exported anew where they are computed from parameters."""
        filled = None if self._filling is None else self._filling.of(network)
        return filled or from_torch(network, self._source.examples, snapped=self._snapped)

    def packed(self, network: nn.Module) -> tuple[PackedModel, ir.Model]:
        """The file that ``network`` makes as it is, and the model that is packed in it."""
        model = self.model_of(network)
        reduced_as(self._options, model)
        return packed_as(self._options, model, find_palettes(model)), model

    def least(self, network: nn.Module) -> Least:
        """The file that ``network`` makes, and what is dense in it."""
        packed, model = self.packed(network)
        held = {tensor.name for tensor in packed.tensors}
        names = [name for name in model.graph.initializers if name in held]
        return Least(len(packed.data), dense_tensors(model, names))


class Scale:
    """Weighs a network during training: the bytes of its file.

    Parameters
    ----------
    network : nn.Module
        The network that is trained. It is copied here, before the run: a module that keeps an activation cannot be
        copied after a step.
    template : Template
        Its graph.
    groups : iterable of ParameterGroup
        The parameters that are compressed.
    request : FineTuned
        What becomes of the others.
    seed : int
        Seed of their clustering.
    inputs : tuple
        Training inputs, as positional arguments. They tell how many values the others need.

    Attributes
    ----------
    least_bytes : int
        Bytes of the smallest file; 0 until `least` is called.
    """

    def __init__(
        self,
        network: nn.Module,
        template: Template,
        groups: Iterable[ParameterGroup],
        request: FineTuned,
        seed: int,
        inputs: tuple[Any, ...],
    ) -> None:
        from sws_compress.train.remaining_vectors import Seen

        self._network, self._template, self._seed = network, template, seed
        self._bias_components = request.bias_components
        self._copy = copied(network).eval()
        self._seen = Seen.by(self._copy, inputs)
        self._trained = frozenset(name for group in groups for name in group.names)
        self.least_bytes = 0

    def settle(self, module: nn.Module) -> None:
        """Fold batch norms and cluster the vectors that the loop leaves in float32, in place."""
        from sws_compress.train.norms import fold_batch_norm_statistics
        from sws_compress.train.remaining_vectors import cluster_vectors

        if self._bias_components is not None:
            fold_batch_norm_statistics(module)
            with evaluating(module):
                cluster_vectors(module, self._bias_components, besides=self._trained, seed=self._seed, seen=self._seen)

    def settled(self) -> nn.Module:
        """The network as its file would hold it; the next call changes it."""
        self._copy.load_state_dict(self._network.state_dict())
        self.settle(self._copy)
        return self._copy

    def file_bytes(self) -> int:
        """Bytes of the file that the present weights make, settled."""
        return len(self._template.packed(self.settled())[0].data)

    def least(self) -> Least:
        """The file with zeros in all weights that are trained: no file of this network is smaller."""
        import torch

        from sws_compress.train.select import plain_name

        with torch.no_grad():
            for name, parameter in self._copy.named_parameters():
                if plain_name(name) in self._trained:
                    parameter.zero_()
        self.settle(self._copy)
        found = self._template.least(self._copy)
        self.least_bytes = found.file_bytes
        return found
