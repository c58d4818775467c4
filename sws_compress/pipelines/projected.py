"""The file that a network would make while it is still being trained, and its size."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING

import onnx_ir as ir
from onnx_ir.passes import common as passes

from sws_compress.onnx_io.from_torch import from_torch
from sws_compress.packing.pack import find_palettes
from sws_compress.pipelines.publish import packed_as, pruned_as
from sws_compress.pipelines.source import Source
from sws_compress.requests import FileOptions

if TYPE_CHECKING:
    from torch import nn

    from sws_compress.train.request import FineTuned
    from sws_compress.train.select import ParameterGroup


class Template:
    """The graph of a module, exported once, that takes the weights of the module's copies.

    Parameters
    ----------
    source : Source
        The module as it was exported.
    options : FileOptions
        How files are packed.
    """

    def __init__(self, source: Source, options: FileOptions) -> None:
        self._source, self._options = source, options

    def model_of(self, network: nn.Module) -> ir.Model:
        """The model with the weights of ``network``; exported anew where the exporter has put parameters together."""
        return self._filled(network) or from_torch(network, self._source.examples)

    def packed_bytes(self, network: nn.Module) -> int:
        """Bytes of the file that ``network`` makes as it is."""
        model = self.model_of(network)
        pruned_as(self._options, model)
        return len(packed_as(self._options, model, find_palettes(model)).data)

    def _filled(self, network: nn.Module) -> ir.Model | None:
        """The graph with the weights put in; None if one of them has no initialiser of its name and shape."""
        from sws_compress.train.select import plain_name

        model = self._source.model.clone()
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
    """

    def __init__(
        self, network: nn.Module, template: Template, groups: Iterable[ParameterGroup], request: FineTuned, seed: int
    ) -> None:
        self._network, self._template, self._seed = network, template, seed
        self._bias_components = request.bias_components
        self._copy = copy.deepcopy(network)
        self._chosen = frozenset(name for group in groups for name in group.names)

    def settle(self, module: nn.Module) -> None:
        """Fold batch norms and cluster the vectors that the loop leaves in float32, in place."""
        from sws_compress.train.norms import cluster_vectors, fold_batch_norm_statistics

        if self._bias_components is not None:
            fold_batch_norm_statistics(module)
            cluster_vectors(module, self._bias_components, besides=self._chosen, seed=self._seed)

    def file_bytes(self) -> int:
        """Bytes of the file that the present weights make, settled."""
        self._copy.load_state_dict(self._network.state_dict())
        return self._bytes_of_copy()

    def least_bytes(self) -> int:
        """Bytes of the file with zeros in all compressed weights: no file of this network is smaller."""
        import torch

        from sws_compress.train.select import plain_name

        with torch.no_grad():
            for name, parameter in self._copy.named_parameters():
                if plain_name(name) in self._chosen:
                    parameter.zero_()
        return self._bytes_of_copy()

    def _bytes_of_copy(self) -> int:
        self.settle(self._copy)
        return self._template.packed_bytes(self._copy)
