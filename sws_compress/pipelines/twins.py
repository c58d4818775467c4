"""The torch module that computes what a model does: the user's own, or one that is made of the graph."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from sws_compress.onnx_io.analyse.draws import draws
from sws_compress.onnx_io.analyse.movable_vectors import movable_vectors
from sws_compress.onnx_io.write.probed import score_names, showing
from sws_compress.onnx_io.write.serialise import to_bytes
from sws_compress.ort.activations import Feeds
from sws_compress.ort.compare import largest_relative, outputs_in_runtime
from sws_compress.ort.session import Array
from sws_compress.pipelines.publish import OUTPUT_TOLERANCE
from sws_compress.pipelines.source import Source

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sws_compress.train.output_distillation import Readout


class NoTwinError(Exception):
    """The reason why a model is not distilled."""


@dataclass(frozen=True, eq=False)
class Twin:
    """A float network in torch.

    Parameters
    ----------
    network : nn.Module
        It has every initialiser that may move.
    arguments : callable
        Inputs by name as the arguments of a call.
    readouts : sequence of Readout
        One for each tensor that it returns.
    """

    network: nn.Module
    arguments: Callable[[Feeds], tuple[Any, ...]]
    readouts: Sequence[Readout]


def twin_of(source: Source, weights: Collection[str], feeds: Feeds) -> Twin:
    """The module of a source, or its graph as one.

    Parameters
    ----------
    source : Source
        The model, in memory.
    weights : collection of str
        Initialisers that may move, besides biases and norms.
    feeds : mapping of str to ndarray
        Inputs on which a graph's twin is compared with ONNX Runtime.

    Raises
    ------
    NoTwinError
        If there is none with gradients of float32.
    """
    _check_torch()
    if draws(source.model):
        raise NoTwinError("the network draws random numbers")
    if source.module is None:
        return twin_of_graph(source.model, weights, feeds, score_names(source.model))
    if not all(_is_single(each) for each in source.module.parameters()):
        raise NoTwinError("parameters are not float32")
    return Twin(source.module, lambda given: arguments_of(source, given), readouts_of(source.model))


def _check_torch() -> None:
    """Raise NoTwinError where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise NoTwinError("torch is not installed: pip install 'sws-compress[torch]'")


def _is_single(parameter: torch.Tensor) -> bool:
    import torch

    return not parameter.is_floating_point() or parameter.dtype == torch.float32


def twin_of_graph(model: ir.Model, weights: Collection[str], feeds: Feeds, names: Sequence[str]) -> Twin:
    """A graph in torch, which returns some of its values.

    Parameters
    ----------
    model : ir.Model
        The graph, its initialisers in memory.
    weights : collection of str
        Initialisers that are parameters, besides those of `movable_vectors`.
    feeds : mapping of str to ndarray
        Inputs on which it is compared with ONNX Runtime.
    names : sequence of str
        The values.

    Raises
    ------
    NoTwinError
        If the graph is not covered, is not of float32, or computes something else in torch.
    """
    import torch

    from sws_compress.onnx_io.to_torch.graph_network import GraphNetwork
    from sws_compress.onnx_io.to_torch.node_attributes import UncoveredError
    from sws_compress.train.output_distillation import Readout

    learned = {*weights, *movable_vectors(model)}
    inputs = [str(value.name) for value in model.graph.inputs]

    def arguments(given: Feeds) -> tuple[Any, ...]:
        return tuple(torch.from_numpy(np.array(given[name])) for name in inputs)

    try:
        network = GraphNetwork(model, learned, names).eval()
        with torch.no_grad():
            found = [each.numpy() for each in network(*arguments(feeds))]
    except UncoveredError as error:
        raise NoTwinError(f"it does not cover {error}") from error
    if not all(_is_single(each) for each in network.parameters()):
        raise NoTwinError("weights are not float32")
    _refuse_other(model, names, feeds, found)
    return Twin(network, arguments, [Readout()] * len(names))


def _refuse_other(model: ir.Model, names: Sequence[str], feeds: Feeds, found: Sequence[Array]) -> None:
    """Raise NoTwinError if torch computes something else than ONNX Runtime, beyond rounding."""
    expected = outputs_in_runtime(to_bytes(showing(model, names)), feeds)
    same = all(one.shape == other.shape for one, other in zip(found, expected, strict=True))
    largest = largest_relative(names, expected, found) if same else math.inf
    if not largest <= OUTPUT_TOLERANCE:
        raise NoTwinError(f"torch computes something else than ONNX Runtime, by {largest:.2g} of the largest value")


def arguments_of(source: Source, feeds: Feeds) -> tuple[Any, ...]:
    """The arguments of a call of the module with these inputs in place of the example's."""
    import torch
    from torch.utils import _pytree as pytree

    leaves, structure = pytree.tree_flatten(source.examples)
    values: Iterator[Array] = (feeds[str(value.name)] for value in source.model.graph.inputs)
    given = [
        torch.from_numpy(np.array(next(values))).to(leaf.device) if isinstance(leaf, torch.Tensor) else leaf
        for leaf in leaves
    ]
    arguments: tuple[Any, ...] = pytree.tree_unflatten(given, structure)
    return arguments


def readouts_of(model: ir.Model) -> list[Readout]:
    """What comes last before each output."""
    from sws_compress.train.output_distillation import Readout

    nodes = [output.producer() for output in model.graph.outputs]
    return [
        Readout()
        if node is None or node.domain
        else Readout(node.op_type, node.attributes.get_int("axis", -1))
        for node in nodes
    ]  # fmt: skip
